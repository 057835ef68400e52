// SPDX-License-Identifier: Apache-2.0

// Package toolchain runs the programs that guest images are built with (GRUB's,
// qemu-img, file system makers) out of a cached Debian root file system, so that
// the machine that builds needs none of them and every build uses the same ones.
// They run without chroot, through the root's own dynamic loader, and need no
// privileges.
package toolchain

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/images/debroot"
)

// Toolchain is a root file system with the programs.
type Toolchain struct{ root *debroot.Root }

// Open makes the toolchain or takes it from the cache.
func Open(ctx context.Context, cache string) (*Toolchain, error) {
	root, err := debroot.Make(ctx, cache, debroot.Spec{
		Name:  "toolchain",
		Suite: "bookworm",
		Include: []string{
			"grub-pc-bin", "grub-efi-amd64-bin", "grub-common",
			"qemu-utils", "e2fsprogs", "dosfstools", "mtools", "fdisk", "lz4", "zstd", "xz-utils",
		},
	})
	if err != nil {
		return nil, err
	}
	return &Toolchain{root}, nil
}

// Path is where a file of the toolchain, such as "usr/lib/grub/i386-pc", is on
// this machine.
func (t *Toolchain) Path(p string) string { return filepath.Join(t.root.Dir, p) }

// Run runs the program with that name. Both in and out may be nil.
func (t *Toolchain) Run(ctx context.Context, in io.Reader, out io.Writer, name string, args ...string) error {
	program := ""
	for _, dir := range []string{"usr/bin", "usr/sbin"} {
		if p, err := filepath.EvalSymlinks(t.Path(filepath.Join(dir, name))); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		return fmt.Errorf("the toolchain has no program %s", name)
	}
	argv := append([]string{
		"--library-path", t.Path("usr/lib/x86_64-linux-gnu"), "--argv0", name, program,
	}, args...)
	cmd := exec.CommandContext(ctx, t.Path("usr/lib64/ld-linux-x86-64.so.2"), argv...)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent",
		// File systems get fixed times, so that the same tree gives the same image.
		"E2FSPROGS_FAKE_TIME=1700000000", "SOURCE_DATE_EPOCH=1700000000",
		"MKE2FS_CONFIG=" + t.Path("etc/mke2fs.conf"),
	}
	var log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &log
	if out == nil {
		cmd.Stdout = &log
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, log.Bytes())
	}
	return nil
}
