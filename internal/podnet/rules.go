// SPDX-License-Identifier: Apache-2.0

package podnet

import (
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

// dhcpChains keep DHCP between the guest and the packet socket on its tap: on a
// bridged pod network no neighbour hears the guest's requests or can answer them.
func dhcpChains(n names) []chain {
	pre := chain{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, nil}
	ipv4 := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		compare(true, binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)),
	}
	pre.add(ifname(expr.MetaKeyIIFNAME, n.tap, true), ipv4, dport(unix.IPPROTO_UDP, 67), drop)
	pre.add(ifname(expr.MetaKeyIIFNAME, n.port, true), ipv4, dport(unix.IPPROTO_UDP, 68), drop)
	return []chain{pre}
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
