// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podnet"
)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// route reads "10.0.0.0/8 via 10.0.0.1" or "10.0.0.0/8".
func route(text string) podnet.Route {
	dst, gw, ok := strings.Cut(text, " via ")
	r := podnet.Route{Dst: netip.MustParsePrefix(dst)}
	if ok {
		r.Gateway = netip.MustParseAddr(gw)
	}
	return r
}

func on(name string, routes ...string) podnet.Attached {
	a := podnet.Attached{Name: name}
	for _, r := range routes {
		a.Routes = append(a.Routes, route(r))
	}
	return a
}

// wasTold is a network whose plugins said so of an address with the gateway and routes.
func wasTold(gateway string, routes ...string) link {
	l := link{attachment: &netattach.Attachment{IPs: []netattach.IP{{Address: netip.MustParsePrefix("10.9.0.5/24")}}}}
	if gateway != "" {
		l.attachment.IPs[0].Gateway = netip.MustParseAddr(gateway)
	}
	for _, r := range routes {
		l.attachment.Routes = append(l.attachment.Routes, netattach.Route(route(r)))
	}
	return l
}

func (l link) want(yes bool) link { l.defaultRoute = &yes; return l }

func (l link) via(gw string) link {
	l.network.Gateways = append(l.network.Gateways, netip.MustParseAddr(gw))
	return l
}

func TestGuestRoutes(t *testing.T) {
	t.Parallel()
	pod := on("default", "0.0.0.0/0 via 10.0.2.1", "::/0 via fd10:0:2::1")
	for _, tc := range []struct {
		name     string
		attached []podnet.Attached
		links    map[string]link
		want     []podnet.Attached
	}{
		{"the pod network alone", []podnet.Attached{pod}, map[string]link{"default": {pod: true}}, []podnet.Attached{pod}},
		{"the pod network is first, wherever it stands", []podnet.Attached{on("a"), pod},
			map[string]link{"default": {pod: true}, "a": wasTold("10.9.0.1", "0.0.0.0/0 via 10.9.0.1", "192.0.2.0/24 via 10.9.0.7")},
			[]podnet.Attached{on("a", "192.0.2.0/24 via 10.9.0.7"), pod}},
		{"a network alone has what its plugins say", []podnet.Attached{on("a")}, map[string]link{"a": wasTold("10.9.0.1", "0.0.0.0/0 via 10.9.0.1")},
			[]podnet.Attached{on("a", "0.0.0.0/0 via 10.9.0.1")}},
		{"a gateway is no default route", []podnet.Attached{on("a")}, map[string]link{"a": wasTold("10.9.0.1")}, []podnet.Attached{on("a")}},
		{"unless the annotation says so", []podnet.Attached{on("a")}, map[string]link{"a": wasTold("10.9.0.1").want(true)},
			[]podnet.Attached{on("a", "0.0.0.0/0 via 10.9.0.1")}},
		{"the annotation takes it from the pod network, in its family", []podnet.Attached{pod, on("a")},
			map[string]link{"default": {pod: true}, "a": wasTold("10.9.0.1").want(true)},
			[]podnet.Attached{on("default", "::/0 via fd10:0:2::1"), on("a", "0.0.0.0/0 via 10.9.0.1")}},
		{"default-route names the gateway", []podnet.Attached{pod, on("a", "0.0.0.0/0 via 10.9.0.1")},
			map[string]link{"default": {pod: true}, "a": wasTold("10.9.0.1").via("10.9.0.9")},
			[]podnet.Attached{on("default", "::/0 via fd10:0:2::1"), on("a", "0.0.0.0/0 via 10.9.0.9")}},
		{"the pod network is told not to", []podnet.Attached{pod, on("a")},
			map[string]link{"default": link{pod: true}.want(false), "a": wasTold("10.9.0.1", "0.0.0.0/0 via 10.9.0.1")},
			[]podnet.Attached{on("default"), on("a", "0.0.0.0/0 via 10.9.0.1")}},
		{"a network is told not to", []podnet.Attached{on("a"), on("b")},
			map[string]link{"a": wasTold("10.9.0.1", "0.0.0.0/0 via 10.9.0.1").want(false), "b": wasTold("10.8.0.1", "0.0.0.0/0 via 10.8.0.1")},
			[]podnet.Attached{on("a"), on("b", "0.0.0.0/0 via 10.8.0.1")}},
		{"the first that asks has it", []podnet.Attached{on("a"), on("b")},
			map[string]link{"a": wasTold("10.9.0.1").want(true), "b": wasTold("10.8.0.1").want(true)},
			[]podnet.Attached{on("a", "0.0.0.0/0 via 10.9.0.1"), on("b")}},
		{"somebody else attached the pod", []podnet.Attached{pod, on("a", "0.0.0.0/0 via 10.9.0.1", "192.0.2.0/24")},
			map[string]link{"default": {pod: true}, "a": {}},
			[]podnet.Attached{pod, on("a", "192.0.2.0/24")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := guestRoutes(tc.attached, tc.links)
			must(t, err)
			if diff := cmp.Diff(tc.want, got, comparePrefixes, compareAddrs, cmp.Transformer("empty", func(r []podnet.Route) []podnet.Route {
				return append([]podnet.Route{}, r...)
			})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := guestRoutes([]podnet.Attached{on("a")}, map[string]link{"a": wasTold("").want(true)}); err == nil || !strings.Contains(err.Error(), "no gateway is known") {
		t.Errorf("a default route without a gateway: %v", err)
	}
}

func TestNetworkStatus(t *testing.T) {
	t.Parallel()
	mac, err := net.ParseMAC("02:00:00:00:00:09")
	must(t, err)
	a := on("a", "0.0.0.0/0 via 10.9.0.1")
	a.MAC, a.MTU, a.PodInterface, a.PodIPs = mac, 1450, "pod123", []netip.Addr{netip.MustParseAddr("10.9.0.5")}
	l := wasTold("10.9.0.1")
	l.network.Element = netattach.Element{Namespace: "x", Name: "lan"}
	l.attachment.DNS.Nameservers = []string{"10.9.0.2"}
	pod := on("default")
	pod.PodInterface, pod.MAC = "eth0", mac
	links := map[string]link{"default": {pod: true}, "a": l}
	want := []v1.NetworkStatus{
		{Name: "default", Interface: "eth0", MAC: mac.String(), Default: true},
		{Name: "x/lan", Interface: "pod123", MAC: mac.String(), MTU: 1450, IPs: []string{"10.9.0.5"}, Gateway: []string{"10.9.0.1"}, DNS: v1.NetworkDNS{Nameservers: []string{"10.9.0.2"}}},
	}
	if diff := cmp.Diff(want, networkStatus([]podnet.Attached{pod, a}, links)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.attachment = nil
	links["a"] = l
	if got := networkStatus([]podnet.Attached{pod, a}, links); got != nil {
		t.Errorf("of a pod that somebody else attached: %+v", got)
	}
}
