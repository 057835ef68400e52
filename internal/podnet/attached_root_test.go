// SPDX-License-Identifier: Apache-2.0

//go:build root

package podnet

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/netns/netnstest"
)

const attachedLink = "pod37a8eec1ce1"

func attachedConfig() Config {
	return Config{UID: 107, GID: 107, Seed: "c0ffee", NICs: []NIC{
		{Name: "default", Binding: Masquerade, VnetHdr: false},
		{Name: "data", Binding: Bridge, PodInterface: attachedLink, Attached: true},
	}}
}

// segment adds a second network to the world: a switch, the machine's pod and a
// neighbour on it.
func (w *world) segment(link func(node *os.File)) {
	netnstest.IP(w.t, w.node, "link add br1 type bridge", "link set br1 up", "addr add 10.99.0.1/24 dev br1")
	netnstest.Link(w.t, w.node, "vethseg", w.neighbour, "eth1")
	netnstest.IP(w.t, w.node, "link set vethseg master br1 up")
	netnstest.IP(w.t, w.neighbour, "link set eth1 up", "addr add 10.99.0.9/24 dev eth1")
	link(w.node)
}

// A second network: the guest has its address and names, and may have more.
func TestAttachedNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	w.segment(func(node *os.File) {
		netnstest.Link(t, node, "vethdata", w.pod, attachedLink)
		netnstest.IP(t, node, "link set vethdata master br1 up")
		netnstest.IP(t, w.pod, "link set "+attachedLink+" up", "addr add 10.99.0.5/24 dev "+attachedLink)
	})
	got := w.setup(attachedConfig())
	if diff := cmp.Diff(got, w.setup(attachedConfig()), comparers); diff != "" {
		t.Errorf("second Setup (-first +second):\n%s", diff)
	}
	a := got[1]
	if a.Tap != "tap37a8eec1ce1" || a.Bridge != "k6t-37a8eec1ce1" || len(a.Addresses) != 1 || a.Addresses[0] != netip.MustParsePrefix("10.99.0.5/24") {
		t.Errorf("attached: %+v", a)
	}
	g := w.guest(a)
	serve(t, g.NS, "tcp", ":9090")
	serve(t, w.neighbour, "tcp", ":8080")
	mustAsk(t, "guest to neighbour", g.NS, "10.99.0.9:8080", "10.99.0.5")
	mustAsk(t, "neighbour to guest", w.neighbour, "10.99.0.5:9090", "10.99.0.9")
	mustAsk(t, "node to guest", w.node, "10.99.0.5:9090", "10.99.0.1")
	// A virtual address, as keepalived takes one.
	netnstest.IP(t, g.NS, "addr add 10.99.0.77/24 dev eth0")
	mustAsk(t, "neighbour to the guest's second address", w.neighbour, "10.99.0.77:9090", "10.99.0.9")
}

// A network without IPAM: the guest is on it as if it were plugged in.
func TestAttachedWithoutAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	w.segment(func(node *os.File) {
		netnstest.Link(t, node, "vethdata", w.pod, attachedLink)
		netnstest.IP(t, node, "link set vethdata master br1 up")
		netnstest.IP(t, w.pod, "link set "+attachedLink+" up")
	})
	a := w.setup(attachedConfig())[1]
	if len(a.Addresses) > 0 || len(a.PodIPs) > 0 {
		t.Errorf("addresses %v, %v", a.Addresses, a.PodIPs)
	}
	g := w.guest(a)
	netnstest.IP(t, g.NS, "addr add 10.99.0.6/24 dev eth0")
	serve(t, w.neighbour, "tcp", ":8080")
	mustAsk(t, "guest to neighbour", g.NS, "10.99.0.9:8080", "10.99.0.6")
	if out := netnstest.Exec(t, w.pod, "nft", "list", "ruleset"); strings.Contains(out, "dport 67 drop\n\t\tiifname \""+attachedLink) {
		t.Errorf("DHCP is kept from the network:\n%s", out)
	}
}

// macvlan: its parent knows one MAC only, which becomes the guest's.
func TestAttachedMacvlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	w.segment(func(node *os.File) {
		netnstest.Link(t, node, "vethseg2", node, "uplink")
		netnstest.IP(t, node, "link set vethseg2 master br1 up", "link set uplink up")
		netnstest.IP(t, node, "link add mv0 link uplink type macvlan mode bridge")
		netnstest.Move(t, node, "mv0", w.pod, attachedLink)
		netnstest.IP(t, w.pod, "link set "+attachedLink+" up", "addr add 10.99.0.5/24 dev "+attachedLink)
	})
	a := w.setup(attachedConfig())[1]
	g := w.guest(a)
	serve(t, g.NS, "tcp", ":9090")
	serve(t, w.neighbour, "tcp", ":8080")
	mustAsk(t, "neighbour to guest", w.neighbour, "10.99.0.5:9090", "10.99.0.9")
	mustAsk(t, "guest to neighbour", g.NS, "10.99.0.9:8080", "10.99.0.5")
	if diff := cmp.Diff(a, w.setup(attachedConfig())[1], comparers); diff != "" {
		t.Errorf("second Setup (-first +second):\n%s", diff)
	}
	mustAsk(t, "neighbour to guest after a second Setup", w.neighbour, "10.99.0.5:9090", "10.99.0.9")
}
