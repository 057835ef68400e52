// SPDX-License-Identifier: Apache-2.0

//go:build root

package podnet

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/internal/netns/netnstest"
)

var comparers = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func masqueradeConfig(ports ...Port) Config {
	return Config{UID: 107, GID: 107, Seed: "c0ffee", NICs: []NIC{{Name: "default", Binding: Masquerade, Ports: ports, VnetHdr: true}}}
}

func TestMasquerade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	c := masqueradeConfig()
	a := w.setup(c)[0]
	want := Attached{
		Name: "default", Binding: Masquerade, Tap: "tap0", Bridge: "k6t-eth0", PodInterface: "eth0",
		MAC: StableMAC("c0ffee", "default"), MTU: mtu,
		PodIPs:    []netip.Addr{netip.MustParseAddr(podIP), netip.MustParseAddr(podIP6)},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.2/24"), netip.MustParsePrefix("fd10:0:2::2/120")},
		Routes: []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.2.1")},
			{netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd10:0:2::1")},
		},
		DHCPServer: netip.MustParseAddr("10.0.2.1"),
	}
	if diff := cmp.Diff(want, a, comparers); diff != "" {
		t.Fatalf("Attached (-want +got):\n%s", diff)
	}
	g := w.guest(a)
	serve(t, w.neighbour, "tcp4", ":8080")
	serve(t, w.neighbour, "tcp6", ":8080")
	serve(t, g.NS, "tcp4", ":9090")
	serve(t, g.NS, "tcp6", ":9090")

	mustAsk(t, "guest to another pod", g.NS, neighbourIP+":8080", podIP)
	mustAsk(t, "guest to another pod, IPv6", g.NS, "[fd00:7::9]:8080", podIP6)
	mustAsk(t, "another pod to the guest", w.neighbour, podIP+":9090", neighbourIP)
	mustAsk(t, "another pod to the guest, IPv6", w.neighbour, "["+podIP6+"]:9090", "fd00:7::9")
	mustAsk(t, "the node to the guest", w.node, podIP+":9090", nodeIP)
	mustAsk(t, "port-forward from the pod's loopback", w.pod, "127.0.0.1:9090", "10.0.2.1")
	mustAsk(t, "the pod to its own address", w.pod, podIP+":9090", podIP)
	mustAsk(t, "the guest to its pod's address", g.NS, podIP+":9090", "10.0.2.1")

	// Level-triggered: again, with the guest running and its connections open.
	if diff := cmp.Diff(a, w.setup(c)[0], comparers); diff != "" {
		t.Errorf("second Setup (-first +second):\n%s", diff)
	}
	mustAsk(t, "another pod to the guest after a second Setup", w.neighbour, podIP+":9090", neighbourIP)

	netnstest.IP(t, w.neighbour, "route add 10.0.2.0/24 via "+podIP)
	mustFail(t, "past the pod's address", w.neighbour, "10.0.2.2:9090")

	// The guest's own 127/8 and other people's addresses end at the bridge.
	serve(t, w.pod, "tcp4", "127.0.0.2:7070")
	netnstest.Inside(t, g.NS, func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o644) })
	netnstest.IP(t, g.NS, "route add 127.0.0.2/32 via 10.0.2.1 table 99", "rule add to 127.0.0.2 pref 0 table 99", "rule add from all pref 100 lookup local", "rule del pref 0 table local")
	mustFail(t, "guest to the pod's loopback", g.NS, "127.0.0.2:7070")
	netnstest.IP(t, g.NS, "addr flush dev eth0", "addr add 10.0.2.77/24 dev eth0", "route add default via 10.0.2.1")
	mustFail(t, "guest with another address", g.NS, neighbourIP+":8080")
}

func TestMasqueradePorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	a := w.setup(masqueradeConfig(Port{"TCP", 9090}, Port{"UDP", 53}))[0]
	g := w.guest(a)
	serve(t, w.neighbour, "tcp4", ":8080")
	serve(t, g.NS, "tcp", ":9090")
	serve(t, g.NS, "tcp", ":9091")
	mustAsk(t, "open port", w.neighbour, podIP+":9090", neighbourIP)
	mustAsk(t, "open port, IPv6", w.neighbour, "["+podIP6+"]:9090", "fd00:7::9")
	mustAsk(t, "open port by loopback", w.pod, "127.0.0.1:9090", "10.0.2.1")
	mustAsk(t, "guest to another pod", g.NS, neighbourIP+":8080", podIP)
	mustFail(t, "closed port", w.neighbour, podIP+":9091")
	mustFail(t, "closed port, IPv6", w.neighbour, "["+podIP6+"]:9091")
	mustFail(t, "closed port by loopback", w.pod, "127.0.0.1:9091")
}

func TestMasqueradeOtherNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	c := masqueradeConfig()
	c.NICs[0].CIDR = netip.MustParsePrefix("172.30.0.8/29")
	a := w.setup(c)[0]
	if got := a.Addresses; len(got) != 1 || got[0].String() != "172.30.0.10/29" {
		t.Errorf("guest has %v", got)
	}
	g := w.guest(a)
	serve(t, w.neighbour, "tcp4", ":8080")
	mustAsk(t, "guest to another pod", g.NS, neighbourIP+":8080", podIP)

	c.NICs[0].CIDR = netip.MustParsePrefix("10.244.0.0/16")
	if _, err := Setup(t.Context(), w.pod, c); err == nil || !strings.Contains(err.Error(), "overlaps the pod's 10.244.7.5/24") {
		t.Errorf("Setup with an overlapping network: %v", err)
	}
}

func TestTapBelongsToQEMU(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	a := w.setup(masqueradeConfig())[0]
	out := netnstest.Exec(t, w.pod, "ip", "-d", "link", "show", a.Tap)
	for _, want := range []string{"user 107", "group 107", "persist on", "vnet_hdr on", "pi off", "mtu 1450", "master k6t-eth0"} {
		if !strings.Contains(out, want) {
			t.Errorf("tap has no %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "multi_queue on") {
		t.Errorf("tap has many queues:\n%s", out)
	}
}
