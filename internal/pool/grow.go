// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/loopdev"
)

// Kernel interfaces of xfs(5) and ext4(5), from their headers in linux/: their
// tools would do the same, but may be missing, hang, or take a mount for another.
const (
	xfsGeometry = 0x80705864 // XFS_IOC_FSGEOMETRY_V1
	xfsGrow     = 0x4010586e // XFS_IOC_FSGROWFSDATA
	ext4Grow    = 0x40086610 // EXT4_IOC_RESIZE_FS
)

// geometry is struct xfs_fsop_geom_v1.
type geometry struct {
	blockSize, rtExtSize, agBlocks, agCount, logBlocks, sectSize, inodeSize, imaxPct uint32
	dataBlocks, rtBlocks, rtExtents, logStart                                        uint64
	uuid                                                                             [16]byte
	sunit, swidth                                                                    uint32
	version                                                                          int32
	flags, logSectSize, rtSectSize, dirBlockSize                                     uint32
	_                                                                                uint32
}

// GrowMounted grows a mounted ext4 or XFS to the size of its device. One that has
// it already stays as it is.
func GrowMounted(mnt string) error {
	d, err := os.Open(mnt)
	if err != nil {
		return err
	}
	defer d.Close()
	var st unix.Stat_t
	var sf unix.Statfs_t
	if err := errors.Join(unix.Fstat(int(d.Fd()), &st), unix.Fstatfs(int(d.Fd()), &sf)); err != nil {
		return fmt.Errorf("stat %s: %w", mnt, err)
	}
	size, err := deviceSize(st.Dev)
	if err != nil {
		return err
	}
	switch uint32(sf.Type) {
	case unix.XFS_SUPER_MAGIC:
		var g geometry
		if err := ioctl(d, xfsGeometry, unsafe.Pointer(&g)); err != nil {
			return fmt.Errorf("ask the XFS at %s for its size: %w", mnt, err)
		}
		in := struct {
			blocks  uint64
			imaxPct uint32
			_       uint32
		}{blocks: size / uint64(g.blockSize), imaxPct: g.imaxPct}
		if in.blocks <= g.dataBlocks {
			return nil
		}
		if err := ioctl(d, xfsGrow, unsafe.Pointer(&in)); err != nil {
			return fmt.Errorf("grow the XFS at %s to %s: %w", mnt, Bytes(int64(size)), err)
		}
	case unix.EXT4_SUPER_MAGIC:
		now, err := ext4Blocks(st.Dev)
		if err != nil {
			return err
		}
		blocks := size / uint64(sf.Bsize)
		if blocks <= now {
			return nil
		}
		err = ioctl(d, ext4Grow, unsafe.Pointer(&blocks))
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("grow the ext4 at %s to %s: %w", mnt, Bytes(int64(size)), ErrOffline)
		}
		if err != nil {
			return fmt.Errorf("grow the ext4 at %s to %s: %w", mnt, Bytes(int64(size)), err)
		}
	default:
		return fmt.Errorf("grow the file system at %s: %w: it is neither ext4 nor XFS", mnt, ErrInvalid)
	}
	return nil
}

// ErrOffline says that a file system can be grown only while it is not mounted.
var ErrOffline = errors.New("the kernel grows a mounted ext4 only for processes with CAP_SYS_RESOURCE, which this one lacks: it grows when nobody has it mounted")

// ext4Blocks is how many blocks the ext4 on a device has, from its superblock.
func ext4Blocks(dev uint64) (uint64, error) {
	// By number: the node's name is not ours to know.
	f, err := os.Open(fmt.Sprintf("/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if errors.Is(err, fs.ErrNotExist) && unix.Major(dev) == loopdev.Major {
		f, err = os.Open(fmt.Sprintf("/dev/loop%d", unix.Minor(dev)))
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, 1024); err != nil {
		return 0, fmt.Errorf("read the superblock on %s: %w", f.Name(), err)
	}
	const countLow, magic, countHigh = 0x4, 0x38, 0x150
	if binary.LittleEndian.Uint16(b[magic:]) != 0xef53 {
		return 0, fmt.Errorf("%s has no ext4: %w", f.Name(), ErrInvalid)
	}
	return uint64(binary.LittleEndian.Uint32(b[countLow:])) | uint64(binary.LittleEndian.Uint32(b[countHigh:]))<<32, nil
}

// GrowUnmounted grows an ext4 that nobody has mounted to the size of its device;
// XFS grows only while it is mounted.
func GrowUnmounted(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, mkfsLimit)
	defer cancel()
	for _, args := range [][]string{{"e2fsck", "-f", "-p", device}, {"resize2fs", device}} {
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		var exit *exec.ExitError
		if args[0] == "e2fsck" && errors.As(err, &exit) && exit.ExitCode() == 1 {
			err = nil // it has repaired something
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

func ioctl(f *os.File, req uint, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(req), uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// deviceSize is a block device's size in bytes, by its number.
func deviceSize(dev uint64) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return 0, err
	}
	var sectors uint64
	if _, err := fmt.Sscan(string(b), &sectors); err != nil {
		return 0, fmt.Errorf("size of block device %d:%d: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	return sectors * 512, nil
}
