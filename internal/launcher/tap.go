// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// tap is an open tap on its way to the number at which QEMU expects it.
type tap struct {
	name         string
	opened, want int
}

// openTaps opens taps that the agent made and gave to this user. The descriptors
// are not blocking, as QEMU wants them, and get their numbers last of all.
func openTaps(device string, taps []contract.Tap) ([]tap, error) {
	var list []tap
	highest := 0
	for _, t := range taps {
		if t.FD < contract.FirstTapFD || t.FD > 1000 {
			return nil, fmt.Errorf("tap %s: descriptor %d: must be between %d and 1000", t.Name, t.FD, contract.FirstTapFD)
		}
		highest = max(highest, t.FD)
	}
	for _, t := range taps {
		fd, err := openTap(device, t)
		if err != nil {
			return nil, fmt.Errorf("open tap %s: %w", t.Name, err)
		}
		if fd <= highest {
			// It might be another tap's number, which would close it.
			up, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, highest+1)
			if err != nil {
				return nil, fmt.Errorf("tap %s: move descriptor: %w", t.Name, err)
			}
			unix.Close(fd)
			fd = up
		}
		list = append(list, tap{name: t.Name, opened: fd, want: t.FD})
	}
	return list, nil
}

func openTap(device string, t contract.Tap) (int, error) {
	ifr, err := unix.NewIfreq(t.Name)
	if err != nil {
		return -1, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if t.VnetHdr {
		flags |= unix.IFF_VNET_HDR
	}
	ifr.SetUint16(flags)
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w (does the pod have the device resource for it?)", device, err)
	}
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: no such tap is in the pod, or it belongs to another user", err)
		}
		return -1, err
	}
	return fd, nil
}
