// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/loopdev"
)

// poolName is the pool's own device's, behind its tag.
const poolName = "pool.img"

func (p *Pool) image() string { return filepath.Join(p.cfg.Dir, poolName) }

// ensureImage makes the pool's file with a file system in it, all or nothing, and
// has all of its space allocated.
func (p *Pool) ensureImage(ctx context.Context) error {
	there, err := exists(p.image())
	if err != nil {
		return err
	}
	if !there {
		if err := p.makeImage(ctx); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(p.image(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "pool.image.before-grow"); err != nil {
		return err
	}
	// Holes are filled as well: nothing here discards on the pool's own device, but
	// somebody may trim all the machine's file systems. (The device's setting for
	// that can't be used: the kernel keeps it with the number for the next user.)
	return allocate(f, max(st.Size(), p.cfg.Size/unit*unit))
}

func (p *Pool) makeImage(ctx context.Context) error {
	if p.cfg.Size < MinPool {
		return fmt.Errorf("size of %s: %w: must be at least %s", Bytes(p.cfg.Size), ErrInvalid, Bytes(MinPool))
	}
	tmp := p.image() + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := allocate(f, p.cfg.Size/unit*unit); err != nil {
		// Else the space would be gone until the next start.
		return errors.Join(err, os.Remove(tmp))
	}
	if err := failpoint.Hit(ctx, "pool.image.before-mkfs"); err != nil {
		return err
	}
	if err := mkfs(ctx, "xfs", tmp); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "pool.image.before-rename"); err != nil {
		return err
	}
	if err := os.Rename(tmp, p.image()); err != nil {
		return err
	}
	return syncDir(p.cfg.Dir)
}

func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("allocate %s: the disk under %s has not as much free: choose a smaller pool or make room: %w", Bytes(size), f.Name(), err)
	case err != nil:
		return fmt.Errorf("allocate %s for %s: %w", Bytes(size), f.Name(), err)
	}
	return f.Sync()
}

// ensureMount attaches and mounts the pool's file and grows the file system into it.
func (p *Pool) ensureMount(ctx context.Context) (err error) {
	if err := failpoint.Hit(ctx, "pool.image.before-attach"); err != nil {
		return err
	}
	if p.dev, err = loopdev.Attach(ctx, p.image(), loopdev.Options{Name: p.tag + poolName}); err != nil {
		return err
	}
	if err := loopdev.Resize(p.dev); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "pool.image.before-mount"); err != nil {
		return err
	}
	var here, above unix.Stat_t
	if err := errors.Join(unix.Stat(p.mnt(), &here), unix.Stat(p.cfg.Dir, &above)); err != nil {
		return err
	}
	switch {
	case here.Dev == p.dev.Rdev(): // mounted by an earlier start
	case here.Dev != above.Dev:
		return fmt.Errorf("something else is mounted at %s: unmount it", p.mnt())
	default:
		if err := unix.Mount(p.dev.Path, p.mnt(), "xfs", unix.MS_NOATIME|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "nodiscard"); err != nil {
			if errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("the kernel has no XFS (`modprobe xfs`): %w", err)
			}
			return fmt.Errorf("mount %s at %s: %w", p.dev.Path, p.mnt(), err)
		}
	}
	if err := failpoint.Hit(ctx, "pool.image.after-mount"); err != nil {
		return err
	}
	return GrowMounted(p.mnt())
}

// mkfs makes a file system on a file or device that is known to be blank.
func mkfs(ctx context.Context, fsType, path string) error {
	var args []string
	switch fsType {
	case "xfs":
		// No discard: it would punch holes into what was just allocated.
		args = []string{"-q", "-f", "-K", "-m", "reflink=1", path}
	case "ext4":
		args = []string{"-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", path}
	default:
		return fmt.Errorf("file system %q: %w: must be ext4 or xfs", fsType, ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, mkfsLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mkfs."+fsType, args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("mkfs.%s is missing: install %s", fsType, map[string]string{"xfs": "xfsprogs", "ext4": "e2fsprogs"}[fsType])
	}
	if err != nil {
		return fmt.Errorf("mkfs.%s %s: %w: %s", fsType, path, err, strings.TrimSpace(string(out)))
	}
	return nil
}
