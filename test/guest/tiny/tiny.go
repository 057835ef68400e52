// SPDX-License-Identifier: Apache-2.0

// Package tiny builds the smallest guest: Debian's kernel and a busybox in an
// initramfs. It boots in about two seconds under emulation and needs 128 MiB. It
// speaks on its serial console: lines that start with SKERRY-GUEST say how far
// the start has come, SKERRY-HB is the heartbeat, and there is a root shell. The
// command witness in it is for tests that want to know how the guest fared: see
// package test/witness.
//
// Kernel arguments: skerry.heartbeat=DEVICE|PORT|off, where DEVICE is one in /dev
// (ttyS0 by default) and PORT a virtio-serial port's name, and
// skerry.powerbutton=ignore. The kernel also needs no_timer_check: at its start it
// counts timer ticks in a busy loop and panics when an emulated machine on a busy
// host got too few ("IO-APIC + timer doesn't work!").
package tiny

import (
	"bytes"
	"context"
	"embed"
	"os"
	"path/filepath"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/images/stamp"
	"github.com/skerry-dev/skerry/internal/ocilayout"
	"github.com/skerry-dev/skerry/test/guest/disk"
	"github.com/skerry-dev/skerry/test/guest/kernel"
	"github.com/skerry-dev/skerry/test/guest/toolchain"
	"github.com/skerry-dev/skerry/test/guest/tools"
)

//go:embed *.go src files
var recipe embed.FS

// The images' names without their tags.
const (
	KernelImage = "skerry.dev/test/tiny-kernel" // /boot/{vmlinux,vmlinuz,initrd}
	DiskImage   = "skerry.dev/test/tiny"        // /disk/tiny.raw
)

// Options says where things go.
type Options struct {
	Cache string // what is made from packages
	Tag   string // of the images
	Out   string // directory of the image archives
	Raw   string // directory of the bare files
}

// Build makes vmlinux, vmlinuz, initrd and the images made of them, unless they
// are there already.
func Build(ctx context.Context, o Options) error {
	chain, err := toolchain.Open(ctx, o.Cache)
	if err != nil {
		return err
	}
	k, err := kernel.Open(ctx, o.Cache)
	if err != nil {
		return err
	}
	busybox, err := debroot.Make(ctx, o.Cache, tools.Busybox)
	if err != nil {
		return err
	}
	key := stamp.NewKey("tiny").Text(o.Tag, k.Release, busybox.Packages["busybox-static"])
	for _, r := range []embed.FS{recipe, disk.Recipe, kernel.Recipe} {
		if err := key.FS(r); err != nil {
			return err
		}
	}
	archive, diskArchive := filepath.Join(o.Out, "tiny-kernel.tar"), filepath.Join(o.Out, "tiny.tar")
	if stamp.Fresh(key, archive) && stamp.Fresh(key, diskArchive) {
		return nil
	}
	for _, dir := range []string{o.Out, o.Raw} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	tmp, err := os.MkdirTemp("", "tiny-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	var vmlinux, rd bytes.Buffer
	if err := k.Vmlinux(ctx, chain, &vmlinux); err != nil {
		return err
	}
	if err := initrd(&rd, tmp, k, busybox); err != nil {
		return err
	}
	bzImage, err := os.ReadFile(k.BzImage)
	if err != nil {
		return err
	}
	var files []ocilayout.File
	for name, content := range map[string][]byte{"vmlinux": vmlinux.Bytes(), "vmlinuz": bzImage, "initrd": rd.Bytes()} {
		p := filepath.Join(o.Raw, "tiny-"+name)
		if err := os.WriteFile(p, content, 0o644); err != nil {
			return err
		}
		files = append(files, ocilayout.File{Path: "boot/" + name, Source: p})
	}
	if err := save(tmp, archive, KernelImage+":"+o.Tag, files); err != nil {
		return err
	}
	raw := filepath.Join(o.Raw, "tiny.raw")
	if err := writeDisk(ctx, chain, tmp, files, raw); err != nil {
		return err
	}
	if err := save(tmp, diskArchive, DiskImage+":"+o.Tag, []ocilayout.File{{Path: "disk/tiny.raw", Source: raw}}); err != nil {
		return err
	}
	if err := stamp.Done(key, archive); err != nil {
		return err
	}
	return stamp.Done(key, diskArchive)
}

// kernelLine is what the disk boots with. The heartbeat is off, since the console
// is the shell's; "heartbeat ttyS0" in the guest starts it.
const kernelLine = "console=tty0 console=ttyS0 quiet cryptomgr.notests no_timer_check skerry.heartbeat=off"

// relocatable is the place of relocatable_kernel in the x86 boot protocol's header.
// GRUB for BIOS moves a relocatable kernel, and all the room that it asks for, once
// more before it starts it, byte by byte: five seconds under emulation. The kernel
// itself does not look at the field.
const relocatable = 0x234

// writeDisk makes a disk that boots the kernel and the initramfs by BIOS or UEFI.
func writeDisk(ctx context.Context, chain *toolchain.Toolchain, tmp string, boot []ocilayout.File, raw string) error {
	root := filepath.Join(tmp, "root")
	if err := os.MkdirAll(filepath.Join(root, "boot/grub"), 0o755); err != nil {
		return err
	}
	for _, f := range boot {
		if f.Path == "boot/vmlinux" {
			continue // GRUB takes the compressed one
		}
		b, err := os.ReadFile(f.Source)
		if err != nil {
			return err
		}
		if f.Path == "boot/vmlinuz" {
			b[relocatable] = 0
		}
		if err := os.WriteFile(filepath.Join(root, f.Path), b, 0o644); err != nil {
			return err
		}
	}
	config := disk.GrubVideo + "linux /boot/vmlinuz " + kernelLine + "\ninitrd /boot/initrd\nboot\n"
	if err := os.WriteFile(filepath.Join(root, "boot/grub/grub.cfg"), []byte(config), 0o644); err != nil {
		return err
	}
	return disk.Write(ctx, chain, disk.Spec{
		Root: root, RootMiB: 24, UUID: "5ce44e00-0000-4000-8000-000000000100", Label: "tiny", Features: "^has_journal",
	}, raw)
}

// save packs files as an image of one layer.
func save(tmp, archive, ref string, files []ocilayout.File) error {
	layer, err := ocilayout.NewLayer(filepath.Join(tmp, filepath.Base(archive)), "guest", files, ocilayout.Uncompressed)
	if err != nil {
		return err
	}
	img, err := ocilayout.New(ocilayout.Config{}, layer)
	if err != nil {
		return err
	}
	return ocilayout.Save(archive, ref, img)
}
