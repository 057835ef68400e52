// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package box

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a small file system in a file, mounted as the node's data directory: it
// can be full, and the power can be cut under it.
type disk struct {
	t     *testing.T
	image string // "" while there is none
	dir   string // of the images
	n     int
}

// ownDisk mounts a new file system of that many MiB as the data directory until
// the test ends. Register it before anything that runs on it.
func ownDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	// Not t.TempDir: it is removed before the cleanups that unmount.
	dir, err := os.MkdirTemp(filepath.Dir(box.DataDir), "disk-")
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, dir: dir, image: filepath.Join(dir, "0.img")}
	t.Cleanup(func() {
		d.unmount()
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(box.DataDir)); err != nil {
			t.Errorf("remove the disk: %v", err)
		}
	})
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(mib<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	d.command("mkfs.ext4", "-q", "-m", "0", "-F", d.image)
	d.mount()
	return d
}

func (d *disk) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	if err := os.MkdirAll(box.DataDir, 0o711); err != nil {
		d.t.Fatal(err)
	}
	// The loop device goes with its mount.
	d.command("mount", "-o", "loop", d.image, box.DataDir)
}

func (d *disk) unmount() {
	unmountBelow(d.t, box.DataDir)
	for _, m := range mountPoints(d.t) {
		if m == box.DataDir {
			if err := unix.Unmount(box.DataDir, unix.MNT_DETACH); err != nil {
				d.t.Errorf("unmount %s: %v", box.DataDir, err)
			}
		}
	}
}

// powerCut ends the node and then loses everything that the file system had not
// written to its disk: the file behind the loop device is copied as it is, and the
// copy is mounted in its place.
func (d *disk) powerCut() {
	d.t.Helper()
	cgroup := cgroupRoot(d.t)
	killAll(d.t, cgroup)
	d.n++
	after := filepath.Join(d.dir, string(rune('0'+d.n))+".img")
	d.command("cp", "--sparse=always", "--reflink=auto", d.image, after)
	forget(d.t, cgroup)
	d.unmount()
	if err := os.Remove(d.image); err != nil {
		d.t.Fatal(err)
	}
	d.image = after
	if err := os.RemoveAll(box.RunDir); err != nil {
		d.t.Fatal(err)
	}
	newBootID(d.t)
	d.mount()
}
