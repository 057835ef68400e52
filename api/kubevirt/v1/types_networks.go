// SPDX-License-Identifier: Apache-2.0

package v1

// ClaimRequest is a request of a resource claim.
type ClaimRequest struct {
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	RequestName string `json:"requestName,omitempty"`
}

// DHCPOptions are what the guest's DHCP lease says besides its address.
type DHCPOptions struct {
	// +optional
	BootFileName string `json:"bootFileName,omitempty"`
	// +optional
	NtpServers []string `json:"ntpServers,omitempty"`
	// +optional
	PrivateOptions []DHCPPrivateOptions `json:"privateOptions,omitempty"`
	// +optional
	TftpServerName string `json:"tftpServerName,omitempty"`
}

// DHCPPrivateOptions is an option of the private range, 224 to 254.
type DHCPPrivateOptions struct {
	Option int32  `json:"option"`
	Value  string `json:"value"`
}

// DeprecatedInterfaceMacvtap was removed from the API.
type DeprecatedInterfaceMacvtap struct {
}

// DeprecatedInterfacePasst was removed from the API.
type DeprecatedInterfacePasst struct {
}

// DeprecatedInterfaceSlirp was removed from the API.
type DeprecatedInterfaceSlirp struct {
}

// Interface is a network interface of the guest. Exactly one binding: bridge, masquerade or
// another.
type Interface struct {
	// +optional
	AcpiIndex int32 `json:"acpiIndex,omitempty"`
	// +optional
	Binding *PluginBinding `json:"binding,omitempty"`
	// BootOrder: 1 is tried first. Unique among disks and interfaces.
	// +optional
	BootOrder *int32 `json:"bootOrder,omitempty"`
	// +optional
	Bridge *InterfaceBridge `json:"bridge,omitempty"`
	// +optional
	DhcpOptions *DHCPOptions `json:"dhcpOptions,omitempty"`
	// MacAddress of the guest's interface.
	// +optional
	MacAddress string `json:"macAddress,omitempty"`
	// +optional
	Macvtap *DeprecatedInterfaceMacvtap `json:"macvtap,omitempty"`
	// +optional
	Masquerade *InterfaceMasquerade `json:"masquerade,omitempty"`
	// Model is virtio, e1000, e1000e or rtl8139; virtio when left out.
	// +optional
	Model string `json:"model,omitempty"`
	// Name of the network.
	Name string `json:"name"`
	// +optional
	Passt *DeprecatedInterfacePasst `json:"passt,omitempty"`
	// +optional
	PasstBinding *InterfacePasstBinding `json:"passtBinding,omitempty"`
	// +optional
	PciAddress string `json:"pciAddress,omitempty"`
	// +optional
	PortRanges []PortRange `json:"portRanges,omitempty"`
	// Ports that are let in (masquerade); all when left out.
	// +optional
	Ports []Port `json:"ports,omitempty"`
	// +optional
	Slirp *DeprecatedInterfaceSlirp `json:"slirp,omitempty"`
	// +optional
	Sriov *InterfaceSRIOV `json:"sriov,omitempty"`
	// State is up, down or absent; up when left out.
	// +optional
	State string `json:"state,omitempty"`
	// +optional
	Tag string `json:"tag,omitempty"`
}

// InterfaceBridge moves the pod's address into the guest.
type InterfaceBridge struct {
}

// InterfaceMasquerade gives the guest a private address behind the pod's.
type InterfaceMasquerade struct {
}

// InterfacePasstBinding connects the guest by passt.
type InterfacePasstBinding struct {
}

// InterfaceSRIOV passes a virtual function of the host's card through.
type InterfaceSRIOV struct {
}

// MultusNetwork is the network of a NetworkAttachmentDefinition.
type MultusNetwork struct {
	// +optional
	Default     *bool  `json:"default,omitempty"`
	NetworkName string `json:"networkName"`
}

// Network is a network that the machine is connected to; the interface of the same name is its end
// in the guest. Exactly one of pod, multus and resourceClaim.
type Network struct {
	// +optional
	Multus *MultusNetwork `json:"multus,omitempty"`
	Name   string         `json:"name"`
	// Pod is the pod's own network; at most one.
	// +optional
	Pod *PodNetwork `json:"pod,omitempty"`
	// +optional
	ResourceClaim *ClaimRequest `json:"resourceClaim,omitempty"`
}

// PluginBinding connects the guest by a plugin.
type PluginBinding struct {
	Name string `json:"name"`
}

// PodNetwork is the network of the machine's pod.
type PodNetwork struct {
	// VMIPv6NetworkCIDR is the same for IPv6; fd10:0:2::/120 when left out.
	// +optional
	VMIPv6NetworkCIDR string `json:"vmIPv6NetworkCIDR,omitempty"`
	// VMNetworkCIDR is the guest's network behind a masquerade; 10.0.2.0/24 when left out.
	// +optional
	VMNetworkCIDR string `json:"vmNetworkCIDR,omitempty"`
}

// Port is a port that is forwarded to the guest (masquerade). Without any, all are.
type Port struct {
	// +optional
	Name string `json:"name,omitempty"`
	Port int32  `json:"port"`
	// Protocol is TCP or UDP; TCP when left out.
	// +optional
	Protocol string `json:"protocol,omitempty"`
}

// PortRange is a range of forwarded ports.
type PortRange struct {
	End      int32  `json:"end"`
	Protocol string `json:"protocol"`
	Start    int32  `json:"start"`
}
