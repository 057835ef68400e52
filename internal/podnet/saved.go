// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// saved is what the pod's interface was before its address moved to the guest.
type saved struct {
	index     int // of the real interface; it keeps it when it is renamed
	mtu       int
	mac       net.HardwareAddr
	addresses []netip.Prefix
	routes    []Route
}

// lines is the text form of saved, parseSaved its inverse.
func (v saved) lines() []string {
	out := []string{"index " + strconv.Itoa(v.index), "mtu " + strconv.Itoa(v.mtu), "mac " + v.mac.String()}
	for _, a := range v.addresses {
		out = append(out, "address "+a.String())
	}
	for _, r := range v.routes {
		line := "route " + r.Dst.String()
		if r.Gateway.IsValid() {
			line += " via " + r.Gateway.String()
		}
		out = append(out, line)
	}
	return out
}

func parseSaved(lines []string) (saved, error) {
	var v saved
	for _, line := range lines {
		key, rest, _ := strings.Cut(line, " ")
		var err error
		switch key {
		case "index":
			v.index, err = strconv.Atoi(rest)
		case "mtu":
			v.mtu, err = strconv.Atoi(rest)
		case "mac":
			v.mac, err = net.ParseMAC(rest)
		case "address":
			var p netip.Prefix
			p, err = netip.ParsePrefix(rest)
			v.addresses = append(v.addresses, p)
		case "route":
			var r Route
			dst, via, gateway := strings.Cut(rest, " via ")
			if r.Dst, err = netip.ParsePrefix(dst); err == nil && gateway {
				r.Gateway, err = netip.ParseAddr(via)
			}
			v.routes = append(v.routes, r)
		default:
			err = errors.New("unknown key")
		}
		if err != nil {
			return saved{}, fmt.Errorf("saved line %q: %w", line, err)
		}
	}
	if v.index <= 0 || v.mtu <= 0 || len(v.mac) != 6 {
		return saved{}, fmt.Errorf("saved state has no index, mtu or mac: %q", lines)
	}
	return v, nil
}

// remember returns the state from before the first change, saving it now if it
// is not saved yet.
func (s *setup) remember(n names) (saved, error) {
	lines, err := readNotes(n)
	if err != nil {
		return saved{}, err
	}
	if lines != nil {
		return parseSaved(lines)
	}
	v, err := s.observe(n)
	if err != nil {
		return saved{}, err
	}
	return v, s.change("save the state of "+n.pod, func() error { return writeNotes(n, v.lines()) })
}

// observe reads the untouched pod interface.
func (s *setup) observe(n names) (saved, error) {
	l, err := s.find(n.pod)
	if err != nil {
		return saved{}, err
	}
	if l == nil {
		return saved{}, fmt.Errorf("the pod has no link %s", n.pod)
	}
	if l.Type() == "bridge" {
		return saved{}, fmt.Errorf("link %s is a bridge and nothing is saved about the pod's own interface", n.pod)
	}
	v := saved{index: l.Attrs().Index, mtu: l.Attrs().MTU, mac: l.Attrs().HardwareAddr}
	if len(v.mac) != 6 {
		return saved{}, fmt.Errorf("link %s has no Ethernet address: the bridge binding needs one", n.pod)
	}
	if v.addresses, err = s.globalAddresses(l); err != nil {
		return saved{}, err
	}
	v.routes, err = s.guestRoutes(l)
	return v, err
}

// guestRoutes are the routes over the link that a guest in the pod's place
// needs beside those that its address implies.
func (s *setup) guestRoutes(l netlink.Link) ([]Route, error) {
	var out []Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := s.nl.RouteListFiltered(family, &netlink.Route{LinkIndex: l.Attrs().Index, Table: unix.RT_TABLE_MAIN},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes of %s: %w", l.Attrs().Name, err)
		}
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_KERNEL || r.Type != unix.RTN_UNICAST {
				continue
			}
			route := Route{}
			var ok bool
			if route.Dst, ok = prefixOf(r.Dst); !ok {
				zero := netip.IPv4Unspecified()
				if family == unix.AF_INET6 {
					zero = netip.IPv6Unspecified()
				}
				route.Dst = netip.PrefixFrom(zero, 0)
			}
			if gw, ok := netip.AddrFromSlice(r.Gw); ok {
				route.Gateway = gw.Unmap()
			}
			if route.Dst.Addr().IsLinkLocalUnicast() && route.Dst.Addr().Is6() || route.Dst.Addr().IsMulticast() {
				continue
			}
			out = append(out, route)
		}
	}
	return out, nil
}
