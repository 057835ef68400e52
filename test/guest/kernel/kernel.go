// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"embed"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/test/guest/toolchain"
)

// Recipe is this package's source, for the keys of what is made by it.
//
//go:embed kernel.go modules.go
var Recipe embed.FS

// Kernel is an unpacked kernel package.
type Kernel struct {
	// Release is what uname -r says.
	Release string
	// BzImage is the compressed kernel's file.
	BzImage string
	// Modules is the directory lib/modules/<release>.
	Modules string
}

// Open makes the kernel's root file system or takes it from the cache.
func Open(ctx context.Context, cache string) (*Kernel, error) {
	root, err := debroot.Make(ctx, cache, debroot.Spec{
		Name: "kernel", Suite: "bookworm", Include: []string{"linux-image-cloud-amd64"},
	})
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob(filepath.Join(root.Dir, "usr/lib/modules/*"))
	if err != nil {
		return nil, err
	}
	if len(dirs) != 1 {
		return nil, fmt.Errorf("%d kernels in %s, want 1", len(dirs), root.Dir)
	}
	release := filepath.Base(dirs[0])
	return &Kernel{
		Release: release,
		BzImage: filepath.Join(root.Dir, "boot", "vmlinuz-"+release),
		Modules: dirs[0],
	}, nil
}

// Vmlinux writes the kernel proper, an ELF file, to out.
func (k *Kernel) Vmlinux(ctx context.Context, tools *toolchain.Toolchain, out io.Writer) error {
	image, err := os.ReadFile(k.BzImage)
	if err != nil {
		return err
	}
	packed, format, err := payload(image)
	if err != nil {
		return fmt.Errorf("%s: %w", k.BzImage, err)
	}
	var unpacked bytes.Buffer
	if err := tools.Run(ctx, bytes.NewReader(packed), &unpacked, format, "-dc"); err != nil {
		return err
	}
	f, err := elf.NewFile(bytes.NewReader(unpacked.Bytes()))
	if err != nil {
		return fmt.Errorf("payload of %s: %w", k.BzImage, err)
	}
	// What follows the last segment is for the compressed image's loader only.
	end := uint64(0)
	for _, p := range f.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	if end > uint64(unpacked.Len()) {
		return fmt.Errorf("payload of %s ends before its last segment", k.BzImage)
	}
	b := unpacked.Bytes()[:end]
	// The section headers were behind it: e_shoff, then e_shnum and e_shstrndx.
	clear(b[0x28:0x30])
	clear(b[0x3c:0x40])
	_, err = out.Write(b)
	return err
}

// payload finds the compressed kernel in a bzImage and the program that unpacks
// it, by the x86 boot protocol (Linux, Documentation/arch/x86/boot.rst).
func payload(image []byte) (packed []byte, format string, err error) {
	const (
		setupSectors  = 0x1f1
		magic         = 0x202
		version       = 0x206
		payloadOffset = 0x248
		headerEnd     = 0x250
	)
	if len(image) < headerEnd || string(image[magic:magic+4]) != "HdrS" {
		return nil, "", fmt.Errorf("not a bzImage")
	}
	if v := binary.LittleEndian.Uint16(image[version:]); v < 0x208 {
		return nil, "", fmt.Errorf("boot protocol %#x names no payload, want at least 0x208", v)
	}
	sectors := int(image[setupSectors])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := start + int(binary.LittleEndian.Uint32(image[payloadOffset+4:]))
	if start >= end || end > len(image) {
		return nil, "", fmt.Errorf("payload %d to %d is not within its %d bytes", start, end, len(image))
	}
	packed = image[start:end]
	// The kernel's build appends the unpacked size, which the unpackers dislike.
	trimmed := packed[:len(packed)-min(4, len(packed))]
	for _, c := range []struct{ magic, program string }{
		{"\x02\x21\x4c\x18", "lz4"},
		{"\x28\xb5\x2f\xfd", "zstd"},
		{"\xfd7zXZ\x00", "xz"},
	} {
		if bytes.HasPrefix(packed, []byte(c.magic)) {
			return trimmed, c.program, nil
		}
	}
	return nil, "", fmt.Errorf("unknown compression, the payload starts with % x", packed[:min(6, len(packed))])
}
