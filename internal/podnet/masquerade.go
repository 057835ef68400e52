// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// masquerade puts the guest behind the pod's address: the bridge is the guest's
// gateway, and nftables translates.
func (s *setup) masquerade(nic NIC, n names) (Attached, error) {
	pod, err := s.find(n.pod)
	if err != nil {
		return Attached{}, err
	}
	if pod == nil {
		return Attached{}, fmt.Errorf("the pod has no link %s", n.pod)
	}
	podAddrs, err := s.globalAddresses(pod)
	if err != nil {
		return Attached{}, err
	}
	nets, err := guestNets(nic, podAddrs)
	if err != nil {
		return Attached{}, err
	}
	mtu := pod.Attrs().MTU

	bridge, err := s.ensureBridge(n.bridge, bridgeMAC, mtu)
	if err != nil {
		return Attached{}, err
	}
	tap, err := s.ensureTap(n.tap, nic.VnetHdr, mtu)
	if err != nil {
		return Attached{}, err
	}
	// The rules come before anything can flow.
	if err := s.change("write nftables tables "+n.table, func() error { return writeMasquerade(n, nic, nets) }); err != nil {
		return Attached{}, err
	}
	if err := s.masqueradeSysctls(n, pod, nets); err != nil {
		return Attached{}, err
	}
	for _, gn := range nets {
		if err := s.ensureAddress(bridge, netip.PrefixFrom(gn.gateway, gn.cidr.Bits())); err != nil {
			return Attached{}, err
		}
	}
	if err := s.ensureUp(bridge); err != nil {
		return Attached{}, err
	}
	if err := s.plug(tap, bridge); err != nil {
		return Attached{}, err
	}

	a := Attached{
		Name: nic.Name, Binding: nic.Binding, Tap: n.tap, Bridge: n.bridge, PodInterface: n.pod,
		MAC: nic.MAC, MTU: mtu, PodIPs: addrsOf(podAddrs),
	}
	for _, gn := range nets {
		a.Addresses = append(a.Addresses, netip.PrefixFrom(gn.guest, gn.cidr.Bits()))
		a.Routes = append(a.Routes, Route{Dst: netip.PrefixFrom(unspecified(gn.guest), 0), Gateway: gn.gateway})
		if gn.guest.Is4() {
			a.DHCPServer = gn.gateway
		}
	}
	return a, nil
}

// guestNet is the guest's network of one address family.
type guestNet struct {
	cidr           netip.Prefix
	gateway, guest netip.Addr
	pod            []netip.Addr // the pod's addresses of that family
}

// guestNets returns the guest's networks, for the families that the pod has.
func guestNets(nic NIC, podAddrs []netip.Prefix) ([]guestNet, error) {
	var out []guestNet
	for _, cidr := range []netip.Prefix{nic.CIDR, nic.CIDR6} {
		gn := guestNet{cidr: cidr, gateway: cidr.Addr().Next()}
		gn.guest = gn.gateway.Next()
		for _, p := range podAddrs {
			if p.Addr().Is4() != cidr.Addr().Is4() {
				continue
			}
			if cidr.Overlaps(p.Masked()) {
				return nil, fmt.Errorf("guest network %s overlaps the pod's %s: choose another vmNetworkCIDR", cidr, p)
			}
			gn.pod = append(gn.pod, p.Addr())
		}
		if len(gn.pod) > 0 {
			out = append(out, gn)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("pod interface %s has no address to masquerade behind", nic.PodInterface)
	}
	return out, nil
}

func (s *setup) masqueradeSysctls(n names, pod netlink.Link, nets []guestNet) error {
	type setting struct {
		key, value string
		optional   bool
	}
	// Bridged frames need not pass the IP rules a second time.
	want := []setting{
		{"bridge/bridge-nf-call-iptables", "0", true},
		{"bridge/bridge-nf-call-ip6tables", "0", true},
	}
	v6 := false
	for _, gn := range nets {
		if gn.guest.Is6() {
			v6 = true
			continue
		}
		want = append(want,
			setting{"ipv4/ip_forward", "1", false},
			// So that what a port-forward sends to 127.0.0.1 can leave for the guest;
			// the raw chain keeps the guest's own 127/8 out.
			setting{"ipv4/conf/" + n.bridge + "/route_localnet", "1", false},
			setting{"ipv4/conf/" + n.bridge + "/send_redirects", "0", false},
			setting{"ipv4/conf/" + n.bridge + "/accept_redirects", "0", false})
	}
	link := "ipv6/conf/" + n.bridge + "/"
	if !v6 {
		want = append(want, setting{link + "disable_ipv6", "1", true})
	} else {
		// Forwarding makes an interface stop believing routers unless told twice.
		have, err := readSysctl("ipv6/conf/" + n.pod + "/accept_ra")
		if err != nil {
			return err
		}
		if have == "1" {
			want = append(want, setting{"ipv6/conf/" + n.pod + "/accept_ra", "2", false})
		}
		want = append(want,
			setting{link + "disable_ipv6", "0", false},
			setting{link + "accept_ra", "0", false},
			setting{link + "accept_dad", "0", false},
			setting{link + "accept_redirects", "0", false},
			setting{"ipv6/conf/all/forwarding", "1", false})
	}
	for _, w := range want {
		if err := s.sysctl(w.key, w.value, w.optional); err != nil {
			return err
		}
	}
	return nil
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
