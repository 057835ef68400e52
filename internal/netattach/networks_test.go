// SPDX-License-Identifier: Apache-2.0

package netattach

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// spec has the pod network and those of the given names, each on the definition of
// that networkName.
func spec(networks ...[2]string) *v1.VirtualMachineInstanceSpec {
	s := &v1.VirtualMachineInstanceSpec{Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}}}
	s.Domain.Devices.Interfaces = []v1.Interface{{Name: "default"}}
	for _, n := range networks {
		s.Networks = append(s.Networks, v1.Network{Name: n[0], Multus: &v1.MultusNetwork{NetworkName: n[1]}})
		s.Domain.Devices.Interfaces = append(s.Domain.Devices.Interfaces, v1.Interface{Name: n[0]})
	}
	return s
}

func TestInterfaceName(t *testing.T) {
	t.Parallel()
	// The first 11 digits of the SHA-256 of "blue".
	if got := InterfaceName("blue"); got != "pod16477688c0e" {
		t.Errorf("InterfaceName(blue) = %s", got)
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	gw := netip.MustParseAddr("10.9.0.1")
	yes := true
	for _, tc := range []struct {
		name        string
		annotations map[string]string
		spec        *v1.VirtualMachineInstanceSpec
		want        Wanted
		annotation  string
	}{
		{"pod network only", map[string]string{NetworksAnnotation: "anything, goes"}, spec(), Wanted{}, ""},
		{"own namespace", nil, spec([2]string{"blue", "vlan5"}), Wanted{Networks: []Network{
			{Name: "blue", Element: Element{Name: "vlan5", Namespace: "ns", Interface: "pod16477688c0e"}},
		}}, `[{"name":"vlan5","namespace":"ns","interface":"pod16477688c0e"}]`},
		{"the reference manifest", map[string]string{
			"ovn.kubernetes.io/allow_live_migration":              "true",
			NetworksAnnotation:                                    "mec-nets/attachnet1",
			"attachnet1.mec-nets.ovn.kubernetes.io/default_route": "true",
		}, spec([2]string{"blue", "mec-nets/attachnet1"}), Wanted{Networks: []Network{
			{Name: "blue", Element: Element{Name: "attachnet1", Namespace: "mec-nets", Interface: "pod16477688c0e"}, DefaultRoute: &yes},
		}}, `[{"name":"attachnet1","namespace":"mec-nets","interface":"pod16477688c0e"}]`},
		{"addresses, MAC and route", map[string]string{
			NetworksAnnotation: `[{"name":"n","namespace":"x","ips":["10.9.0.5/24"],"mac":"02:00:00:00:00:09","default-route":["10.9.0.1"],"cni-args":{"a":1}}]`,
		}, spec([2]string{"blue", "x/n"}), Wanted{Networks: []Network{
			{Name: "blue", Element: Element{Name: "n", Namespace: "x", Interface: "pod16477688c0e", MAC: "02:00:00:00:00:09", IPs: []string{"10.9.0.5/24"}, Gateways: []netip.Addr{gw}, Args: map[string]any{"a": 1.0}}},
		}}, `[{"name":"n","namespace":"x","interface":"pod16477688c0e","mac":"02:00:00:00:00:09","ips":["10.9.0.5/24"],"default-route":["10.9.0.1"],"cni-args":{"a":1}}]`},
		{"twice the same definition", map[string]string{NetworksAnnotation: `[{"name":"n","ips":["10.9.0.5"]},{"name":"n","ips":["10.9.0.6"]}]`},
			spec([2]string{"blue", "n"}, [2]string{"red", "ns/n"}), Wanted{Networks: []Network{
				{Name: "blue", Element: Element{Name: "n", Namespace: "ns", Interface: "pod16477688c0e", IPs: []string{"10.9.0.5"}}},
				{Name: "red", Element: Element{Name: "n", Namespace: "ns", Interface: InterfaceName("red"), IPs: []string{"10.9.0.6"}}},
			}}, `[{"name":"n","namespace":"ns","interface":"pod16477688c0e","ips":["10.9.0.5"]},{"name":"n","namespace":"ns","interface":"` + InterfaceName("red") + `","ips":["10.9.0.6"]}]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Networks("ns", tc.annotations, tc.spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, addrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			text, err := got.Annotation()
			if err != nil || text != tc.annotation {
				t.Errorf("annotation %s, %v; want %s", text, err, tc.annotation)
			}
			if text == "" {
				return
			}
			// What the pod gets reads back as it is.
			again, err := Parse(text, "other")
			if err != nil || len(again) != len(got.Networks) {
				t.Errorf("Parse of it: %v, %v", again, err)
			}
		})
	}
}

func TestNetworksRefuses(t *testing.T) {
	t.Parallel()
	mac := spec([2]string{"blue", "n"})
	mac.Domain.Devices.Interfaces[1].MacAddress = "02:00:00:00:00:08"
	for want, tc := range map[string]struct {
		annotations map[string]string
		spec        *v1.VirtualMachineInstanceSpec
	}{
		"entry 0 names ns/other":            {map[string]string{NetworksAnnotation: "other"}, spec([2]string{"blue", "n"})},
		"entry 1 names ns/n":                {map[string]string{NetworksAnnotation: "n,n"}, spec([2]string{"blue", "n"})},
		"is called pod16477688c0e":          {map[string]string{NetworksAnnotation: "n@net1"}, spec([2]string{"blue", "n"})},
		"has the macAddress 02":             {map[string]string{NetworksAnnotation: `[{"name":"n","mac":"02:00:00:00:00:09"}]`}, mac},
		`"yes" is neither`:                  {map[string]string{"n.ns.ovn.kubernetes.io/default_route": "yes"}, spec([2]string{"blue", "n"})},
		`ovn.kubernetes.io/default_route: `: {map[string]string{"ovn.kubernetes.io/default_route": "1"}, spec()},
		"unknown field":                     {map[string]string{NetworksAnnotation: `[{"name":"n","bandwidth":{}}]`}, spec([2]string{"blue", "n"})},
		"after the list":                    {map[string]string{NetworksAnnotation: `[] []`}, spec([2]string{"blue", "n"})},
		`namespace "..`:                     {map[string]string{NetworksAnnotation: "../n"}, spec([2]string{"blue", "n"})},
		`name ""`:                           {map[string]string{NetworksAnnotation: "n,"}, spec([2]string{"blue", "n"})},
		"is no address":                     {map[string]string{NetworksAnnotation: `[{"name":"n","ips":["10.9.0"]}]`}, spec([2]string{"blue", "n"})},
		"unicast":                           {map[string]string{NetworksAnnotation: `[{"name":"n","mac":"01:00:00:00:00:09"}]`}, spec([2]string{"blue", "n"})},
		"no gateway's":                      {map[string]string{NetworksAnnotation: `[{"name":"n","default-route":["0.0.0.0"]}]`}, spec([2]string{"blue", "n"})},
		"use 65536 at most":                 {map[string]string{NetworksAnnotation: strings.Repeat("n", 70000)}, spec([2]string{"blue", "n"})},
		"use 256 at most":                   {map[string]string{NetworksAnnotation: strings.Repeat("n,", 300)}, spec([2]string{"blue", "n"})},
	} {
		if _, err := Networks("ns", tc.annotations, tc.spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a/b@c, d")
	f.Add(`[{"name":"n","namespace":"x","ips":["10.9.0.5/24"],"default-route":["10.9.0.1"]}]`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text, "ns")
		if err != nil {
			return
		}
		for _, e := range list {
			if err := CheckName(e.Namespace, e.Name); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
