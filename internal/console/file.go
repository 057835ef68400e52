// SPDX-License-Identifier: Apache-2.0

package console

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// control runs f with the descriptor of file, without making it blocking.
func control(file *os.File, f func(fd int) error) error {
	rc, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

func fstatfs(file *os.File, st *unix.Statfs_t) error {
	return control(file, func(fd int) error { return unix.Fstatfs(fd, st) })
}

// resume finds where an earlier copier stopped: it freed all that it had copied.
// The last page it could only free in part, that is overwrite with zeros.
func (c *copier) resume() error {
	size, _, err := c.skipHole()
	if err != nil {
		return err
	}
	page := make([]byte, os.Getpagesize())
	n, err := c.File.ReadAt(page, c.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for i := 0; i < n && page[i] == 0; i++ {
		c.offset++
	}
	c.offset = min(c.offset, size)
	c.freed = c.offset
	c.seen = c.offset > 0 // there was output before
	return nil
}

// skipHole moves the offset over a hole and returns the file's size and where
// the next hole begins. A hole ahead of the offset means that the pod plays with
// the file; copying zeros out of it would not end.
func (c *copier) skipHole() (size, hole int64, err error) {
	err = control(c.File, func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		size = st.Size
		if c.offset > size {
			c.offset, c.freed = 0, 0 // it was truncated
		}
		if c.offset == size {
			return nil
		}
		at, err := unix.Seek(fd, c.offset, unix.SEEK_DATA)
		switch err {
		case nil:
			c.offset = at
			hole, err = unix.Seek(fd, at, unix.SEEK_HOLE)
			return err
		case unix.ENXIO:
			c.offset = size
		default:
			return err
		}
		return nil
	})
	return size, hole, err
}

// free gives back the pages before the offset. In the page that holds the offset
// the bytes before it become zeros, for resume. QEMU may be appending: the
// kernel does both under the inode's lock, and appending never touches a byte
// that is there already.
func (c *copier) free() error {
	if c.offset <= c.freed {
		return nil
	}
	// From the start of the page: it can be freed as a whole now.
	start := c.freed - c.freed%int64(os.Getpagesize())
	err := control(c.File, func(fd int) error {
		for {
			err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, c.offset-start)
			if err != unix.EINTR {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	c.freed = c.offset
	return nil
}
