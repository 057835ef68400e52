// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeServer is what the DHCP server calls itself on a bridged pod network.
// It is nobody's address: the guest's packets to it pass the tap on their way
// to the gateway, and that is where the server listens.
var bridgeServer = netip.MustParseAddr("169.254.75.10")

// bridge moves the pod's address and MAC into the guest. The pod's interface
// becomes a port of a bridge with a MAC of its own, and a placeholder takes its
// name: down, without ARP, but with the addresses. So whoever looks for the
// pod's addresses at its interface still finds them (CNI plugins do, when they
// clean up), while the kernel does not hold them for its own.
func (s *setup) bridge(nic NIC, n names) (Attached, error) {
	was, err := s.remember(n)
	if err != nil {
		return Attached{}, err
	}
	port, err := s.makePort(n, was)
	if err != nil {
		return Attached{}, err
	}
	if err := s.placeholder(n, was); err != nil {
		return Attached{}, err
	}
	bridge, err := s.ensureBridge(n.bridge, macFrom("bridge", s.seed, was.mac.String()), was.mtu)
	if err != nil {
		return Attached{}, err
	}
	if err := s.quietIPv6(n.bridge); err != nil {
		return Attached{}, err
	}
	if err := s.ensureNoARP(bridge); err != nil {
		return Attached{}, err
	}
	// Bridged frames do not concern the pod's IP rules.
	for _, key := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
		if err := s.sysctl(key, "0", true); err != nil {
			return Attached{}, err
		}
	}
	tap, err := s.ensureTap(n.tap, nic.VnetHdr, was.mtu)
	if err != nil {
		return Attached{}, err
	}
	mac := was.mac
	if len(nic.MAC) > 0 {
		mac = nic.MAC
	}
	macvlan := port.Type() == "macvlan"
	if macvlan && mac.String() != was.mac.String() {
		return Attached{}, fmt.Errorf("a macvlan network takes frames for its own MAC %s only: the guest can't have %s", was.mac, mac)
	}
	chains := bridgeChains(n, mac, addrsOf(was.addresses))
	if nic.Attached {
		chains = attachedChains(n, was.addresses)
	}
	if err := s.change("write nftables table "+n.table, func() error { return writeBridgeGuard(n, chains) }); err != nil {
		return Attached{}, err
	}
	if err := s.plug(tap, bridge); err != nil {
		return Attached{}, err
	}
	if err := s.ensureMaster(port, bridge); err != nil {
		return Attached{}, err
	}
	if macvlan {
		if err := s.ensureNotLocal(port, bridge, mac); err != nil {
			return Attached{}, err
		}
	}
	if err := s.ensureUp(bridge); err != nil {
		return Attached{}, err
	}
	if err := s.ensureUp(port); err != nil {
		return Attached{}, err
	}

	a := Attached{
		Name: nic.Name, Binding: nic.Binding, Tap: n.tap, Bridge: n.bridge, PodInterface: n.pod,
		MAC: mac, MTU: was.mtu, PodIPs: addrsOf(was.addresses),
		Addresses: was.addresses, Routes: was.routes, DHCPServer: bridgeServer,
	}
	return a, nil
}

// makePort turns the pod's interface into the bridge's port-to-be: renamed,
// without addresses, and with a MAC that is not the guest's.
func (s *setup) makePort(n names, was saved) (netlink.Link, error) {
	l, err := s.nl.LinkByIndex(was.index)
	if err != nil {
		return nil, fmt.Errorf("look for the pod's interface %s (index %d): %w", n.pod, was.index, err)
	}
	if l.Attrs().Name != n.port {
		if l.Attrs().Flags&net.FlagUp != 0 {
			if err := s.change("set "+l.Attrs().Name+" down", func() error { return s.nl.LinkSetDown(l) }); err != nil {
				return nil, err
			}
		}
		if err := s.change("rename "+l.Attrs().Name+" to "+n.port, func() error { return s.nl.LinkSetName(l, n.port) }); err != nil {
			return nil, err
		}
		if l, err = s.nl.LinkByIndex(was.index); err != nil {
			return nil, fmt.Errorf("look for %s: %w", n.port, err)
		}
	}
	addrs, err := s.globalAddresses(l)
	if err != nil {
		return nil, err
	}
	for _, p := range addrs {
		if err := s.change("take "+p.String()+" from "+n.port, func() error { return s.nl.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}) }); err != nil {
			return nil, err
		}
	}
	if err := s.quietIPv6(n.port); err != nil {
		return nil, err
	}
	mac := s.portMAC(was.mac, n.pod)
	if l.Type() == "macvlan" {
		mac = was.mac // its parent sends it nothing else
	}
	return l, s.ensureAttrs(l, mac, was.mtu)
}

// ensureNotLocal has the bridge send frames for the MAC of its port on to the
// guest, which has the same: a bridge takes them for its own otherwise.
func (s *setup) ensureNotLocal(port, bridge netlink.Link, mac net.HardwareAddr) error {
	entries, err := s.nl.NeighList(port.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("list the addresses of bridge %s: %w", bridge.Attrs().Name, err)
	}
	for _, e := range entries {
		if e.HardwareAddr.String() != mac.String() || e.State&unix.NUD_PERMANENT == 0 || e.MasterIndex != bridge.Attrs().Index {
			continue
		}
		e := netlink.Neigh{LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, Flags: unix.NTF_MASTER, HardwareAddr: mac, Vlan: e.Vlan}
		err := s.change("take "+mac.String()+" from "+bridge.Attrs().Name, func() error { return s.nl.NeighDel(&e) })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// placeholder makes a link with the pod interface's name and addresses that is
// never up. It is a bridge without ports, since every host has those.
func (s *setup) placeholder(n names, was saved) error {
	l, err := s.find(n.pod)
	if err != nil {
		return err
	}
	if l == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = n.pod, was.mtu
		if err := s.change("make placeholder "+n.pod, func() error { return s.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}) }); err != nil {
			return err
		}
		if l, err = s.nl.LinkByName(n.pod); err != nil {
			return fmt.Errorf("look for new placeholder %s: %w", n.pod, err)
		}
	}
	if l.Type() != "bridge" {
		return fmt.Errorf("link %s is a %s: want the placeholder", n.pod, l.Type())
	}
	if l.Attrs().Flags&net.FlagUp != 0 {
		return errors.New("placeholder " + n.pod + " is up: the kernel would answer for the guest's addresses")
	}
	if err := s.ensureNoARP(l); err != nil {
		return err
	}
	for _, p := range was.addresses {
		if err := s.ensureAddress(l, p); err != nil {
			return err
		}
	}
	return nil
}
