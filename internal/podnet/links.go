// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// setup is one call of Setup, on a thread that is in the pod's namespace.
type setup struct {
	ctx      context.Context
	nl       *netlink.Handle
	uid, gid int
	seed     string
}

// beforeChange is called before each change to the namespace; an error ends
// Setup there. Tests use it to die at every step.
var beforeChange = func(string) error { return nil }

func newSetup(ctx context.Context, c Config) (*setup, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := h.SetSocketTimeout(10 * time.Second); err != nil {
		h.Close()
		return nil, fmt.Errorf("set rtnetlink timeout: %w", err)
	}
	return &setup{ctx: ctx, nl: h, uid: c.UID, gid: c.GID, seed: c.Seed}, nil
}

func (s *setup) close() { s.nl.Close() }

// change runs one step that alters the namespace.
func (s *setup) change(what string, f func() error) error {
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := beforeChange(what); err != nil {
		return err
	}
	if err := failpoint.Hit(s.ctx, "agent.network.before-change"); err != nil {
		return err
	}
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// attach sets up one interface.
func (s *setup) attach(nic NIC) (Attached, error) {
	n := namesOf(nic.PodInterface)
	if nic.Binding == Masquerade {
		return s.masquerade(nic, n)
	}
	return s.bridge(nic, n)
}

// find returns the link or nil.
func (s *setup) find(name string) (netlink.Link, error) {
	l, err := s.nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for link %s: %w", name, err)
	}
	return l, nil
}

// ensureBridge makes the bridge, or makes what is there right. It stays down.
func (s *setup) ensureBridge(name string, mac net.HardwareAddr, mtu int) (netlink.Link, error) {
	l, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		off := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = name, mac, mtu
		err := s.change("make bridge "+name, func() error {
			return s.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off})
		})
		if err != nil {
			return nil, err
		}
		if l, err = s.nl.LinkByName(name); err != nil {
			return nil, fmt.Errorf("look for new bridge %s: %w", name, err)
		}
	}
	if l.Type() != "bridge" {
		return nil, fmt.Errorf("link %s is a %s: want a bridge", name, l.Type())
	}
	return l, s.ensureAttrs(l, mac, mtu)
}

// ensureAttrs sets a link's MAC and MTU where they differ.
func (s *setup) ensureAttrs(l netlink.Link, mac net.HardwareAddr, mtu int) error {
	a := l.Attrs()
	if mac != nil && a.HardwareAddr.String() != mac.String() {
		if err := s.change("set MAC of "+a.Name, func() error { return s.nl.LinkSetHardwareAddr(l, mac) }); err != nil {
			return err
		}
	}
	if a.MTU != mtu {
		return s.change("set MTU of "+a.Name, func() error { return s.nl.LinkSetMTU(l, mtu) })
	}
	return nil
}

func (s *setup) ensureMaster(l, bridge netlink.Link) error {
	if l.Attrs().MasterIndex == bridge.Attrs().Index {
		return nil
	}
	return s.change("put "+l.Attrs().Name+" into "+bridge.Attrs().Name, func() error { return s.nl.LinkSetMaster(l, bridge) })
}

func (s *setup) ensureUp(l netlink.Link) error {
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	return s.change("set "+l.Attrs().Name+" up", func() error { return s.nl.LinkSetUp(l) })
}

// ensureNoARP keeps the kernel from answering ARP on the link: behind it are
// addresses that are the guest's.
func (s *setup) ensureNoARP(l netlink.Link) error {
	if l.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return nil
	}
	return s.change("set "+l.Attrs().Name+" noarp", func() error { return s.nl.LinkSetARPOff(l) })
}

// ensureAddress gives the link the address, without duplicate detection.
func (s *setup) ensureAddress(l netlink.Link, p netip.Prefix) error {
	have, err := s.nl.AddrList(l, familyOf(p.Addr()))
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, a := range have {
		if got, ok := prefixOf(a.IPNet); ok && got == p {
			return nil
		}
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return s.change("give "+p.String()+" to "+l.Attrs().Name, func() error { return s.nl.AddrAdd(l, addr) })
}

// globalAddresses are the link's addresses that other hosts can use, IPv4 first.
func (s *setup) globalAddresses(l netlink.Link) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		addrs, err := s.nl.AddrList(l, family)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// sysctl sets net/<key> in the namespace. A key that the kernel does not have
// is an error unless it is optional.
func (s *setup) sysctl(key, value string, optional bool) error {
	path := filepath.Join("/proc/sys/net", key)
	have, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && optional {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", key, err)
	}
	if strings.TrimSpace(string(have)) == value {
		return nil
	}
	return s.change("set sysctl "+key+" to "+value, func() error { return os.WriteFile(path, []byte(value), 0o644) })
}

// quietIPv6 keeps the kernel's IPv6 off the link: no link-local address, no
// router advertisements believed.
func (s *setup) quietIPv6(link string) error {
	return s.sysctl("ipv6/conf/"+link+"/disable_ipv6", "1", true)
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	addr = addr.Unmap()
	if !ok || bits != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, ones), true
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func addrsOf(ps []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.Addr())
	}
	return out
}
