// SPDX-License-Identifier: Apache-2.0

package tiny

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/internal/ocilayout"
	"github.com/skerry-dev/skerry/test/guest/kernel"
	"github.com/skerry-dev/skerry/test/guest/tools"
)

// Modules that are loaded before the guest says that it is ready, and those that
// can wait.
var (
	modules = []string{
		"virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "virtio_rng",
		"virtio_balloon", "virtio_mem", "evdev", "button", "pvpanic_pci", "pvpanic_mmio",
	}
	lateModules = []string{
		"virtio_scsi", "sd_mod", "sr_mod", "isofs", "vfat", "nls_ascii", "nls_cp437",
		"vmw_vsock_virtio_transport", "virtiofs",
	}
)

// initrd writes the guest's root file system to w.
func initrd(w io.Writer, dir string, k *kernel.Kernel, busybox *debroot.Root) error {
	files, err := tools.Applets(busybox)
	if err != nil {
		return err
	}
	guestd := filepath.Join(dir, "guestd")
	if err := compileGuestd(guestd); err != nil {
		return err
	}
	set, err := k.ModuleSet(append(append([]string(nil), modules...), lateModules...)...)
	if err != nil {
		return err
	}
	base := path.Join("lib/modules", k.Release)
	for _, p := range set.Paths {
		files = append(files, ocilayout.File{Path: path.Join(base, p), Source: filepath.Join(k.Modules, p)})
	}
	files = append(files,
		ocilayout.File{Path: path.Join(base, "modules.dep"), Content: set.Dep()},
		ocilayout.File{Path: "etc/modules", Content: []byte(strings.Join(modules, " ") + "\n")},
		ocilayout.File{Path: "etc/modules.late", Content: []byte(strings.Join(lateModules, " ") + "\n")},
		ocilayout.File{Path: "etc/passwd", Content: []byte("root::0:0:root:/root:/bin/sh\n")},
		ocilayout.File{Path: "etc/group", Content: []byte("root:x:0:\n")},
		ocilayout.File{Path: "etc/hosts", Content: []byte("127.0.0.1 localhost\n")},
		ocilayout.File{Path: "sbin/guestd", Source: guestd, Mode: 0o755},
		ocilayout.File{Path: "sbin/witness", Link: "/sbin/guestd"},
		ocilayout.File{Path: "init", Link: "/bin/busybox"},
	)
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "mnt"} {
		files = append(files, ocilayout.File{Path: dir, Dir: true})
	}
	own, err := ownFiles()
	if err != nil {
		return err
	}
	return writeCpio(w, append(files, own...))
}

// ownFiles are those of the folder files; scripts are made executable.
func ownFiles() ([]ocilayout.File, error) {
	var files []ocilayout.File
	err := fs.WalkDir(recipe, "files", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipe.ReadFile(p)
		if err != nil {
			return err
		}
		f := ocilayout.File{Path: strings.TrimPrefix(p, "files/"), Content: b}
		if strings.HasPrefix(string(b), "#!") {
			f.Mode = 0o755
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// compileGuestd makes the guest's daemon, which is the witness too.
func compileGuestd(binary string) error {
	args := []string{"-Os", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-Wl,--build-id=none", "-o", binary}
	for _, name := range []string{"guestd.c", "witness.c"} {
		code, err := recipe.ReadFile("src/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(binary), name), code, 0o644); err != nil {
			return err
		}
		args = append(args, name)
	}
	cc := exec.Command("gcc", args...)
	cc.Dir = filepath.Dir(binary)
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("compile guestd: %w\n%s", err, out)
	}
	return nil
}
