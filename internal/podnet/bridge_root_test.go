// SPDX-License-Identifier: Apache-2.0

//go:build root

package podnet

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/netns/netnstest"
)

func bridgeConfig() Config {
	return Config{UID: 107, GID: 107, Seed: "c0ffee", NICs: []NIC{{Name: "default", Binding: Bridge, VnetHdr: true}}}
}

func TestBridge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	c := bridgeConfig()
	a := w.setup(c)[0]
	want := Attached{
		Name: "default", Binding: Bridge, Tap: "tap0", Bridge: "k6t-eth0", PodInterface: "eth0",
		MAC: podMAC, MTU: mtu,
		PodIPs:    []netip.Addr{netip.MustParseAddr(podIP), netip.MustParseAddr(podIP6)},
		Addresses: []netip.Prefix{netip.MustParsePrefix(podIP + "/24"), netip.MustParsePrefix(podIP6 + "/64")},
		Routes: []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(nodeIP)},
			{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("10.244.7.7")},
			{netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00:7::1")},
		},
		DHCPServer: bridgeServer,
	}
	if diff := cmp.Diff(want, a, comparers); diff != "" {
		t.Fatalf("Attached (-want +got):\n%s", diff)
	}
	g := w.guest(a)
	serve(t, w.neighbour, "tcp", ":8080")
	serve(t, g.NS, "tcp", ":9090")
	mustAsk(t, "guest to another pod", g.NS, neighbourIP+":8080", podIP)
	mustAsk(t, "guest to another pod, IPv6", g.NS, "[fd00:7::9]:8080", podIP6)
	mustAsk(t, "another pod to the guest", w.neighbour, podIP+":9090", neighbourIP)
	mustAsk(t, "another pod to the guest, IPv6", w.neighbour, "["+podIP6+"]:9090", "fd00:7::9")
	mustAsk(t, "the node to the guest", w.node, podIP+":9090", nodeIP)

	// The address is the guest's alone: its MAC answers ARP, and nobody's beside it.
	netnstest.IP(t, w.neighbour, "neigh flush dev eth0")
	mustAsk(t, "another pod to the guest after a flush", w.neighbour, podIP+":9090", neighbourIP)
	if out := netnstest.Exec(t, w.neighbour, "ip", "neigh", "show", podIP); !strings.Contains(out, podMAC.String()) {
		t.Errorf("the neighbour sees %s", out)
	}
	// Whoever looks for the pod's addresses at its interface finds them.
	out := netnstest.Exec(t, w.pod, "ip", "addr", "show", "eth0")
	if !strings.Contains(out, podIP+"/24") || !strings.Contains(out, podIP6+"/64") || !strings.Contains(out, "NOARP") || strings.Contains(out, ",UP") {
		t.Errorf("placeholder:\n%s", out)
	}
	if diff := cmp.Diff(a, w.setup(c)[0], comparers); diff != "" {
		t.Errorf("second Setup (-first +second):\n%s", diff)
	}
	mustAsk(t, "another pod to the guest after a second Setup", w.neighbour, podIP+":9090", neighbourIP)
}

func TestBridgeWithMAC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	c := bridgeConfig()
	c.NICs[0].MAC = net.HardwareAddr{0x02, 1, 2, 3, 4, 5}
	a := w.setup(c)[0]
	if a.MAC.String() != "02:01:02:03:04:05" {
		t.Errorf("MAC %s", a.MAC)
	}
	g := w.guest(a)
	serve(t, g.NS, "tcp", ":9090")
	mustAsk(t, "another pod to the guest", w.neighbour, podIP+":9090", neighbourIP)
}

// A pod network as point-to-point plugins make it: a /32 and a gateway on the link.
func TestBridgePointToPoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	netnstest.IP(t, w.pod, "addr flush dev eth0", "addr add "+podIP+"/32 dev eth0",
		"route add 10.244.7.1/32 dev eth0 scope link", "route add default via 10.244.7.1 dev eth0")
	a := w.setup(bridgeConfig())[0]
	want := []Route{
		{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(nodeIP)},
		{netip.MustParsePrefix("10.244.7.1/32"), netip.Addr{}},
	}
	if diff := cmp.Diff(want, a.Routes, comparers); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}
