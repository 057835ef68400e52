// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// openTaps opens taps that the agent made and gave to this user. The descriptors
// are not blocking, as QEMU wants them, and get their numbers last of all.
func openTaps(device string, taps []contract.Tap) ([]inherited, error) {
	var list []inherited
	for _, t := range taps {
		if t.FD < contract.FirstTapFD || t.FD > maxFD {
			return nil, fmt.Errorf("tap %s: descriptor %d: must be between %d and %d", t.Name, t.FD, contract.FirstTapFD, maxFD)
		}
	}
	for _, t := range taps {
		fd, err := openTap(device, t)
		if err != nil {
			return nil, fmt.Errorf("open tap %s: %w", t.Name, err)
		}
		list = append(list, inherited{name: "tap " + t.Name, opened: fd, want: t.FD})
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
