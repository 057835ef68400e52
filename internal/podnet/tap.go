// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureTap makes the persistent tap, or checks the one that is there. A tap
// that QEMU has open is not touched.
func (s *setup) ensureTap(name string, vnetHdr bool, mtu int) (netlink.Link, error) {
	l, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		if err := s.change("make tap "+name, func() error { return s.makeTap(name, vnetHdr) }); err != nil {
			return nil, err
		}
		if l, err = s.nl.LinkByName(name); err != nil {
			return nil, fmt.Errorf("look for new tap %s: %w", name, err)
		}
	}
	tap, ok := l.(*netlink.Tuntap)
	if !ok || tap.Mode != netlink.TUNTAP_MODE_TAP {
		return nil, fmt.Errorf("link %s is a %s: want a tap", name, l.Type())
	}
	// The tap's own MAC is the bridge port's, never the guest's: a port with the
	// guest's MAC would take its frames.
	return l, s.ensureAttrs(l, macFrom("tap", s.seed, name), mtu)
}

// makeTap makes the tap in one go as far as a crash is concerned: it is made
// persistent last, so before that it ends with the process.
func (s *setup) makeTap(name string, vnetHdr bool) error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if vnetHdr {
		flags |= unix.IFF_VNET_HDR
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	for _, set := range []struct {
		name string
		req  uint
		arg  int
	}{{"TUNSETOWNER", unix.TUNSETOWNER, s.uid}, {"TUNSETGROUP", unix.TUNSETGROUP, s.gid}, {"TUNSETPERSIST", unix.TUNSETPERSIST, 1}} {
		if err := unix.IoctlSetInt(fd, set.req, set.arg); err != nil {
			return fmt.Errorf("%s %d: %w", set.name, set.arg, err)
		}
	}
	return nil
}

// plug makes the tap a port of the bridge and sets it up.
func (s *setup) plug(tap, bridge netlink.Link) error {
	if err := s.quietIPv6(tap.Attrs().Name); err != nil {
		return err
	}
	if err := s.ensureMaster(tap, bridge); err != nil {
		return err
	}
	return s.ensureUp(tap)
}

// portMAC is the MAC of the pod's interface once the guest has taken its own.
func (s *setup) portMAC(pod net.HardwareAddr, name string) net.HardwareAddr {
	return macFrom("port", s.seed, pod.String(), name)
}
