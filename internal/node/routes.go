// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podnet"
)

// guestRoutes decides which of the guest's interfaces carries its default route,
// for each address family: one that the annotations name (default-route of
// k8s.v1.cni.cncf.io/networks, or Kube-OVN's default_route), else the pods' own
// network, else the first network whose CNI plugins have one. All other routes stay
// with their interface. It never changes its input.
func guestRoutes(attached []podnet.Attached, links map[string]link) ([]podnet.Attached, error) {
	out := slices.Clone(attached)
	for i := range out {
		a, l := &out[i], links[out[i].Name]
		a.Routes = slices.Clone(a.Routes)
		if l.attachment == nil {
			continue
		}
		// In the pod the first default route won; the plugins' own word counts here.
		for _, r := range l.attachment.Routes {
			route := podnet.Route{Dst: r.Dst, Gateway: r.Gateway}
			same := func(have podnet.Route) bool { return have.Dst == route.Dst }
			if !slices.ContainsFunc(a.Routes, same) {
				a.Routes = append(a.Routes, route)
			}
		}
	}
	for i := range out {
		if l := links[out[i].Name]; explicit(l) && !hasDefault(out[i], l, false) && !hasDefault(out[i], l, true) {
			return nil, fmt.Errorf("interface %q: its network is to have the guest's default route, but no gateway is known: "+
				"give one in the ipam of NetworkAttachmentDefinition %s, or as default-route in the annotation %s", out[i].Name, l.network.Definition(), netattach.NetworksAnnotation)
		}
	}
	for _, ipv6 := range []bool{false, true} {
		carrier := carrierOf(out, links, ipv6)
		for i := range out {
			a := &out[i]
			route, ok := defaultRoute(*a, links[a.Name], ipv6)
			a.Routes = slices.DeleteFunc(a.Routes, func(r podnet.Route) bool { return isDefault(r.Dst, ipv6) })
			if i == carrier && ok {
				a.Routes = append(a.Routes, route)
			}
		}
	}
	return out, nil
}

// carrierOf is the index of the interface with the default route, -1 without one.
func carrierOf(attached []podnet.Attached, links map[string]link, ipv6 bool) int {
	for _, suits := range []func(link) bool{
		explicit,
		func(l link) bool { return l.pod && !refused(l) },
		func(l link) bool { return !refused(l) },
	} {
		i := slices.IndexFunc(attached, func(a podnet.Attached) bool {
			l := links[a.Name]
			return suits(l) && hasDefault(a, l, ipv6)
		})
		if i >= 0 {
			return i
		}
	}
	return -1
}

func explicit(l link) bool {
	return l.defaultRoute != nil && *l.defaultRoute || len(l.network.Gateways) > 0
}

func refused(l link) bool { return l.defaultRoute != nil && !*l.defaultRoute }

func hasDefault(a podnet.Attached, l link, ipv6 bool) bool {
	_, ok := defaultRoute(a, l, ipv6)
	return ok
}

// defaultRoute is the default route that the guest can have over an interface.
func defaultRoute(a podnet.Attached, l link, ipv6 bool) (podnet.Route, bool) {
	dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if ipv6 {
		dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	for _, gw := range l.network.Gateways {
		if gw.Is6() == ipv6 {
			return podnet.Route{Dst: dst, Gateway: gw}, true
		}
	}
	for _, r := range a.Routes {
		if isDefault(r.Dst, ipv6) {
			return r, true
		}
	}
	if l.attachment == nil || !explicit(l) {
		return podnet.Route{}, false
	}
	for _, ip := range l.attachment.IPs {
		if ip.Gateway.IsValid() && ip.Gateway.Is6() == ipv6 {
			return podnet.Route{Dst: dst, Gateway: ip.Gateway}, true
		}
	}
	return podnet.Route{}, false
}

func isDefault(dst netip.Prefix, ipv6 bool) bool { return dst.Bits() == 0 && dst.Addr().Is6() == ipv6 }

// networkStatus says how the pod is attached, if we attached it; else nil: who did
// says so itself.
func networkStatus(attached []podnet.Attached, links map[string]link) []v1.NetworkStatus {
	var out []v1.NetworkStatus
	ours := false
	for _, a := range attached {
		l := links[a.Name]
		s := v1.NetworkStatus{Name: "default", Interface: a.PodInterface, MAC: a.MAC.String(), MTU: int32(a.MTU), Default: l.pod}
		if !l.pod {
			s.Name = l.network.Definition()
			if at := l.attachment; at != nil {
				ours = true
				s.DNS = v1.NetworkDNS{Nameservers: at.DNS.Nameservers, Domain: at.DNS.Domain, Search: at.DNS.Search}
			}
		}
		for _, ip := range a.PodIPs {
			s.IPs = append(s.IPs, ip.String())
		}
		for _, ipv6 := range []bool{false, true} {
			if gw := a.Gateway(ipv6); gw.IsValid() {
				s.Gateway = append(s.Gateway, gw.String())
			}
		}
		out = append(out, s)
	}
	if !ours {
		return nil
	}
	return out
}
