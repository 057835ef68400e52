// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"fmt"
	"net/netip"
	"slices"

	"sigs.k8s.io/yaml"
)

// NIC is an interface of the guest whose addresses are known.
type NIC struct {
	Name string // in the spec
	MAC  string
	MTU  int // 0 leaves the guest's default
	// Addresses are the guest's, with their prefix lengths.
	Addresses []netip.Prefix
	Routes    []Route
	// Nameservers and Search are the pod's DNS settings.
	Nameservers []netip.Addr
	Search      []string
}

// Route is a route of the guest. Gateway is invalid for a destination on the link.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr
}

// The second version of cloud-init's network configuration.
type (
	networkConfig struct {
		Version   int                 `json:"version"`
		Ethernets map[string]ethernet `json:"ethernets"`
	}
	ethernet struct {
		Match       match       `json:"match"`
		DHCP4       bool        `json:"dhcp4"`
		DHCP6       bool        `json:"dhcp6"`
		MTU         int         `json:"mtu,omitempty"`
		Addresses   []string    `json:"addresses"`
		Routes      []route     `json:"routes,omitempty"`
		Nameservers *nameserver `json:"nameservers,omitempty"`
	}
	match struct {
		MACAddress string `json:"macaddress"`
	}
	route struct {
		To     string `json:"to"`
		Via    string `json:"via,omitempty"`
		Scope  string `json:"scope,omitempty"`
		OnLink bool   `json:"on-link,omitempty"`
	}
	nameserver struct {
		Addresses []string `json:"addresses,omitempty"`
		Search    []string `json:"search,omitempty"`
	}
)

// NetworkConfig describes the interfaces with known addresses, matched by MAC, with
// these addresses as static ones. Nil when there is none.
func NetworkConfig(nics []NIC) ([]byte, error) {
	c := networkConfig{Version: 2, Ethernets: map[string]ethernet{}}
	for i, n := range nics {
		if len(n.Addresses) == 0 {
			continue
		}
		e := ethernet{Match: match{n.MAC}, MTU: n.MTU}
		for _, a := range n.Addresses {
			e.Addresses = append(e.Addresses, a.String())
		}
		for _, r := range n.Routes {
			e.Routes = append(e.Routes, n.route(r))
		}
		if len(n.Nameservers) > 0 || len(n.Search) > 0 {
			e.Nameservers = &nameserver{Search: n.Search}
			for _, a := range n.Nameservers {
				e.Nameservers.Addresses = append(e.Nameservers.Addresses, a.String())
			}
		}
		// The key is a name for this file only; users' names of interfaces may be
		// words that mean something to YAML or netplan.
		c.Ethernets[fmt.Sprintf("nic%d", i)] = e
	}
	if len(c.Ethernets) == 0 {
		return nil, nil
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("network configuration: %w", err)
	}
	return b, nil
}

func (n NIC) route(r Route) route {
	// Not "default", which older versions of cloud-init do not know.
	out := route{To: r.Dst.String()}
	if !r.Gateway.IsValid() {
		out.Scope = "link"
		return out
	}
	out.Via = r.Gateway.String()
	out.OnLink = !slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return p.Contains(r.Gateway) })
	return out
}
