// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"net/netip"
)

// Config describes the pod network of this node.
type Config struct {
	Bridge  string       // the bridge's name, also the network's
	PodCIDR netip.Prefix // its first address is the gateway
	Gateway netip.Addr
	DataDir string // host-local's leases
}

// Render is the network's configuration list (CNI specification 1.0.0).
//
// The ports of the bridge are isolated from each other: what one pod sends to
// another goes through the node, which answers ARP for everybody (hostnet). So a
// Service's translation is undone on the way back although both pods are on one
// bridge, the pods' own source addresses stay, and no pod can answer another's
// ARP or DHCP. The masquerade for the outside is hostnet's, once for all pods.
func Render(c Config) ([]byte, error) {
	type object = map[string]any
	list := object{
		"cniVersion": "1.0.0",
		"name":       c.Bridge,
		"plugins": []object{
			{
				"type":             "bridge",
				"bridge":           c.Bridge,
				"isGateway":        true,
				"isDefaultGateway": true,
				"ipMasq":           false,
				"portIsolation":    true,
				"ipam": object{
					"type":    "host-local",
					"dataDir": c.DataDir,
					"ranges":  [][]object{{{"subnet": c.PodCIDR.Masked().String(), "gateway": c.Gateway.String()}}},
				},
			},
			{
				"type":         "portmap",
				"backend":      "nftables",
				"capabilities": object{"portMappings": true},
			},
		},
	}
	b, err := json.MarshalIndent(list, "", "  ")
	return append(b, '\n'), err
}
