// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/cloudinit"
	"github.com/skerry-dev/skerry/internal/dhcp"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podnet"
)

// network is what connects a machine to its pod's network.
type network interface {
	// Setup is podnet.Setup.
	Setup(ctx context.Context, ns *os.File, c podnet.Config) ([]podnet.Attached, error)
	// ServeDHCP is dhcp.Serve.
	ServeDHCP(ctx context.Context, ns *os.File, c dhcp.Config) error
}

type realNetwork struct{}

func (realNetwork) Setup(ctx context.Context, ns *os.File, c podnet.Config) ([]podnet.Attached, error) {
	return podnet.Setup(ctx, ns, c)
}

func (realNetwork) ServeDHCP(ctx context.Context, ns *os.File, c dhcp.Config) error {
	return dhcp.Serve(ctx, ns, c)
}

// present are the interfaces that the machine has, with their indices in the spec.
func present(vmi *v1.VirtualMachineInstance) (ifs []*v1.Interface, index []int) {
	all := vmi.Spec.Domain.Devices.Interfaces
	for i := range all {
		if all[i].State != "absent" {
			ifs = append(ifs, &all[i])
			index = append(index, i)
		}
	}
	return ifs, index
}

// podNetwork is the pod's own network if the interface of that name is on it.
func podNetwork(vmi *v1.VirtualMachineInstance, name string) *v1.PodNetwork {
	for i := range vmi.Spec.Networks {
		if vmi.Spec.Networks[i].Name == name {
			return vmi.Spec.Networks[i].Pod
		}
	}
	return nil
}

// attachedNetwork is the network of a NetworkAttachmentDefinition if the interface
// of that name is on one.
func attachedNetwork(vmi *v1.VirtualMachineInstance, name string) *v1.MultusNetwork {
	for i := range vmi.Spec.Networks {
		if vmi.Spec.Networks[i].Name == name {
			return vmi.Spec.Networks[i].Multus
		}
	}
	return nil
}

// networkConfig is what the spec asks of the pod's network.
func networkConfig(vmi *v1.VirtualMachineInstance) (podnet.Config, error) {
	c := podnet.Config{UID: v1.QEMUUser, GID: v1.QEMUUser, Seed: machine.FirmwareUUID(vmi)}
	ifs, index := present(vmi)
	for k, spec := range ifs {
		field := fmt.Sprintf("spec.domain.devices.interfaces[%d]", index[k])
		pod, attached := podNetwork(vmi, spec.Name), attachedNetwork(vmi, spec.Name)
		if pod == nil && attached == nil {
			return c, fmt.Errorf("%s: network %q of spec.networks must have the source pod or multus: others are not supported yet", field, spec.Name)
		}
		n := podnet.NIC{Name: spec.Name, VnetHdr: spec.Model == "" || spec.Model == "virtio"}
		if attached != nil {
			n.Attached, n.PodInterface = true, netattach.InterfaceName(spec.Name)
		}
		switch {
		case spec.Masquerade != nil && attached != nil:
			return c, fmt.Errorf("%s.masquerade: works on the pod network only; use bridge: {}", field)
		case spec.Masquerade != nil:
			n.Binding = podnet.Masquerade
		case spec.Bridge != nil:
			n.Binding = podnet.Bridge
		default:
			return c, fmt.Errorf("%s: needs the binding masquerade or bridge: others are not supported yet", field)
		}
		if spec.MacAddress != "" {
			mac, err := net.ParseMAC(spec.MacAddress)
			if err != nil {
				return c, fmt.Errorf("%s.macAddress: %q is no address such as 02:5a:00:00:00:01", field, spec.MacAddress)
			}
			n.MAC = mac
		}
		for i, p := range spec.Ports {
			if n.Binding != podnet.Masquerade {
				break // they document the guest's ports only, as in the peer
			}
			if p.Port < 1 || p.Port > math.MaxUint16 {
				return c, fmt.Errorf("%s.ports[%d].port: %d is not between 1 and 65535", field, i, p.Port)
			}
			n.Ports = append(n.Ports, podnet.Port{Protocol: p.Protocol, Port: uint16(p.Port)})
		}
		if n.Binding == podnet.Masquerade {
			var err error
			if n.CIDR, err = prefix(pod.VMNetworkCIDR, "vmNetworkCIDR", spec.Name); err != nil {
				return c, err
			}
			if n.CIDR6, err = prefix(pod.VMIPv6NetworkCIDR, "vmIPv6NetworkCIDR", spec.Name); err != nil {
				return c, err
			}
		}
		c.NICs = append(c.NICs, n)
	}
	return c, nil
}

func prefix(s, field, network string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("spec.networks: network %q: pod.%s: %q is no network such as 10.0.2.0/24", network, field, s)
	}
	return p, nil
}

// dhcpConfigs has an entry for each interface that has an IPv4 address to tell.
func dhcpConfigs(vmi *v1.VirtualMachineInstance, attached []podnet.Attached, dns dhcp.ResolvConf) []dhcp.Config {
	ifs, _ := present(vmi)
	var out []dhcp.Config
	for i, a := range attached {
		c := dhcp.Config{
			Interface: a.Tap, Server: a.DHCPServer, MAC: a.MAC, MTU: a.MTU,
			Search: dns.Search, Hostname: cloudinit.Hostname(vmi),
		}
		for _, p := range a.Addresses {
			if p.Addr().Is4() {
				c.Address = p
				break
			}
		}
		if !c.Address.IsValid() {
			continue
		}
		for _, r := range a.Routes {
			if r.Dst.Addr().Is4() {
				c.Routes = append(c.Routes, dhcp.Route{Dst: r.Dst, Gateway: r.Gateway})
			}
		}
		for _, s := range dns.Nameservers {
			if s.Is4() {
				c.DNS = append(c.DNS, s)
			}
		}
		if i < len(ifs) && ifs[i].DhcpOptions != nil {
			c.Options = dhcpOptions(ifs[i].DhcpOptions)
		}
		out = append(out, c)
	}
	return out
}

func dhcpOptions(o *v1.DHCPOptions) dhcp.Options {
	out := dhcp.Options{BootFileName: o.BootFileName, TFTPServer: o.TftpServerName}
	for _, s := range o.NtpServers {
		// Admission has checked them; what is no address can't be sent.
		if a, err := netip.ParseAddr(s); err == nil {
			out.NTP = append(out.NTP, a)
		}
	}
	for _, p := range o.PrivateOptions {
		if p.Option >= 224 && p.Option <= 254 {
			if out.Private == nil {
				out.Private = map[uint8]string{}
			}
			out.Private[uint8(p.Option)] = p.Value
		}
	}
	return out
}

// cloudInitNICs describes the interfaces to cloud-init.
func cloudInitNICs(attached []podnet.Attached, dns dhcp.ResolvConf) []cloudinit.NIC {
	var out []cloudinit.NIC
	for _, a := range attached {
		n := cloudinit.NIC{
			Name: a.Name, MAC: a.MAC.String(), MTU: a.MTU,
			Addresses: a.Addresses, Nameservers: dns.Nameservers, Search: dns.Search,
		}
		for _, r := range a.Routes {
			n.Routes = append(n.Routes, cloudinit.Route{Dst: r.Dst, Gateway: r.Gateway})
		}
		out = append(out, n)
	}
	return out
}

// nics are the interfaces for the status.
func nics(vmi *v1.VirtualMachineInstance, attached []podnet.Attached) []nic {
	ifs, _ := present(vmi)
	var out []nic
	for i, a := range attached {
		n := nic{
			name: a.Name, mac: a.MAC.String(), podInterface: a.PodInterface,
			podNetwork: podNetwork(vmi, a.Name) != nil, attached: attachedNetwork(vmi, a.Name) != nil,
			masquerade: a.Binding == podnet.Masquerade, podIPs: a.PodIPs,
		}
		n.linkDown = i < len(ifs) && ifs[i].State == "down"
		out = append(out, n)
	}
	return out
}

// attachments are the interfaces for package machine.
func attachments(attached []podnet.Attached, vhost bool) map[string]machine.Interface {
	out := map[string]machine.Interface{}
	for i, a := range attached {
		out[a.Name] = machine.Interface{Tap: a.Tap, FD: machine.TapFD(i), MAC: a.MAC.String(), MTU: a.MTU, Vhost: vhost}
	}
	return out
}
