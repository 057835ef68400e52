// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/test/guest/toolchain"
)

// Recipe is this package's source, for the keys of what is made by it.
//
//go:embed disk.go grub.go
var Recipe embed.FS

const sector = 512

// The layout, in sectors. GRUB's core for BIOS lies between the partition table
// and the first mebibyte, as on Debian's own images; the root partition is the
// last, so that it can grow.
const (
	biosStart, biosSize = 34, 2014
	espStart, espSize   = 2048, 16384 // 8 MiB
	rootStart           = espStart + espSize
	tailSize            = 2048 // the second partition table
)

// Spec describes a disk.
type Spec struct {
	// Root is the directory that becomes the root file system. Its boot/grub/grub.cfg
	// is what GRUB reads.
	Root string
	// RootMiB is the root file system's size.
	RootMiB int64
	// UUID is the root file system's; others are derived from it.
	UUID string
	// Label is the root file system's.
	Label string
	// Features are mke2fs's -O, such as "^has_journal".
	Features string
}

// Write makes the disk, a raw image, at path.
func Write(ctx context.Context, tools *toolchain.Toolchain, spec Spec, path string) error {
	if len(spec.UUID) != 36 {
		return fmt.Errorf("disk %s: UUID %q is not one", path, spec.UUID)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".disk-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b := &builder{tools: tools, spec: spec, dir: tmp}
	if err := b.grubImages(ctx); err != nil {
		return err
	}
	if err := b.esp(ctx); err != nil {
		return err
	}
	if err := b.root(ctx); err != nil {
		return err
	}
	if err := b.assemble(ctx, path); err != nil {
		return fmt.Errorf("disk %s: %w", path, err)
	}
	return nil
}

type builder struct {
	tools *toolchain.Toolchain
	spec  Spec
	dir   string
}

func (b *builder) file(name string) string { return filepath.Join(b.dir, name) }

// grubImages makes both of GRUB's cores. All modules that are needed are in them;
// their one job is to find the root file system and its grub.cfg.
func (b *builder) grubImages(ctx context.Context) error {
	config := fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n", b.spec.UUID)
	if err := os.WriteFile(b.file("early.cfg"), []byte(config), 0o644); err != nil {
		return err
	}
	for _, g := range []struct{ format, file, modules string }{
		{"i386-pc", "core.img", "biosdisk"},
		{"x86_64-efi", "bootx64.efi", "fat efi_gop"},
	} {
		args := []string{
			"-O", g.format, "-d", b.tools.Path("usr/lib/grub/" + g.format), "-o", b.file(g.file),
			"-c", b.file("early.cfg"), "-p", "/boot/grub",
		}
		args = append(args, strings.Fields(g.modules+" part_gpt ext2 search_fs_uuid configfile normal linux test echo gzio")...)
		if err := b.tools.Run(ctx, nil, nil, "grub-mkimage", args...); err != nil {
			return err
		}
	}
	return nil
}

// esp makes the EFI system partition with GRUB under the name that firmware
// looks for on removable disks.
func (b *builder) esp(ctx context.Context) error {
	if err := sized(b.file("esp"), espSize*sector); err != nil {
		return err
	}
	id := strings.ReplaceAll(b.spec.UUID, "-", "")[:8]
	if err := b.tools.Run(ctx, nil, nil, "mkfs.fat", "-F", "16", "-s", "1", "-n", "ESP", "-i", id, b.file("esp")); err != nil {
		return err
	}
	if err := b.tools.Run(ctx, nil, nil, "mmd", "-i", b.file("esp"), "::/EFI", "::/EFI/BOOT"); err != nil {
		return err
	}
	return b.tools.Run(ctx, nil, nil, "mcopy", "-i", b.file("esp"), b.file("bootx64.efi"), "::/EFI/BOOT/BOOTX64.EFI")
}

func (b *builder) root(ctx context.Context) error {
	if err := sized(b.file("root"), b.spec.RootMiB<<20); err != nil {
		return err
	}
	args := []string{
		"-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-d", b.spec.Root, "-U", b.spec.UUID, "-L", b.spec.Label,
		"-E", "hash_seed=" + b.spec.UUID + ",root_owner=0:0,lazy_itable_init=0",
	}
	if b.spec.Features != "" {
		args = append(args, "-O", b.spec.Features)
	}
	return b.tools.Run(ctx, nil, nil, "mke2fs", append(args, b.file("root"))...)
}

// assemble puts the parts in their places.
func (b *builder) assemble(ctx context.Context, path string) error {
	rootSectors := b.spec.RootMiB << 20 / sector
	disk := b.file("disk")
	if err := sized(disk, (rootStart+rootSectors+tailSize)*sector); err != nil {
		return err
	}
	// GPT partition types: BIOS boot, EFI system, Linux root (x86-64).
	table := fmt.Sprintf(`label: gpt
label-id: %[1]s
first-lba: 34
%[2]s1 : start=%[3]d, size=%[4]d, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=%[5]s
%[2]s14 : start=%[6]d, size=%[7]d, type=21686148-6449-6E6F-744E-656564454649, uuid=%[8]s
%[2]s15 : start=%[9]d, size=%[10]d, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=%[11]s
`, derived(b.spec.UUID, 0), disk,
		rootStart, rootSectors, derived(b.spec.UUID, 1),
		biosStart, biosSize, derived(b.spec.UUID, 14),
		espStart, espSize, derived(b.spec.UUID, 15))
	if err := b.tools.Run(ctx, strings.NewReader(table), nil, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk); err != nil {
		return err
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := b.installBIOS(f); err != nil {
		return err
	}
	for _, p := range []struct {
		file  string
		start int64
	}{{"esp", espStart}, {"root", rootStart}} {
		if err := copySparse(f, p.start*sector, b.file(p.file)); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(disk, path)
}

// installBIOS writes the boot sector and GRUB's core.
func (b *builder) installBIOS(disk *os.File) error {
	boot, err := os.ReadFile(b.tools.Path("usr/lib/grub/i386-pc/boot.img"))
	if err != nil {
		return err
	}
	core, err := os.ReadFile(b.file("core.img"))
	if err != nil {
		return err
	}
	mbr := make([]byte, sector)
	if _, err := disk.ReadAt(mbr, 0); err != nil {
		return err
	}
	core, err = patchBIOS(mbr, boot, core, biosStart, biosSize)
	if err != nil {
		return err
	}
	if _, err := disk.WriteAt(mbr, 0); err != nil {
		return err
	}
	_, err = disk.WriteAt(core, biosStart*sector)
	return err
}

// derived makes a UUID for a partition from the file system's.
func derived(uuid string, n int) string { return fmt.Sprintf("%s%02x", uuid[:34], n) }

// sized makes a sparse file.
func sized(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// copySparse copies a file to an offset and leaves holes where it has zeros.
func copySparse(dst io.WriterAt, offset int64, path string) error {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	buf, zero := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := io.ReadFull(src, buf)
		if n > 0 && string(buf[:n]) != string(zero[:n]) {
			if _, err := dst.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
