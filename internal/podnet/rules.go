// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chain is one base chain with its rules; nothing in this file does I/O.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    [][]expr.Any
}

// ctStatusDNAT is IPS_DST_NAT of the kernel's enum ip_conntrack_status.
const ctStatusDNAT = 1 << 5

// masqueradeChains are the rules between the guest and the pod for one family.
//
//	raw          the guest sends from its own address only, and not to 127/8
//	prerouting   what comes for the pod's address (or the allowed ports of it) goes to the guest
//	output       likewise from the pod itself; also from 127.0.0.1, where port-forward comes from
//	forward      nobody reaches the guest's private address past those rules
//	postrouting  the guest appears as the pod, and as its gateway to itself
func masqueradeChains(n names, nic NIC, gn guestNet) []chain {
	fromGuest, toGuest := ifname(expr.MetaKeyIIFNAME, n.bridge, true), ifname(expr.MetaKeyOIFNAME, n.bridge, true)
	src, dst := ipField(gn.guest, true), ipField(gn.guest, false)

	raw := chain{"raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, nil}
	if gn.guest.Is4() {
		loopback := netip.MustParsePrefix("127.0.0.0/8")
		raw.add(fromGuest, src.in(loopback, true), drop)
		raw.add(fromGuest, dst.in(loopback, true), drop)
		raw.add(fromGuest, src.is(gn.guest, false), drop)
		// The DHCP server listens on the tap itself; the kernel would only answer
		// that nobody does.
		raw.add(fromGuest, dport(unix.IPPROTO_UDP, 67), drop)
	} else {
		// Neighbour discovery needs the link-local and the unspecified address.
		raw.add(fromGuest, src.is(gn.guest, false), src.in(netip.MustParsePrefix("fe80::/10"), false),
			src.is(netip.IPv6Unspecified(), false), drop)
	}

	pre := chain{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest, nil}
	out := chain{"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest, nil}
	for _, match := range portMatches(nic.Ports) {
		for _, pod := range gn.pod {
			pre.add(dst.is(pod, true), match, dnat(gn.guest))
			out.add(dst.is(pod, true), match, dnat(gn.guest))
		}
		if gn.guest.Is4() {
			out.add(dst.is(netip.AddrFrom4([4]byte{127, 0, 0, 1}), true), match, dnat(gn.guest))
		}
	}

	fwd := chain{"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter, nil}
	fwd.add(toGuest, ctNew, ctNotDNAT, drop)

	post := chain{"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource, nil}
	post.add(src.is(gn.guest, true), masquerade)
	if gn.guest.Is4() {
		post.add(toGuest, src.in(netip.MustParsePrefix("127.0.0.0/8"), true), masquerade)
	}
	return []chain{raw, pre, out, fwd, post}
}

// bridgeChains are the rules between the guest and a bridged pod network, where it
// sees its neighbours' frames.
//
// They keep DHCP between the guest and the packet socket on its tap: no neighbour
// hears the guest's requests or can answer them. And they keep the guest from
// speaking in its neighbours' or the gateway's name: it sends from its MAC and its
// addresses, claims no others by ARP or neighbour discovery, and is no router.
func bridgeChains(n names, mac net.HardwareAddr, addrs []netip.Addr) []chain {
	pre := chain{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, nil}
	fromGuest := ifname(expr.MetaKeyIIFNAME, n.tap, true)
	v4, arp, v6 := etherType(unix.ETH_P_IP, true), etherType(unix.ETH_P_ARP, true), etherType(unix.ETH_P_IPV6, true)
	pre.add(fromGuest, v4, dport(unix.IPPROTO_UDP, 67), drop)
	pre.add(ifname(expr.MetaKeyIIFNAME, n.port, true), v4, dport(unix.IPPROTO_UDP, 68), drop)

	// not matches what is at f when it is none of the guest's addresses of a family.
	not := func(f field, is4 bool) []expr.Any {
		var out []expr.Any
		for _, a := range addrs {
			if a.Is4() == is4 {
				out = append(out, f.is(a, false)...)
			}
		}
		return out
	}
	linkLocal := netip.MustParsePrefix("fe80::/10")
	pre.add(fromGuest, at(expr.PayloadBaseLLHeader, 6, mac, false), drop)
	// Tagged frames would carry anything past the rest.
	pre.add(fromGuest, etherType(unix.ETH_P_IP, false), etherType(unix.ETH_P_ARP, false), etherType(unix.ETH_P_IPV6, false), drop)
	pre.add(fromGuest, v4, not(field{12, 4}, true), drop)
	// The sender's addresses in an ARP packet (RFC 826): it asks with none of its own
	// while it looks whether one is free (RFC 5227).
	pre.add(fromGuest, arp, at(expr.PayloadBaseNetworkHeader, 8, mac, false), drop)
	pre.add(fromGuest, arp, not(field{14, 4}, true), field{14, 4}.is(netip.IPv4Unspecified(), false), drop)
	pre.add(fromGuest, v6, not(field{8, 16}, false), field{8, 16}.in(linkLocal, false), field{8, 16}.is(netip.IPv6Unspecified(), false), drop)
	// Router advertisements, neighbour advertisements of other targets, redirects (RFC 4861).
	pre.add(fromGuest, v6, icmpv6(134), drop)
	pre.add(fromGuest, v6, icmpv6(137), drop)
	target := func(parts ...[]expr.Any) []expr.Any { // 8 bytes into the message
		all := slices.Concat(parts...)
		for _, e := range all {
			if p, ok := e.(*expr.Payload); ok {
				p.Base = expr.PayloadBaseTransportHeader
			}
		}
		return all
	}
	pre.add(fromGuest, v6, icmpv6(136), target(not(field{8, 16}, false), field{8, 16}.in(linkLocal, false)), drop)
	return []chain{pre}
}

// attachedChains are the rules on a network beside the pods' own: only DHCP is kept
// between the guest and its tap, where it is answered; on a network without IPv4
// addresses of ours it is the network's own.
func attachedChains(n names, addrs []netip.Prefix) []chain {
	pre := chain{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, nil}
	if slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		v4 := etherType(unix.ETH_P_IP, true)
		pre.add(ifname(expr.MetaKeyIIFNAME, n.tap, true), v4, dport(unix.IPPROTO_UDP, 67), drop)
		pre.add(ifname(expr.MetaKeyIIFNAME, n.port, true), v4, dport(unix.IPPROTO_UDP, 68), drop)
	}
	return []chain{pre}
}

func etherType(proto uint16, equal bool) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, compare(equal, binaryutil.BigEndian.PutUint16(proto))}
}

// at compares bytes of a packet.
func at(base expr.PayloadBase, offset uint32, data []byte, equal bool) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(data))}, compare(equal, data)}
}

func icmpv6(kind byte) []expr.Any {
	return slices.Concat(
		[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, compare(true, []byte{unix.IPPROTO_ICMPV6})},
		at(expr.PayloadBaseTransportHeader, 0, []byte{kind}, true))
}

func (c *chain) add(parts ...[]expr.Any) { c.rules = append(c.rules, slices.Concat(parts...)) }

var (
	drop       = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	masquerade = []expr.Any{&expr.Masq{}}
	ctNew      = ctBits(expr.CtKeySTATE, expr.CtStateBitNEW, true)
	ctNotDNAT  = ctBits(expr.CtKeySTATUS, ctStatusDNAT, false)
)

func ctBits(key expr.CtKey, bits uint32, set bool) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		compare(!set, make([]byte, 4)),
	}
}

func compare(equal bool, data []byte) *expr.Cmp {
	op := expr.CmpOpNeq
	if equal {
		op = expr.CmpOpEq
	}
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

func ifname(key expr.MetaKey, name string, equal bool) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, compare(equal, data)}
}

// field is the source or destination address in the IP header.
type field struct{ offset, length uint32 }

func ipField(family netip.Addr, source bool) field {
	switch {
	case family.Is4() && source:
		return field{12, 4}
	case family.Is4():
		return field{16, 4}
	case source:
		return field{8, 16}
	default:
		return field{24, 16}
	}
}

func (f field) load() *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.offset, Len: f.length}
}

func (f field) is(a netip.Addr, equal bool) []expr.Any {
	return []expr.Any{f.load(), compare(equal, a.AsSlice())}
}

func (f field) in(p netip.Prefix, equal bool) []expr.Any {
	return []expr.Any{
		f.load(),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.length, Mask: ipNet(p).Mask, Xor: make([]byte, f.length)},
		compare(equal, p.Masked().Addr().AsSlice()),
	}
}

// portMatches has one match for each port, or one that matches everything.
func portMatches(ports []Port) [][]expr.Any {
	if len(ports) == 0 {
		return [][]expr.Any{nil}
	}
	var out [][]expr.Any
	for _, p := range ports {
		proto := byte(unix.IPPROTO_TCP)
		if p.Protocol == "UDP" {
			proto = unix.IPPROTO_UDP
		}
		out = append(out, dport(proto, p.Port))
	}
	return out
}

func dport(proto byte, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		compare(true, []byte{proto}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		compare(true, binaryutil.BigEndian.PutUint16(port)),
	}
}

func dnat(to netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(familyOf(to)), RegAddrMin: 1},
	}
}
