// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

// A volume's contents come from whoever may write to it: a link is never followed,
// and what is opened is looked at through its descriptor, which is also what QEMU
// gets. So nobody can put another file in its place in between.

const (
	// newImage is a disk that is being made; one that was left by a launcher that
	// was killed is nobody's data.
	newImage = "." + contract.ClaimImage + ".new"
	// lostAndFound is what a new ext4 has.
	lostAndFound = "lost+found"
	// spareBytes are left to an empty volume's file system, and tolerance is by how
	// many hundredths the disk may be smaller than asked for where that does not fit.
	// Both are the peer's.
	spareBytes = 128 << 10
	tolerance  = 10
	mebibyte   = 1 << 20
)

// openClaims opens all claims, at descriptors that are above all agreed numbers.
func openClaims(ctx context.Context, c Config, claims []contract.Claim) ([]inherited, error) {
	var list []inherited
	for _, k := range claims {
		if k.FD < contract.FirstClaimFD || k.FD > maxFD {
			return nil, fmt.Errorf("volume %s: descriptor %d: must be between %d and %d", k.Volume, k.FD, contract.FirstClaimFD, maxFD)
		}
		if k.Volume == "" || strings.ContainsAny(k.Volume, "/\x00") || strings.HasPrefix(k.Volume, ".") {
			return nil, fmt.Errorf("volume %.80q: not a volume's name", k.Volume)
		}
		open := openImage
		if k.Block {
			open = openDevice
		}
		fd, err := open(ctx, c, k)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", k.Volume, err)
		}
		list = append(list, inherited{name: "volume " + k.Volume, opened: fd, want: k.FD})
	}
	return list, nil
}

func access(k contract.Claim) int {
	if k.ReadOnly {
		return unix.O_RDONLY
	}
	return unix.O_RDWR
}

// openDevice opens a block device for this machine alone: the kernel lets nobody
// else open it so, or mount it, for as long as QEMU holds the descriptor.
func openDevice(_ context.Context, c Config, k contract.Claim) (int, error) {
	path := filepath.Join(c.ClaimDeviceDir, k.Volume)
	ref, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("the pod has no device %s", path)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(ref)
	if err := checkType(ref, unix.S_IFBLK, "block device"); err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	flags := access(k) | unix.O_CLOEXEC | unix.O_NONBLOCK
	if !k.ReadOnly {
		flags |= unix.O_EXCL
	}
	fd, err := unix.Open(contract.ClaimFile(ref), flags, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return -1, fmt.Errorf("the block device is in use on this node, by another machine or a file system: stop what uses it, the machine starts anew by its run strategy")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("the block device cannot be opened by uid %d (%w): see that the node agent gives it to the pod's user, and that the claim is not read-only", os.Getuid(), err)
	case err != nil:
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// openImage opens the disk in a volume with a file system, and makes it first when
// the volume is empty.
func openImage(ctx context.Context, c Config, k contract.Claim) (int, error) {
	dir, err := openClaimDir(c, k.Volume)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err := openIn(dir, contract.ClaimImage, access(k))
	if errors.Is(err, unix.ENOENT) {
		if err := makeImage(ctx, dir, k); err != nil {
			return -1, err
		}
		fd, err = openIn(dir, contract.ClaimImage, access(k))
	}
	switch {
	case errors.Is(err, unix.EACCES):
		return -1, fmt.Errorf("%s cannot be opened by uid %d and group %d: make it theirs (the pod's fsGroup is %[3]d, which not every storage driver applies)", contract.ClaimImage, os.Getuid(), os.Getgid())
	case errors.Is(err, unix.EROFS):
		return -1, fmt.Errorf("%s is on a read-only file system: set readOnly of the volume's persistentVolumeClaim", contract.ClaimImage)
	case err != nil:
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size == 0 {
		unix.Close(fd)
		if err == nil {
			err = fmt.Errorf("%s is empty: put a raw disk image there, or remove it and a disk of the volume's size is made", contract.ClaimImage)
		}
		return -1, err
	}
	return fd, nil
}

func openClaimDir(c Config, volume string) (int, error) {
	path := filepath.Join(c.ClaimDir, volume)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("%s is not mounted", path)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// openIn opens a regular file directly in a volume. It follows nothing, and
// touches nothing of another type.
func openIn(dir int, name string, flags int) (int, error) {
	ref, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, fmt.Errorf("%s is a symbolic link, which is not followed: the disk must be a file of the volume itself", name)
	case errors.Is(err, unix.EXDEV):
		return -1, fmt.Errorf("%s is a mount of something else: the disk must be a file of the volume itself", name)
	case err != nil:
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(ref)
	if err := checkType(ref, unix.S_IFREG, "regular file"); err != nil {
		return -1, fmt.Errorf("%s: %w", name, err)
	}
	fd, err := unix.Open(contract.ClaimFile(ref), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	return fd, nil
}

func checkType(fd int, want uint32, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	got := st.Mode & unix.S_IFMT
	if got == want {
		return nil
	}
	if got == unix.S_IFLNK {
		return fmt.Errorf("a symbolic link, which is not followed: expected a %s", name)
	}
	types := map[uint32]string{unix.S_IFREG: "regular file", unix.S_IFDIR: "directory", unix.S_IFIFO: "FIFO", unix.S_IFSOCK: "socket", unix.S_IFCHR: "character device", unix.S_IFBLK: "block device"}
	return fmt.Errorf("a %s: expected a %s", types[got], name)
}

// makeImage makes the disk of an empty volume: sparse, raw, and complete before it
// gets its name.
func makeImage(ctx context.Context, dir int, k contract.Claim) error {
	if k.Size <= 0 || k.ReadOnly {
		return fmt.Errorf("the volume has no %s, and none is made in a volume that is read-only or whose size is not known", contract.ClaimImage)
	}
	if err := checkEmpty(dir); err != nil {
		return err
	}
	size, err := sizeFor(dir, k.Size)
	if err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "launcher.claim.before-make"); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, newImage, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", newImage, err)
	}
	fd, err := unix.Openat(dir, newImage, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o660)
	if err != nil {
		return fmt.Errorf("make %s as uid %d and group %d: %w (the volume must let one of them write: the pod's fsGroup is %[3]d, which not every storage driver applies)", contract.ClaimImage, os.Getuid(), os.Getgid(), err)
	}
	defer unix.Close(fd)
	// Importers of the same group write to it; the process's umask forbids that.
	err = unix.Fchmod(fd, 0o660)
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err == nil {
		err = unix.Fsync(fd)
	}
	if err == nil {
		err = failpoint.Hit(ctx, "launcher.claim.before-rename")
	}
	if err == nil {
		// Not over what somebody else has made meanwhile.
		err = unix.Renameat2(dir, newImage, dir, contract.ClaimImage, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) { // a file system that does not know how
			err = unix.Renameat(dir, newImage, dir, contract.ClaimImage)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(dir, newImage, 0)
		return fmt.Errorf("make %s of %d bytes: %w", contract.ClaimImage, size, err)
	}
	return syncDir(dir)
}

// syncDir makes the name last: what the guest writes will be flushed only into the file.
func syncDir(dir int) error {
	fd, err := unix.Open(contract.ClaimFile(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the volume: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("flush the volume: %w", err)
	}
	return nil
}

// checkEmpty refuses a volume with somebody's files in it.
func checkEmpty(dir int) error {
	fd, err := unix.Open(contract.ClaimFile(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("list the volume as uid %d: %w", os.Getuid(), err)
	}
	f := os.NewFile(uintptr(fd), "volume")
	defer f.Close()
	names, err := f.Readdirnames(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("list the volume: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == lostAndFound || n == newImage })
	if len(names) > 0 {
		return fmt.Errorf("the volume has no %s, but other files (%q): a disk is made in an empty volume only; use another claim, or call the disk %[1]s", contract.ClaimImage, names)
	}
	return nil
}

// sizeFor is how large a disk fits into an empty volume of which want bytes are asked.
func sizeFor(dir int, want int64) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the volume's free space: %w", err)
	}
	return fit(want, int64(min(st.Bavail, 1<<62/uint64(max(st.Bsize, 1))))*st.Bsize)
}

// fit is how large a disk is made where want bytes are asked for and free are.
func fit(want, free int64) (int64, error) {
	free = max(free-spareBytes, 0)
	if want <= free {
		return want, nil
	}
	size := free / mebibyte * mebibyte
	if size < mebibyte || size < want-want/100*tolerance {
		return 0, fmt.Errorf("the volume has %d bytes free, and its disk needs %d: use a larger claim", free, want)
	}
	return size, nil
}

// maxProbes bounds how many volumes are looked at.
const maxProbes = 256

// withoutDirect names the volumes whose file systems refuse O_DIRECT, which QEMU
// would have to do without.
func withoutDirect(c Config) []string {
	entries, err := os.ReadDir(c.ClaimDir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries[:min(len(entries), maxProbes)] {
		dir, err := openClaimDir(c, e.Name())
		if err != nil {
			continue // it is reported when it is opened for good
		}
		fd, err := openIn(dir, contract.ClaimImage, unix.O_RDONLY|unix.O_DIRECT)
		if errors.Is(err, unix.ENOENT) {
			// A file without a name; file systems that have none of those have O_DIRECT.
			fd, err = unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
		}
		if err == nil {
			unix.Close(fd)
		} else if errors.Is(err, unix.EINVAL) {
			list = append(list, e.Name())
		}
		unix.Close(dir)
	}
	return list
}
