// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cheggaaa/pb/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/internal/image"
)

// registryVerbs are those of "skerry image" that speak to a registry: the
// cluster's own where an image's name has no host.
func registryVerbs(o *options) []*cobra.Command {
	var insecure []string
	var caFile string
	reach := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().StringSliceVar(&insecure, "insecure", nil, "registries that may have any certificate, or none")
		cmd.Flags().StringVar(&caFile, "ca-file", "", "certificates (PEM) to trust besides the system's and the cluster's")
		return cmd
	}
	connect := func(ref string) (string, image.Options, error) { return o.registry(ref, insecure, caFile) }

	push := &cobra.Command{
		Use:   "push DISK REPO:TAG",
		Short: "Push a disk (qcow2 or raw) as a container disk",
		Long: `Make a container disk of a qcow2 or raw disk, compress it with zstd and push it. The
image can be the containerDisk of a machine. Without a registry's host in front,
REPO is in the cluster's own registry (skerry up --registry).`,
		Example: "  skerry image push fedora.qcow2 fedora:42",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, opts, err := connect(args[1])
			if err != nil {
				return err
			}
			bar := newBar(cmd.ErrOrStderr())
			opts.Progress = bar.tell
			p, err := image.Push(cmd.Context(), args[0], ref, opts)
			bar.end()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s, a disk of %s in %s\n", p.Ref, p.Digest, size(p.VirtualSize), size(p.Bytes))
			return nil
		},
	}
	var disk string
	pull := &cobra.Command{
		Use:   "pull IMAGE FILE",
		Short: "Write an image's disk to a file or block device, as raw bytes",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ref, opts, err := connect(args[0])
			if err != nil {
				return err
			}
			f, err := os.OpenFile(args[1], os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			made := err == nil
			if errors.Is(err, fs.ErrExist) {
				if st, serr := os.Stat(args[1]); serr != nil || st.Mode()&os.ModeDevice == 0 {
					return fmt.Errorf("%s is there already: name another file, or remove it", args[1])
				}
				f, err = os.OpenFile(args[1], os.O_RDWR, 0)
			}
			if err != nil {
				return err
			}
			defer func() {
				err = errors.Join(err, f.Close())
				if err != nil && made {
					os.Remove(args[1]) // half a disk is of no use
				}
			}()
			bar := newBar(cmd.ErrOrStderr())
			opts.Path, opts.Progress = disk, bar.tell
			info, err := image.Import(cmd.Context(), ref, opts, f, 64<<40)
			bar.end()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: a disk of %s, %s fetched, %s written\n", info.Digest, size(info.VirtualSize), size(info.BytesFetched), size(info.BytesWritten))
			return nil
		},
	}
	pull.Flags().StringVar(&disk, "disk", "", "the disk's file, in an image that has several")
	ls := &cobra.Command{
		Use:   "ls [REGISTRY]",
		Short: "List the images of a registry (default: the cluster's own)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, opts, err := connect("x")
			if len(args) == 1 {
				host, opts, err = connect(args[0] + "/x")
			}
			if err != nil {
				return err
			}
			host, _, _ = strings.Cut(host, "/")
			list, err := image.List(cmd.Context(), host, opts)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tSIZE\tDIGEST")
			for _, l := range list {
				fmt.Fprintf(w, "%s:%s\t%s\t%s\n", l.Repository, l.Tag, size(l.Size), l.Digest)
			}
			return w.Flush()
		},
	}
	rm := &cobra.Command{
		Use:   "rm IMAGE...",
		Short: "Remove images, with all their tags, from their registry",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				ref, opts, err := connect(a)
				if err != nil {
					return err
				}
				digest, err := image.Remove(cmd.Context(), ref, opts)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s removed (%s)\n", ref, digest)
			}
			return nil
		},
	}
	inspect := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Show what a registry says of an image",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, opts, err := connect(args[0])
			if err != nil {
				return err
			}
			d, err := image.Inspect(cmd.Context(), ref, opts)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "Image\t%s\nDigest\t%s\n", d.Ref, d.Digest)
			if d.Created.Unix() > 0 {
				fmt.Fprintf(w, "Created\t%s\n", d.Created.UTC().Format(time.RFC3339))
			}
			for _, l := range d.Layers {
				fmt.Fprintf(w, "Layer\t%s  %s  %s\n", l.Digest, size(l.Size), l.MediaType)
			}
			for k, v := range d.Labels {
				fmt.Fprintf(w, "Label\t%s=%s\n", k, v)
			}
			return w.Flush()
		},
	}
	var out []*cobra.Command
	for _, c := range []*cobra.Command{push, pull, ls, rm, inspect} {
		out = append(out, reach(c))
	}
	return out
}

// registry completes an image's name and says how its registry is reached: the
// cluster's by the cluster's login, others by ~/.docker/config.json.
func (o *options) registry(ref string, insecure []string, caFile string) (string, image.Options, error) {
	opts := image.Options{Insecure: insecure}
	cfg, err := cluster.Load(o.config())
	if err != nil {
		return "", opts, err
	}
	content, own := cfg.RegistryContent()
	if !hasHost(ref) {
		if own != nil {
			return "", opts, own
		}
		ref = cfg.RegistryHosts()[0] + "/" + ref
	}
	if own == nil {
		if err := opts.Keychain.AddDockerConfig(content); err != nil {
			return "", opts, err
		}
		if opts.CABundle, err = os.ReadFile(cfg.CAFile()); err != nil {
			return "", opts, err
		}
	}
	if caFile != "" {
		more, err := os.ReadFile(caFile)
		if err != nil {
			return "", opts, err
		}
		opts.CABundle = append(append(opts.CABundle, '\n'), more...)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ref, opts, nil
	}
	file := filepath.Join(home, ".docker", "config.json")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return ref, opts, nil
	}
	if err == nil {
		err = opts.Keychain.AddDockerConfig(b)
	}
	if err != nil {
		return "", opts, fmt.Errorf("%s: %w", file, err)
	}
	return ref, opts, nil
}

// hasHost tells whether an image's name begins with a registry, by Docker's rule.
func hasHost(ref string) bool {
	first, _, ok := strings.Cut(strings.TrimPrefix(ref, "docker://"), "/")
	return ok && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// bar shows a transfer with rate and time left, on a terminal only.
type bar struct{ b *pb.ProgressBar }

func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	b := pb.New64(0).Set(pb.Bytes, true).SetWriter(w).
		SetTemplateString(`{{counters . }} {{bar . }} {{percent . }} {{speed . }} {{rtime . "%s left"}}`)
	return &bar{b.Start()}
}

func (b *bar) tell(p image.Progress) {
	if b.b != nil {
		b.b.SetTotal(p.Total).SetCurrent(p.Done)
	}
}

func (b *bar) end() {
	if b.b != nil {
		b.b.Finish()
	}
}

// size is a number of bytes for a person.
func size(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.n {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.n), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
