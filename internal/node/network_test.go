// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/dhcp"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podnet"
)

var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestNetworkConfig(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	vmi.Spec.Networks = []v1.Network{
		{Name: "d", Multus: &v1.MultusNetwork{NetworkName: "lan"}},
		{Name: "a", Pod: &v1.PodNetwork{VMNetworkCIDR: "192.168.9.0/24"}},
		{Name: "b", Pod: &v1.PodNetwork{VMNetworkCIDR: "192.168.9.0/24"}},
		{Name: "c", Pod: &v1.PodNetwork{}},
	}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{
		{Name: "a", Masquerade: &v1.InterfaceMasquerade{}, Ports: []v1.Port{{Port: 80}, {Protocol: "UDP", Port: 53}}},
		{Name: "d", Bridge: &v1.InterfaceBridge{}},
		{Name: "c", State: "absent", Masquerade: &v1.InterfaceMasquerade{}},
		{Name: "b", Bridge: &v1.InterfaceBridge{}, Model: "e1000", MacAddress: "02-5A-00-00-00-09", Ports: []v1.Port{{Port: 1}}},
	}
	got, err := networkConfig(vmi)
	must(t, err)
	want := podnet.Config{UID: 107, GID: 107, Seed: testUID, NICs: []podnet.NIC{
		{Name: "a", Binding: podnet.Masquerade, VnetHdr: true, CIDR: netip.MustParsePrefix("192.168.9.0/24"), Ports: []podnet.Port{{Port: 80}, {Protocol: "UDP", Port: 53}}},
		{Name: "d", Binding: podnet.Bridge, VnetHdr: true, PodInterface: netattach.InterfaceName("d"), Attached: true},
		{Name: "b", Binding: podnet.Bridge, MAC: net.HardwareAddr{2, 0x5a, 0, 0, 0, 9}},
	}}
	if diff := cmp.Diff(want, got, comparePrefixes); diff != "" {
		t.Error(diff)
	}
}

func TestNetworkConfigRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*v1.VirtualMachineInstance){
		"spec.domain.devices.interfaces[0]: network": func(v *v1.VirtualMachineInstance) { v.Spec.Networks[0].Pod = nil },
		"spec.domain.devices.interfaces[0].masquerade": func(v *v1.VirtualMachineInstance) {
			v.Spec.Networks[0] = v1.Network{Name: v.Spec.Networks[0].Name, Multus: &v1.MultusNetwork{NetworkName: "lan"}}
		},
		"spec.domain.devices.interfaces[0]: needs the binding": func(v *v1.VirtualMachineInstance) { v.Spec.Domain.Devices.Interfaces[0].Masquerade = nil },
		"spec.domain.devices.interfaces[0].macAddress":         func(v *v1.VirtualMachineInstance) { v.Spec.Domain.Devices.Interfaces[0].MacAddress = "x" },
		"spec.domain.devices.interfaces[0].ports[0].port: 70000": func(v *v1.VirtualMachineInstance) {
			v.Spec.Domain.Devices.Interfaces[0].Ports = []v1.Port{{Port: 70000}}
		},
		`pod.vmNetworkCIDR: "10"`: func(v *v1.VirtualMachineInstance) { v.Spec.Networks[0].Pod.VMNetworkCIDR = "10" },
	} {
		vmi := testVMI()
		change(vmi)
		if _, err := networkConfig(vmi); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q in it", err, want)
		}
	}
}

func TestDHCPConfigs(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	vmi.Spec.Domain.Devices.Interfaces[0].DhcpOptions = &v1.DHCPOptions{
		BootFileName: "pxe.bin", TftpServerName: "tftp", NtpServers: []string{"192.0.2.1", "bad"},
		PrivateOptions: []v1.DHCPPrivateOptions{{Option: 240, Value: "x"}, {Option: 1, Value: "y"}},
	}
	a := podnet.Attached{
		Name: "default", Tap: "tap0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1400,
		Addresses:  []netip.Prefix{netip.MustParsePrefix("fd10::2/120"), netip.MustParsePrefix("10.0.2.2/24")},
		Routes:     []podnet.Route{{Dst: netip.MustParsePrefix("::/0")}, {Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.2.1")}},
		DHCPServer: netip.MustParseAddr("10.0.2.1"),
	}
	only6 := podnet.Attached{Name: "six", Addresses: a.Addresses[:1]}
	dns := dhcp.ResolvConf{Nameservers: []netip.Addr{netip.MustParseAddr("fd00::a"), netip.MustParseAddr("10.96.0.10")}, Search: []string{"svc"}}
	got := dhcpConfigs(vmi, []podnet.Attached{a, only6}, dns)
	want := []dhcp.Config{{
		Interface: "tap0", Server: a.DHCPServer, MAC: a.MAC, MTU: 1400, Hostname: "vm1", Address: a.Addresses[1],
		Routes: []dhcp.Route{{Dst: a.Routes[1].Dst, Gateway: a.Routes[1].Gateway}},
		DNS:    dns.Nameservers[1:], Search: dns.Search,
		Options: dhcp.Options{BootFileName: "pxe.bin", TFTPServer: "tftp", NTP: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Private: map[uint8]string{240: "x"}},
	}}
	if diff := cmp.Diff(want, got, comparePrefixes, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
