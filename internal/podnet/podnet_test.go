// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.AllowUnexported(saved{}, names{}),
}

func TestChecked(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		config Config
		want   string // in the error; empty is none
	}{
		{"masquerade", Config{UID: 107, GID: 107, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, Ports: []Port{{Port: 80}}}}}, ""},
		{"two interfaces", Config{UID: 107, GID: 107, NICs: []NIC{
			{Name: "a", Binding: Bridge}, {Name: "b", Binding: Bridge, PodInterface: "pod1b2c3d4e5f6"},
		}}, ""},
		{"root's tap", Config{GID: 107}, "owner 0:107"},
		{"no name", Config{UID: 1, GID: 1, NICs: []NIC{{Binding: Bridge}}}, "has no name"},
		{"no binding", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a"}}}, `interface "a": binding "": want masquerade or bridge`},
		{"no seed", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Masquerade}}}, "no seed"},
		{"group MAC", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge, MAC: net.HardwareAddr{1, 2, 3, 4, 5, 6}}}}, "MAC 01:02:03:04:05:06"},
		{"long MAC", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge, MAC: make(net.HardwareAddr, 8)}}}, "6 bytes"},
		{"the bridge's MAC", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge, MAC: bridgeMAC}}}, "reserved"},
		{"ports of a bridge", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge, Ports: []Port{{Port: 1}}}}}, "ports"},
		{"protocol", Config{UID: 1, GID: 1, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, Ports: []Port{{Port: 1}, {"SCTP", 1}}}}}, `ports[1].protocol "SCTP"`},
		{"port 0", Config{UID: 1, GID: 1, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, Ports: []Port{{"TCP", 0}}}}}, "ports[0].port"},
		{"tiny network", Config{UID: 1, GID: 1, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, CIDR: netip.MustParsePrefix("10.0.2.0/31")}}}, "10.0.2.0/31"},
		{"IPv6 for IPv4", Config{UID: 1, GID: 1, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, CIDR: DefaultCIDR6}}}, "want an IPv4 network"},
		{"IPv4 for IPv6", Config{UID: 1, GID: 1, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, CIDR6: DefaultCIDR}}}, "want an IPv6 network"},
		{"long pod interface", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge, PodInterface: "0123456789abcdef"}}}, "longer than 15"},
		{"pod interface with a path", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge, PodInterface: "../all"}}}, `pod interface "../all"`},
		{"one pod interface twice", Config{UID: 1, GID: 1, NICs: []NIC{{Name: "a", Binding: Bridge}, {Name: "b", Binding: Bridge}}}, `already used by interface "a"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			nics, err := checked(tc.config)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want %s in it", err, tc.want)
			case err == nil && len(nics) != len(tc.config.NICs):
				t.Errorf("%d of %d interfaces came back", len(nics), len(tc.config.NICs))
			}
		})
	}
}

func TestCheckedLeavesTheCallersPortsAlone(t *testing.T) {
	t.Parallel()
	ports := []Port{{Port: 80}}
	nics, err := checked(Config{UID: 1, GID: 1, Seed: "s", NICs: []NIC{{Name: "a", Binding: Masquerade, Ports: ports}}})
	if err != nil || nics[0].Ports[0].Protocol != "TCP" || ports[0].Protocol != "" {
		t.Errorf("%v %v %v", nics, ports, err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	want := names{pod: "eth0", bridge: "k6t-eth0", tap: "tap0", port: "eth0-nic", table: "skerry-eth0"}
	if diff := cmp.Diff(want, namesOf("eth0"), compareAddrs); diff != "" {
		t.Error(diff)
	}
	seen := map[string]string{}
	for _, pod := range []string{"eth0", "net1", "pod0123456789a", "pod0123456789b", "eth1234567", "eth12345678"} {
		n := namesOf(pod)
		for _, link := range []string{n.pod, n.bridge, n.tap, n.port} {
			if len(link) > 15 {
				t.Errorf("link %q of %s is longer than 15 bytes", link, pod)
			}
			if other, dup := seen[link]; dup {
				t.Errorf("%s and %s share the link %s", pod, other, link)
			}
			seen[link] = pod
		}
	}
}

func TestStableMAC(t *testing.T) {
	t.Parallel()
	a := StableMAC("uid-1", "default")
	if a.String() != StableMAC("uid-1", "default").String() {
		t.Error("it changes")
	}
	// Guests know this one; a new release must not give them another.
	if got := a.String(); got != "02:12:0c:57:88:21" {
		t.Errorf("StableMAC = %s", got)
	}
	if a[0]&3 != 2 {
		t.Errorf("%s is not a locally administered unicast address", a)
	}
	for _, other := range []net.HardwareAddr{StableMAC("uid-2", "default"), StableMAC("uid-1", "other"), StableMAC("uid-1\x00default", "")} {
		if other.String() == a.String() {
			t.Errorf("another interface has %s too", a)
		}
	}
}

func TestSaved(t *testing.T) {
	t.Parallel()
	want := saved{
		index: 3, mtu: 1450, mac: net.HardwareAddr{1, 2, 3, 4, 5, 6},
		addresses: []netip.Prefix{netip.MustParsePrefix("10.42.0.5/24"), netip.MustParsePrefix("fd00::5/64")},
		routes: []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.42.0.1")},
			{netip.MustParsePrefix("169.254.1.1/32"), netip.Addr{}},
		},
	}
	lines := want.lines()
	got, err := parseSaved(lines)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	for i := range 3 {
		short := append(append([]string{}, lines[:i]...), lines[i+1:]...)
		if _, err := parseSaved(short); err == nil {
			t.Errorf("parsed without %q", lines[i])
		}
	}
	for _, bad := range []string{"", "index x", "mtu", "mac 1", "address 1.2.3.4", "route 1.2.3.0/24 via", "route x", "later 1"} {
		if _, err := parseSaved(append(want.lines(), bad)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("line %q: error %v", bad, err)
		}
	}
}

func TestGateway(t *testing.T) {
	t.Parallel()
	a := Attached{Routes: []Route{
		{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("10.0.0.9")},
		{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1")},
	}}
	if got := a.Gateway(false); got.String() != "10.0.0.1" {
		t.Errorf("IPv4 gateway %s", got)
	}
	if a.Gateway(true).IsValid() {
		t.Error("there is an IPv6 gateway")
	}
}
