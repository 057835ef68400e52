// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/netattach"
)

var nicModels = []string{"virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139"}

// bridgeMAC is the address of the bridge in front of a masquerade interface.
const bridgeMAC = "02:00:00:00:00:00"

// networks checks spec.networks; p is the path of the spec.
func (v *validator) networks(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	np := p.Child("networks")
	if n := len(spec.Networks); n > maxDevices {
		v.invalid(np, n, "networks are too many; use %d at most", maxDevices)
		return
	}
	interfaces := map[string]bool{}
	for _, nic := range spec.Domain.Devices.Interfaces {
		interfaces[nic.Name] = true
	}
	names := map[string]*field.Path{}
	var pod *field.Path
	for i := range spec.Networks {
		n, ip := &spec.Networks[i], np.Index(i)
		v.uniqueName(ip.Child("name"), n.Name, names)
		if n.Name != "" && !interfaces[n.Name] {
			v.add("FieldValueNotFound", ip.Child("name"), show(n.Name)+" has no interface; add one of that name to domain.devices.interfaces or remove the network")
		}
		v.network(ip, n)
		if n.Pod == nil {
			continue
		}
		if pod != nil {
			v.duplicate(ip.Child("pod"), "pod", pod)
			continue
		}
		pod = ip.Child("pod")
	}
}

func (v *validator) network(p *field.Path, n *v1.Network) {
	types := 0
	if m := n.Multus; m != nil {
		types++
		v.multus(p.Child("multus"), m)
	}
	if n.ResourceClaim != nil {
		types++
		v.unsupported(p.Child("resourceClaim"), "use pod: {} or multus")
	}
	if pod := n.Pod; pod != nil {
		types++
		v.guestNetwork(p.Child("pod", "vmNetworkCIDR"), pod.VMNetworkCIDR, true, 8, 30, "10.0.2.0/24")
		v.guestNetwork(p.Child("pod", "vmIPv6NetworkCIDR"), pod.VMIPv6NetworkCIDR, false, 32, 126, "fd10:0:2::/120")
	}
	if types == 0 {
		v.lacks(p, "network %s has no type; use pod: {} or multus", show(n.Name))
	}
	if types > 1 {
		v.invalid(p, n.Name, "is of several types; keep one of pod and multus")
	}
}

// multus checks a reference to a NetworkAttachmentDefinition, which need not exist
// yet.
func (v *validator) multus(p *field.Path, m *v1.MultusNetwork) {
	// A name without a namespace is one of the machine's own.
	ns, name := netattach.SplitName(m.NetworkName, "own")
	if err := netattach.CheckName(ns, name); err != nil {
		v.invalid(p.Child("networkName"), m.NetworkName, "is not the name of a NetworkAttachmentDefinition, name or namespace/name: %s", err.Error())
	}
	if isTrue(m.Default, false) {
		v.unsupported(p.Child("default"), "the pod's own network cannot be replaced; leave it out, leave the pod network out of networks and "+
			"give this one the default route by the annotation <name>.<namespace>.ovn.kubernetes.io/default_route")
	}
}

// attachments checks the annotations that belong to networks; meta is the path of
// the metadata that they are in.
func (v *validator) attachments(meta *field.Path, namespace string, annotations map[string]string, spec *v1.VirtualMachineInstanceSpec) {
	if namespace == "" {
		namespace = "own" // the API server puts it in
	}
	if _, err := netattach.Networks(namespace, annotations, spec); err != nil {
		key, text, ok := strings.Cut(err.Error(), ": ")
		if !ok {
			key, text = netattach.NetworksAnnotation, err.Error()
		}
		v.invalid(meta.Child("annotations").Key(key), annotations[key], "cannot be used: %s", text)
	}
}

// guestNetwork checks the network that a guest is in behind the masquerade.
func (v *validator) guestNetwork(p *field.Path, cidr string, ipv4 bool, minBits, maxBits int, example string) {
	if cidr == "" {
		return
	}
	family := "IPv6"
	if ipv4 {
		family = "IPv4"
	}
	n, err := netip.ParsePrefix(cidr)
	if err != nil || n.Addr().Is4() != ipv4 || n.Addr().Is4In6() || n.Bits() < minBits || n.Bits() > maxBits {
		v.invalid(p, cidr, "is not an %s network from /%d to /%d; for example %s", family, minBits, maxBits, example)
	}
}

// interfaces checks spec.domain.devices.interfaces against spec.networks.
func (v *validator) interfaces(p *field.Path, spec *v1.VirtualMachineInstanceSpec, boot bootOrders) {
	list := spec.Domain.Devices.Interfaces
	if n := len(list); n > maxDevices {
		v.invalid(p, n, "interfaces are too many; use %d at most", maxDevices)
		return
	}
	networks := map[string]*v1.Network{}
	for i := range spec.Networks {
		networks[spec.Networks[i].Name] = &spec.Networks[i]
	}
	names, macs := map[string]*field.Path{}, map[string]*field.Path{}
	for i := range list {
		nic, ip := &list[i], p.Index(i)
		v.uniqueName(ip.Child("name"), nic.Name, names)
		network := networks[nic.Name]
		if nic.Name != "" && network == nil {
			v.add("FieldValueNotFound", ip.Child("name"), show(nic.Name)+" is not the name of a network; add one of that name to networks or use a name from there")
		}
		v.binding(ip, nic)
		if network != nil && network.Multus != nil && nic.Masquerade != nil {
			v.invalid(ip.Child("masquerade"), nic.Name, "is on a multus network, and masquerade works on the pod network only; use bridge: {}")
		}
		v.oneOf(ip.Child("model"), nic.Model, nicModels...)
		v.mac(ip.Child("macAddress"), nic.MacAddress, macs)
		v.ports(ip.Child("ports"), nic.Ports)
		if nic.DhcpOptions != nil {
			v.dhcpOptions(ip.Child("dhcpOptions"), nic.DhcpOptions)
		}
		v.unsupportedInterface(ip, nic)
		boot.check(v, ip.Child("bootOrder"), nic.BootOrder)
	}
}

func (v *validator) binding(p *field.Path, nic *v1.Interface) {
	var found []string
	for _, b := range []struct {
		set                 bool
		name, instead, gone string
	}{
		{nic.Bridge != nil, "bridge", "", ""},
		{nic.Masquerade != nil, "masquerade", "", ""},
		{nic.Sriov != nil, "sriov", "use masquerade: {} or bridge: {}", ""},
		{nic.PasstBinding != nil, "passtBinding", "use masquerade: {}", ""},
		{nic.Binding != nil, "binding", "use masquerade: {} or bridge: {}", ""},
		{nic.Slirp != nil, "slirp", "", "was removed from the API; use masquerade: {}"},
		{nic.Macvtap != nil, "macvtap", "", "was removed from the API; use bridge: {}"},
		{nic.Passt != nil, "passt", "", "was removed from the API; use masquerade: {}"},
	} {
		if !b.set {
			continue
		}
		found = append(found, b.name)
		if b.instead != "" {
			v.unsupported(p.Child(b.name), b.instead)
		}
		if b.gone != "" {
			v.add("FieldValueNotSupported", p.Child(b.name), b.gone)
		}
	}
	switch len(found) {
	case 0:
		v.lacks(p, "interface %s has no binding; use masquerade: {} or bridge: {}", show(nic.Name))
	case 1:
	default:
		v.invalid(p, nic.Name, "has %d bindings (%s); keep one", len(found), strings.Join(found, ", "))
	}
}

func (v *validator) mac(p *field.Path, mac string, seen map[string]*field.Path) {
	if mac == "" {
		return
	}
	hw, err := net.ParseMAC(mac)
	switch {
	case err != nil || len(hw) != 6:
		v.invalid(p, mac, "is not a MAC address; use six pairs of hexadecimal digits such as 02:12:34:56:78:9a")
		return
	case hw[0]&1 != 0:
		v.invalid(p, mac, "is a multicast address; use one whose first byte is even, such as 02:12:34:56:78:9a")
		return
	case hw.String() == bridgeMAC || hw.String() == "00:00:00:00:00:00":
		v.invalid(p, mac, "is reserved; use another one, such as 02:12:34:56:78:9a")
		return
	}
	if first, ok := seen[hw.String()]; ok {
		v.duplicate(p, mac, first)
		return
	}
	seen[hw.String()] = p
}

func (v *validator) ports(p *field.Path, ports []v1.Port) {
	type key struct {
		port     int32
		protocol string
	}
	seen, names := map[key]*field.Path{}, map[string]*field.Path{}
	for i, port := range ports {
		pp := p.Index(i)
		if port.Port < 1 || port.Port > 65535 {
			v.invalid(pp.Child("port"), port.Port, "is not a port; use 1 to 65535")
		}
		if v.oneOf(pp.Child("protocol"), port.Protocol, "TCP", "UDP") {
			k := key{port.Port, port.Protocol}
			if first, ok := seen[k]; ok {
				v.duplicate(pp, strconv.Itoa(int(port.Port))+"/"+port.Protocol, first)
			} else {
				seen[k] = pp
			}
		}
		if port.Name == "" {
			continue
		}
		if msgs := validation.IsValidPortName(port.Name); len(msgs) > 0 {
			v.invalid(pp.Child("name"), port.Name, "is not a port's name; use at most 15 lower case letters, digits and '-', with at least one letter")
		} else if first, ok := names[port.Name]; ok {
			v.duplicate(pp.Child("name"), port.Name, first)
		} else {
			names[port.Name] = pp.Child("name")
		}
	}
}

// maxDHCPOption is what fits into one DHCP option (RFC 2132), in bytes.
const maxDHCPOption = 255

func (v *validator) dhcpOptions(p *field.Path, o *v1.DHCPOptions) {
	for _, s := range []struct{ name, value string }{{"bootFileName", o.BootFileName}, {"tftpServerName", o.TftpServerName}} {
		if len(s.value) > maxDHCPOption {
			v.invalid(p.Child(s.name), s.value, "is %d bytes long; use at most %d", len(s.value), maxDHCPOption)
		}
	}
	for i, a := range o.NtpServers {
		if addr, err := netip.ParseAddr(a); err != nil || !addr.Is4() {
			v.invalid(p.Child("ntpServers").Index(i), a, "is not an IPv4 address")
		}
	}
	if n := len(o.NtpServers); n > maxDHCPOption/4 {
		v.invalid(p.Child("ntpServers"), n, "are too many; use %d at most", maxDHCPOption/4)
	}
	seen := map[int32]*field.Path{}
	for i, po := range o.PrivateOptions {
		pp := p.Child("privateOptions").Index(i)
		if po.Option < 224 || po.Option > 254 {
			v.invalid(pp.Child("option"), po.Option, "is not a private DHCP option; use 224 to 254")
		} else if first, ok := seen[po.Option]; ok {
			v.duplicate(pp.Child("option"), po.Option, first)
		} else {
			seen[po.Option] = pp.Child("option")
		}
		if len(po.Value) > maxDHCPOption {
			v.invalid(pp.Child("value"), po.Value, "is %d bytes long; use at most %d", len(po.Value), maxDHCPOption)
		}
	}
}

// maxACPIIndex is the largest index that a guest names an interface after.
const maxACPIIndex = 16383

func (v *validator) unsupportedInterface(p *field.Path, nic *v1.Interface) {
	if nic.AcpiIndex < 0 || nic.AcpiIndex > maxACPIIndex {
		v.invalid(p.Child("acpiIndex"), nic.AcpiIndex, "is out of range; use 1 to %d", maxACPIIndex)
	}
	if nic.State != "absent" {
		v.oneOf(p.Child("state"), nic.State, "up", "down")
	}
	for _, u := range []struct {
		set           bool
		name, instead string
	}{
		{nic.PciAddress != "", "pciAddress", "leave it out: addresses are assigned in the order of the interfaces"},
		{len(nic.PortRanges) > 0, "portRanges", "list ports one by one, or leave both out to let everything in"},
		{nic.State == "absent", "state", `"absent" would unplug the interface; use up or down, or remove it`},
		{nic.Tag != "", "tag", "leave it out, and find the interface in the guest by its macAddress"},
	} {
		if u.set {
			v.unsupported(p.Child(u.name), u.instead)
		}
	}
}
