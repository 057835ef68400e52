// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/distro/containerd"
)

func newImage(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Container and machine images on this box"}
	cmd.AddCommand(&cobra.Command{
		Use:   "import FILE...",
		Short: "Bring images in from OCI archives, for a box without a registry",
		Long: `Bring images in from OCI image layouts in tar files (one image each, as "skopeo copy
… oci-archive:FILE" writes them). Images that are there already are left alone. What
is imported is never collected as garbage, since it could not be pulled again.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			cfg, err := cluster.Load(o.config())
			if err != nil {
				return err
			}
			var archives []containerd.Archive
			for _, f := range files {
				a, err := containerd.ReadArchive(f)
				if err != nil {
					return err
				}
				archives = append(archives, a)
			}
			ctrd := containerd.Config{BinDir: cfg.BinDir, Socket: cfg.ContainerdSocket()}
			for _, a := range archives {
				got, err := containerd.Import(cmd.Context(), ctrd, []containerd.Archive{a})
				if err != nil {
					return err
				}
				what := "is there already"
				if slices.Contains(got, a.Name) {
					what = "imported"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", a.Name, what)
			}
			return nil
		},
	})
	cmd.AddCommand(registryVerbs(o)...)
	return cmd
}
