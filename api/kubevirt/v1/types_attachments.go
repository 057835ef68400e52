// SPDX-License-Identifier: Apache-2.0

package v1

// NetworkStatus is an interface of a machine's pod in the words of the annotation
// k8s.v1.cni.cncf.io/network-status. An addition of Skerry's own: the node agent
// writes it here, having no business with pods in the API, and the controller
// copies it to the pod.
type NetworkStatus struct {
	// Name is namespace/name of the NetworkAttachmentDefinition, or "default".
	Name string `json:"name"`
	// Interface is its name in the pod.
	// +optional
	Interface string `json:"interface,omitempty"`
	// +optional
	IPs []string `json:"ips,omitempty"`
	// +optional
	MAC string `json:"mac,omitempty"`
	// MTU in bytes.
	// +optional
	MTU int32 `json:"mtu,omitempty"`
	// Default says that it is the pod's own network.
	// +optional
	Default bool `json:"default,omitempty"`
	// Gateway holds the gateways of the guest's default routes over it.
	// +optional
	Gateway []string `json:"gateway,omitempty"`
	// DNS is what the network's CNI plugins said.
	DNS NetworkDNS `json:"dns"`
}

// NetworkDNS is a CNI plugin's word on how names are resolved.
type NetworkDNS struct {
	// +optional
	Nameservers []string `json:"nameservers,omitempty"`
	// +optional
	Domain string `json:"domain,omitempty"`
	// +optional
	Search []string `json:"search,omitempty"`
}
