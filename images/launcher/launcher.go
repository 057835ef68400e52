// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/images/stamp"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

//go:embed launcher.go parts.go closure.go check.go
var recipe embed.FS

// Image is the image's name without its tag.
const Image = "skerry.dev/launcher"

const (
	libraryDir = "usr/lib/x86_64-linux-gnu"
	loader     = "ld-linux-x86-64.so.2"
)

// Options says what to build.
type Options struct {
	Cache   string    // directory for what is made from packages
	Suite   QEMUSuite // empty means Backports
	Binary  string    // the skerry-launcher binary, static
	Version string    // tag of the image
	Out     string    // archive to write
}

// Build writes the image archive, unless it is there already.
func Build(ctx context.Context, o Options) error {
	if o.Suite == "" {
		o.Suite = Backports
	}
	if o.Suite != Backports && o.Suite != Stable {
		return fmt.Errorf("%s=%q: it can be %q or %q", SuiteEnv, o.Suite, Backports, Stable)
	}
	if err := checkStatic(o.Binary); err != nil {
		return err
	}
	root, err := debroot.Make(ctx, o.Cache, spec(o.Suite))
	if err != nil {
		return err
	}
	packages, err := json.Marshal(root.Packages)
	if err != nil {
		return err
	}
	key := stamp.NewKey("launcher").Text(o.Version, string(packages))
	if err := key.FS(recipe); err != nil {
		return err
	}
	if err := key.File(o.Binary); err != nil {
		return err
	}
	if stamp.Fresh(key, o.Out) {
		return nil
	}
	if err := assemble(o, root); err != nil {
		return err
	}
	return stamp.Done(key, o.Out)
}

// assemble cuts the layers and writes the archive.
func assemble(o Options, root *debroot.Root) error {
	if err := os.MkdirAll(filepath.Dir(o.Out), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "launcher-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	cuts, err := cut(root, parts)
	if err != nil {
		return err
	}
	cuts[0] = append(cuts[0], accounts()...)
	info, err := imageInfo(root, cuts)
	if err != nil {
		return err
	}
	cuts[0] = append(cuts[0], info)
	cuts = append(cuts, []ocilayout.File{{Path: strings.TrimPrefix(contract.Launcher, "/"), Source: o.Binary, Mode: 0o755}})
	names := []string{}
	for _, p := range parts {
		names = append(names, p.name)
	}
	names = append(names, "launcher")

	var layers []*ocilayout.Layer
	for i, files := range cuts {
		if err := check(files); err != nil {
			return fmt.Errorf("layer %s: %w", names[i], err)
		}
		l, err := ocilayout.NewLayer(filepath.Join(tmp, names[i]), names[i], files, ocilayout.Uncompressed)
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	if n := layers[0].Unpacked; n > maxBase {
		return fmt.Errorf("the base layer's files have %d bytes, the limit is %d", n, maxBase)
	}
	img, err := ocilayout.New(ocilayout.Config{
		Entrypoint: []string{contract.Launcher},
		Cmd:        []string{"run"},
		User:       "107:107",
		// QEMU ignores it: a stop without the preStop hook is not a power cut.
		StopSignal: "SIGWINCH",
	}, layers...)
	if err != nil {
		return err
	}
	return ocilayout.Save(o.Out, Image+":"+o.Version, img)
}

// cut lists the files of each part. A library goes into the lowest part that
// needs it.
func cut(root *debroot.Root, parts []part) ([][]ocilayout.File, error) {
	var cuts [][]ocilayout.File
	have := map[string]bool{}
	for i, p := range parts {
		var files []ocilayout.File
		add := func(name string, mode os.FileMode) error {
			if have[name] {
				return nil
			}
			have[name] = true
			source, err := realFile(root.Dir, name)
			if err != nil {
				return err
			}
			files = append(files, ocilayout.File{Path: name, Source: source, Mode: mode})
			return nil
		}
		code := append(append([]string(nil), p.programs...), p.modules...)
		libs, err := closure(root.Dir, code)
		if err != nil {
			return nil, fmt.Errorf("part %s: %w", p.name, err)
		}
		for _, name := range p.programs {
			if err := add(name, 0o755); err != nil {
				return nil, fmt.Errorf("part %s: %w", p.name, err)
			}
		}
		for _, name := range append(p.modules, p.data...) {
			if err := add(name, 0o644); err != nil {
				return nil, fmt.Errorf("part %s: %w", p.name, err)
			}
		}
		for name := range libs {
			if path.Base(name) == loader {
				continue
			}
			if err := add(name, 0o644); err != nil {
				return nil, fmt.Errorf("part %s: %w", p.name, err)
			}
		}
		if i == 0 {
			// The loader is a program of its own: a renewed QEMU starts through it.
			if err := add(path.Join(libraryDir, loader), 0o755); err != nil {
				return nil, fmt.Errorf("part %s: %w", p.name, err)
			}
			files = append(files,
				ocilayout.File{Path: "lib64", Link: "usr/lib64"},
				ocilayout.File{Path: "lib", Link: "usr/lib"},
				ocilayout.File{Path: "usr/lib64/" + loader, Link: "../lib/x86_64-linux-gnu/" + loader},
			)
		}
		cuts = append(cuts, files)
	}
	return cuts, nil
}

// accounts are the few files that give uid 107 a name.
func accounts() []ocilayout.File {
	return []ocilayout.File{
		{Path: "etc/passwd", Content: []byte("root:x:0:0:root:/:/nonexistent\nqemu:x:107:107:QEMU:/:/nonexistent\n")},
		{Path: "etc/group", Content: []byte("root:x:0:\nqemu:x:107:\n")},
		{Path: "tmp", Dir: true, Mode: 0o777 | os.ModeSticky},
		{Path: "proc", Dir: true}, {Path: "sys", Dir: true}, {Path: "dev", Dir: true},
	}
}

// imageInfo is what the image says about itself: QEMU's version and the packages
// that its files came from.
func imageInfo(root *debroot.Root, cuts [][]ocilayout.File) (ocilayout.File, error) {
	owners, err := root.Owners()
	if err != nil {
		return ocilayout.File{}, err
	}
	info := contract.ImageInfo{Packages: map[string]string{}}
	for _, files := range cuts {
		for _, f := range files {
			if f.Source == "" {
				continue
			}
			rel, err := filepath.Rel(root.Dir, f.Source)
			if err != nil {
				return ocilayout.File{}, err
			}
			name, ok := owners[rel]
			if !ok {
				return ocilayout.File{}, fmt.Errorf("%s belongs to no package", rel)
			}
			info.Packages[name] = root.Packages[name]
		}
	}
	if info.QEMUVersion, err = upstream(info.Packages["qemu-system-x86"]); err != nil {
		return ocilayout.File{}, err
	}
	b, err := json.MarshalIndent(info, "", "\t")
	if err != nil {
		return ocilayout.File{}, err
	}
	return ocilayout.File{Path: strings.TrimPrefix(contract.ImageInfoFile, "/"), Content: append(b, '\n')}, nil
}

// upstream takes upstream's version out of a Debian one, such as 11.1.3 out of
// "1:11.1.3+ds-1~bpo13+1".
func upstream(version string) (string, error) {
	_, v, hasEpoch := strings.Cut(version, ":")
	if !hasEpoch {
		v = version
	}
	if i := strings.IndexAny(v, "+-~"); i >= 0 {
		v = v[:i]
	}
	if v == "" || strings.Trim(v, "0123456789.") != "" {
		return "", fmt.Errorf("no upstream version in the package version %q", version)
	}
	return v, nil
}
