// SPDX-License-Identifier: Apache-2.0

package loopdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	control = "/dev/loop-control"
	// Major is the major number of all loop devices.
	Major = 7
	// nameLimit is the size of lo_file_name less its closing zero.
	nameLimit = unix.LO_NAME_SIZE - 1
	// claims is how often Attach looks for another free device when somebody else
	// was faster.
	claims = 64
)

// Device is a loop device with a file attached.
type Device struct {
	Number int
	// Path is /dev/loopN.
	Path string
	// Name is what its owner called it.
	Name string
	// Dev and Inode are the file's, as stat(2) has them.
	Dev, Inode uint64
	// ReadOnly devices refuse writes.
	ReadOnly bool
}

// Rdev is the device's number as stat(2) has it in st_rdev.
func (d Device) Rdev() uint64 { return unix.Mkdev(Major, uint32(d.Number)) }

// Options of Attach.
type Options struct {
	// Name is how the device is found again.
	Name string
	// ReadOnly refuses writes.
	ReadOnly bool
}

func path(n int) string { return "/dev/loop" + strconv.Itoa(n) }

// List returns all devices that have a file.
func List() ([]Device, error) {
	// Only a device with a file has this directory, so that no other one is opened.
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var all []Device
	for _, d := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(d)), "loop"))
		if err != nil {
			continue
		}
		dev, err := status(n)
		switch {
		case err == nil:
			all = append(all, dev)
		case errors.Is(err, unix.ENXIO), errors.Is(err, fs.ErrNotExist): // detached meanwhile
		default:
			return nil, err
		}
	}
	return all, nil
}

func status(n int) (Device, error) {
	f, err := open(n, os.O_RDONLY)
	if err != nil {
		return Device{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return Device{}, fmt.Errorf("ask %s for its file: %w", path(n), err)
	}
	return Device{
		Number: n, Path: path(n), Name: unix.ByteSliceToString(info.File_name[:]),
		Dev: info.Device, Inode: info.Inode, ReadOnly: info.Flags&unix.LO_FLAGS_READ_ONLY != 0,
	}, nil
}

// open opens a device, whose node it makes where /dev is not the kernel's own.
func open(n, flags int) (*os.File, error) {
	f, err := os.OpenFile(path(n), flags|unix.O_CLOEXEC, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if _, err := os.Stat("/sys/block/loop" + strconv.Itoa(n)); err != nil {
		return nil, err
	}
	if err := unix.Mknod(path(n), unix.S_IFBLK|0o660, int(unix.Mkdev(Major, uint32(n)))); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make %s: %w", path(n), err)
	}
	return os.OpenFile(path(n), flags|unix.O_CLOEXEC, 0)
}

// Find returns the device that a file is attached to.
func Find(file string) (Device, bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return Device{}, false, fmt.Errorf("stat %s: %w", file, err)
	}
	all, err := List()
	if err != nil {
		return Device{}, false, err
	}
	for _, d := range all {
		if d.Dev == st.Dev && d.Inode == st.Ino {
			return d, true, nil
		}
	}
	return Device{}, false, nil
}

// Attach attaches a file, or returns the device that it is attached to already.
// Two calls for one file must not run at the same time. The page cache is the
// file system's above: the device itself reads and writes directly where it can.
func Attach(ctx context.Context, file string, o Options) (Device, error) {
	if len(o.Name) > nameLimit {
		return Device{}, fmt.Errorf("loop device's name %q: at most %d bytes", o.Name, nameLimit)
	}
	if d, ok, err := Find(file); ok || err != nil {
		return d, err
	}
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(file, flags, 0)
	if err != nil {
		return Device{}, err
	}
	defer f.Close()
	c, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return Device{}, fmt.Errorf("find a free loop device (is the module loop loaded?): %w", err)
	}
	defer c.Close()
	for range claims {
		if err := ctx.Err(); err != nil {
			return Device{}, fmt.Errorf("attach %s: %w", file, err)
		}
		n, err := unix.IoctlRetInt(int(c.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return Device{}, fmt.Errorf("find a free loop device: %w", err)
		}
		renewQueue(c, n)
		err = configure(n, f, flags, o)
		if err == nil {
			return status(n)
		}
		if !errors.Is(err, unix.EBUSY) { // else somebody was faster
			return Device{}, fmt.Errorf("attach %s to %s: %w", file, path(n), err)
		}
	}
	return Device{}, fmt.Errorf("attach %s: all of %d free loop devices were taken by others meanwhile", file, claims)
}

// renewQueue makes a free device anew whose discards somebody has turned off: that
// setting outlives the one who made it, and cannot be taken back. Whoever holds the
// device meanwhile keeps it as it is.
func renewQueue(c *os.File, n int) {
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/queue/discard_max_bytes", n))
	if err != nil || strings.TrimSpace(string(b)) != "0" {
		return
	}
	if err := unix.IoctlSetInt(int(c.Fd()), unix.LOOP_CTL_REMOVE, n); err != nil {
		return
	}
	_ = unix.IoctlSetInt(int(c.Fd()), unix.LOOP_CTL_ADD, n)
}

func configure(n int, f *os.File, flags int, o Options) error {
	l, err := open(n, flags)
	if err != nil {
		return err
	}
	defer l.Close()
	// Sectors of 512 bytes, which is what guests' disks have.
	cfg := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 512}
	cfg.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	if o.ReadOnly {
		cfg.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(cfg.Info.File_name[:], o.Name)
	return unix.IoctlLoopConfigure(int(l.Fd()), &cfg)
}

// Resize has a device take up its file's size.
func Resize(d Device) error {
	f, err := open(d.Number, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("resize %s: %w", d.Path, err)
	}
	return nil
}

// Detach detaches a file and returns when it is detached. A device that is still
// open or mounted is detached by the kernel when it no longer is; the context ends
// the wait for that.
func Detach(ctx context.Context, d Device) error {
	for first := true; ; first = false {
		now, err := status(d.Number)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if now.Dev != d.Dev || now.Inode != d.Inode {
			return nil // it has another's file by now
		}
		if first {
			if err := clear(d.Number); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) {
				return fmt.Errorf("detach %s: %w", d.Path, err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("detach %s (%s): it is still in use: %w", d.Path, d.Name, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
		if err := clear(d.Number); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("detach %s: %w", d.Path, err)
		}
	}
}

func clear(n int) error {
	f, err := open(n, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
}
