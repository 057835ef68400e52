// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FIEMAP of linux/fs.h and linux/fiemap.h.
const (
	fiemapIoctl     = 0xc020660b // FS_IOC_FIEMAP
	fiemapSync      = 0x1
	extentLast      = 0x1
	extentUnwritten = 0x800
	extentShared    = 0x2000
)

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type fiemap struct {
	start, length                 uint64
	flags, mapped, extentCount, _ uint32
	extents                       [512]fiemapExtent
}

// Usage is what a file has on the disk.
type Usage struct {
	// Extents counts its pieces; Bytes is all of them, Shared what others have too.
	Extents       int
	Bytes, Shared int64
}

// FileUsage asks the file system.
func FileUsage(f *os.File) (Usage, error) {
	var u Usage
	err := eachExtent(f, func(e fiemapExtent) error {
		u.Extents++
		u.Bytes += int64(e.length)
		if e.flags&extentShared != 0 {
			u.Shared += int64(e.length)
		}
		return nil
	})
	return u, err
}

// dropUnwritten makes holes of what is allocated and reads as zeros, such as the
// 64 MiB of the log that mkfs.xfs lays out.
func dropUnwritten(f *os.File) error {
	return eachExtent(f, func(e fiemapExtent) error {
		if e.flags&extentUnwritten == 0 {
			return nil
		}
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(e.logical), int64(e.length))
	})
}

func eachExtent(f *os.File, do func(fiemapExtent) error) error {
	for start := uint64(0); ; {
		m := fiemap{start: start, length: ^uint64(0) - start, flags: fiemapSync, extentCount: 512}
		if err := ioctl(f, fiemapIoctl, unsafe.Pointer(&m)); err != nil {
			return fmt.Errorf("ask for the extents of %s: %w", f.Name(), err)
		}
		for _, e := range m.extents[:min(m.mapped, uint32(len(m.extents)))] {
			if err := do(e); err != nil {
				return err
			}
			start = e.logical + e.length
			if e.flags&extentLast != 0 {
				return nil
			}
		}
		if m.mapped == 0 {
			return nil
		}
	}
}
