// SPDX-License-Identifier: Apache-2.0

package netattach

import "net/netip"

// Attachment is how a pod came to be attached to a network, as its CNI plugins
// said.
type Attachment struct {
	MAC    string  `json:"mac,omitempty"`
	IPs    []IP    `json:"ips,omitempty"`
	Routes []Route `json:"routes,omitempty"`
	DNS    DNS     `json:"dns"`
}

// IP is an address on the network.
type IP struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// Route is a route over the network; an invalid Gateway means on the link.
type Route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// DNS is how names are resolved.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
}
