// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config describes the node's side of the pod network.
type Config struct {
	Bridge      string
	Address     netip.Addr // the bridge's
	PodCIDR     netip.Prefix
	ServiceCIDR netip.Prefix
	// Open lets other machines reach the node's address on the bridge. Otherwise
	// only this machine and its pods do.
	Open bool
}

// Ensure makes what is missing and corrects what differs.
func Ensure(ctx context.Context, c Config) error {
	br, err := ensureBridge(c)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", c.Bridge, err)
	}
	// Services' addresses are translated before they are routed, except for
	// connections that begin on this machine: those need a route first, which a
	// machine without a default route lacks.
	route := &netlink.Route{LinkIndex: br.Attrs().Index, Dst: ipNet(c.ServiceCIDR.Masked()), Scope: unix.RT_SCOPE_LINK, Src: net.IP(c.Address.AsSlice())}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route to the Services %s: %w", c.ServiceCIDR, err)
	}
	for _, s := range []struct{ name, value string }{
		{"ipv4/ip_forward", "1"},
		// Pods' ports are isolated (package cni): the node answers their ARP.
		{"ipv4/conf/" + c.Bridge + "/proxy_arp_pvlan", "1"},
		// And at once, not after up to 0.8 s.
		{"ipv4/neigh/" + c.Bridge + "/proxy_delay", "0"},
		// The node must not tell pods of a shorter way, which is closed.
		{"ipv4/conf/" + c.Bridge + "/send_redirects", "0"},
	} {
		if err := setSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	if _, err := RouteBridged(); err != nil {
		return err
	}
	return nft(ctx, Ruleset(c))
}

// BridgeFilter is the kernel's switch (below /proc/sys) that has bridged packets
// go through the IPv4 rules. It is there once the module br_netfilter is loaded,
// which switches it on.
const BridgeFilter = "net/bridge/bridge-nf-call-iptables"

// RouteBridged switches BridgeFilter off and says whether it was on. When it is
// on, a packet whose destination a Service changed to another pod is bridged
// there and not routed, which the isolation of the ports prevents: pods could not
// reach each other's Services. Others may switch it on at any time.
func RouteBridged() (wasOn bool, err error) {
	path := filepath.Join("/proc/sys", BridgeFilter)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil || strings.TrimSpace(string(b)) == "0" {
		return false, err
	}
	return true, setSysctl("bridge/bridge-nf-call-iptables", "0")
}

func ensureBridge(c Config) (netlink.Link, error) {
	link, err := netlink.LinkByName(c.Bridge)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		attrs := netlink.NewLinkAttrs()
		attrs.Name = c.Bridge
		attrs.HardwareAddr = hardwareAddr(c.Address)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("make it: %w", err)
		}
		if link, err = netlink.LinkByName(c.Bridge); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case link.Type() != "bridge":
		return nil, fmt.Errorf("an interface of that name is there, but it is a %s: remove it or choose another name", link.Type())
	}
	want := &netlink.Addr{IPNet: &net.IPNet{IP: net.IP(c.Address.AsSlice()), Mask: net.CIDRMask(c.PodCIDR.Bits(), 32)}}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	found := false
	for _, a := range addrs {
		found = found || a.IPNet.String() == want.IPNet.String()
	}
	if !found {
		if err := conflict(c); err != nil {
			return nil, err
		}
		if err := netlink.AddrAdd(link, want); err != nil {
			return nil, fmt.Errorf("add address %s: %w", want.IPNet, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set it up: %w", err)
	}
	return link, nil
}

// conflict says which interface already has an address in the pods' or the
// Services' network.
func conflict(c Config) error {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		p, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok {
			continue
		}
		for _, n := range []struct {
			flag string
			net  netip.Prefix
		}{{"--pod-cidr", c.PodCIDR}, {"--service-cidr", c.ServiceCIDR}} {
			if n.net.Contains(p) {
				return fmt.Errorf("address %s of interface %s lies in %s: choose another network with %s", p, a.Label, n.net, n.flag)
			}
		}
	}
	return nil
}

// hardwareAddr gives the bridge a locally administered address of its own, as it
// would otherwise take its ports' lowest and change with them, which breaks the
// neighbour tables of running guests.
func hardwareAddr(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), 32)}
}

func setSysctl(name, value string) error {
	path := filepath.Join("/proc/sys/net", name)
	if cur, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(cur)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return nil
}

// Ruleset is the whole table of the bridge, for `nft -f`. It replaces an earlier
// one in one step.
func Ruleset(c Config) string {
	var b strings.Builder
	line := func(s ...string) { b.WriteString(strings.Join(s, "") + "\n") }
	line("table inet ", c.Bridge)
	line("delete table inet ", c.Bridge)
	line("table inet ", c.Bridge, " {")
	line("\tchain pods-to-outside {")
	line("\t\ttype nat hook postrouting priority srcnat; policy accept;")
	line("\t\tip saddr ", c.PodCIDR.Masked().String(), " oifname != { \"lo\", \"", c.Bridge, "\" } masquerade")
	line("\t}")
	line("\tchain node-to-pods {")
	line("\t\ttype filter hook output priority filter; policy accept;")
	line("\t\toifname \"", c.Bridge, "\" icmp type redirect drop")
	line("\t}")
	if !c.Open {
		line("\tchain to-node {")
		line("\t\ttype filter hook input priority filter - 10; policy accept;")
		line("\t\tip daddr ", c.Address.String(), " iifname != { \"lo\", \"", c.Bridge, "\" } drop")
		line("\t}")
		line("\tchain outside-to-pods {")
		line("\t\ttype filter hook forward priority filter - 10; policy accept;")
		line("\t\toifname \"", c.Bridge, "\" iifname != \"", c.Bridge, "\" ct state new ct status & dnat == 0 drop")
		line("\t}")
	}
	line("}")
	return b.String()
}

func nft(ctx context.Context, ruleset string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load nftables rules: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
