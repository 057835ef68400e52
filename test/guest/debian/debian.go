// SPDX-License-Identifier: Apache-2.0

// Package debian builds the full guest: Debian 12 with systemd, cloud-init, an
// SSH server and the QEMU guest agent, on a disk that boots by BIOS and by UEFI.
// Its user is "debian", as on Debian's own cloud images; it gets its key from
// cloud-init data (NoCloud or ConfigDrive). It is trimmed for a fast start under
// emulation and otherwise left as Debian makes it.
package debian

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/images/stamp"
	"github.com/skerry-dev/skerry/internal/ocilayout"
	"github.com/skerry-dev/skerry/test/guest/disk"
	"github.com/skerry-dev/skerry/test/guest/toolchain"
)

//go:embed debian.go script.sh files
var recipe embed.FS

// Image is the image's name without its tag; the disk is /disk/debian.qcow2.
const Image = "skerry.dev/test/debian"

// Options says where things go.
type Options struct {
	Cache string // what is made from packages
	Tag   string // of the image
	Out   string // directory of the image archive
	Raw   string // directory of the bare disk
}

// rootMiB is the size of the root file system as shipped; the guest grows it to
// the disk's.
const rootMiB = 1536

// Build makes the disk and its image, unless they are there already.
func Build(ctx context.Context, o Options) error {
	spec, err := spec()
	if err != nil {
		return err
	}
	chain, err := toolchain.Open(ctx, o.Cache)
	if err != nil {
		return err
	}
	root, err := debroot.Make(ctx, o.Cache, spec)
	if err != nil {
		return err
	}
	packages, err := json.Marshal(root.Packages)
	if err != nil {
		return err
	}
	key := stamp.NewKey("debian").Text(o.Tag, string(packages))
	for _, r := range []embed.FS{recipe, disk.Recipe} {
		if err := key.FS(r); err != nil {
			return err
		}
	}
	archive := filepath.Join(o.Out, "debian.tar")
	if stamp.Fresh(key, archive) {
		return nil
	}
	for _, dir := range []string{o.Out, o.Raw} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	tmp, err := os.MkdirTemp(o.Raw, ".debian-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	raw, qcow2 := filepath.Join(tmp, "debian.raw"), filepath.Join(o.Raw, "debian.qcow2")
	if err := disk.Write(ctx, chain, disk.Spec{
		Root: root.Dir, RootMiB: rootMiB, UUID: "5ce44e00-0000-4000-8000-000000000200", Label: "root",
	}, raw); err != nil {
		return err
	}
	if err := chain.Run(ctx, nil, nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "4", "-W", raw, qcow2); err != nil {
		return err
	}
	layer, err := ocilayout.NewLayer(filepath.Join(tmp, "layer"), "guest",
		[]ocilayout.File{{Path: "disk/debian.qcow2", Source: qcow2}}, ocilayout.Uncompressed)
	if err != nil {
		return err
	}
	img, err := ocilayout.New(ocilayout.Config{}, layer)
	if err != nil {
		return err
	}
	if err := ocilayout.Save(archive, Image+":"+o.Tag, img); err != nil {
		return err
	}
	return stamp.Done(key, archive)
}

func spec() (debroot.Spec, error) {
	s := debroot.Spec{
		Name:    "debian",
		Suite:   "bookworm",
		Install: true,
		Include: []string{
			"linux-image-cloud-amd64", "initramfs-tools", "lz4", "kmod",
			"systemd-sysv", "systemd-resolved", "libnss-resolve", "dbus", "udev", "libpam-systemd",
			"cloud-init", "cloud-guest-utils", "fdisk", "e2fsprogs",
			"openssh-server", "qemu-guest-agent",
			"sudo", "curl", "ca-certificates", "iproute2", "iputils-ping", "procps", "less",
		},
		DpkgOpts: []string{
			"path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*",
			"path-exclude=/usr/share/locale/*", "path-include=/usr/share/locale/locale.alias",
		},
		Files: map[string]string{},
	}
	script, err := recipe.ReadFile("script.sh")
	if err != nil {
		return s, err
	}
	s.Script = string(script)
	err = fs.WalkDir(recipe, "files", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipe.ReadFile(p)
		if err != nil {
			return err
		}
		s.Files[strings.TrimPrefix(p, "files/")] = string(b)
		return nil
	})
	return s, err
}
