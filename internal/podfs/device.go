// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sectorSize is the unit of /sys/dev/block/*/size, in bytes, for all devices.
const sectorSize = 512

// DeviceSize is the size in bytes of the block device that the process finds at
// path, as the kernel knows it now. The device is not opened.
func (p *Process) DeviceSize(path string) (int64, error) {
	ref, st, err := p.blockDevice(path)
	if err != nil {
		return 0, err
	}
	defer ref.Close()
	file := fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("size of device %s: %w", path, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/sectorSize {
		return 0, fmt.Errorf("size of device %s: %s has %q", path, file, b)
	}
	return n * sectorSize, nil
}

// OwnDevice gives the block device that the process finds at path to a user. It
// must be the container's own node for the device, in a directory that only root
// can write, as the container runtime makes it; the node's own file in /dev stays
// as it is.
func (p *Process) OwnDevice(path string, uid, gid int) error {
	ref, st, err := p.blockDevice(path)
	if err != nil {
		return err
	}
	defer ref.Close()
	if int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	var host unix.Stat_t
	if err := unix.Stat("/dev", &host); err == nil && host.Dev == st.Dev {
		return fmt.Errorf("device %s: it is in the node's /dev, and so is not given to user %d", path, uid)
	}
	if err := unix.Fchownat(fdOf(ref), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give device %s to user %d: %w", path, uid, err)
	}
	return nil
}

func (p *Process) blockDevice(path string) (*os.File, *unix.Stat_t, error) {
	f, err := p.open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	root := &Dir{f: f, name: f.Name(), resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	ref, err := root.openat2(strings.TrimPrefix(path, "/"), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && p.Exited() {
			err = ErrExited
		}
		return nil, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fdOf(ref), &st); err != nil {
		ref.Close()
		return nil, nil, root.pathError("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		ref.Close()
		return nil, nil, root.pathError("open", path, &TypeError{Want: "block device", Got: typeName(st.Mode)})
	}
	return ref, &st, nil
}
