// SPDX-License-Identifier: Apache-2.0

package netattach

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	testNetwork = Network{Name: "blue", Element: Element{Name: "n", Namespace: "x"}}
	testHost    = Host{LeaseDir: "/state/leases", Reserved: []string{"skerry0"}}
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	asking := testNetwork
	asking.MAC, asking.IPs, asking.Args = "02:00:00:00:00:09", []string{"10.9.0.5"}, map[string]any{"a": "b"}
	for _, tc := range []struct {
		name    string
		network Network
		text    string
		want    string
		bridges []string
	}{
		{"one plugin without a name", testNetwork, `{"cniVersion":"1.0.0","type":"macvlan","master":"eth1"}`,
			`{"cniVersion":"1.0.0","name":"x.n","plugins":[{"type":"macvlan","master":"eth1"}]}`, nil},
		{"a list", testNetwork, `{"cniVersion":"1.0.0","name":"lan","loadOnlyInlinedPlugins":false,"plugins":[{"type":"bridge","bridge":"br5","ipam":{}},{"type":"tuning"}]}`,
			`{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"bridge","bridge":"br5"},{"type":"tuning"}]}`, []string{"br5"}},
		{"leases and files of the host", testNetwork,
			`{"name":"lan","type":"bridge","ipam":{"type":"host-local","dataDir":"/etc/cron.d","resolvConf":"/etc/shadow","subnet":"10.9.0.0/24"},"prevResult":{},"runtimeConfig":{}}`,
			`{"name":"lan","plugins":[{"type":"bridge","ipam":{"type":"host-local","dataDir":"/state/leases","subnet":"10.9.0.0/24"}}]}`, []string{"cni0"}},
		{"wishes", asking, `{"name":"lan","type":"bridge","bridge":"br5","args":{"cni":{"a":"x","c":"d"},"other":1},"ipam":{"type":"static"}}`,
			`{"name":"lan","plugins":[{"type":"bridge","bridge":"br5","ipam":{"type":"static"},"args":{"other":1,"cni":{"a":"b","c":"d","mac":"02:00:00:00:00:09","ips":["10.9.0.5"]}}}]}`, []string{"br5"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Prepare(tc.network, tc.text, testHost)
			if err != nil {
				t.Fatal(err)
			}
			var want, have any
			if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(got.List, &have); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.bridges, got.Bridges); diff != "" {
				t.Errorf("bridges (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	asking := testNetwork
	asking.IPs = []string{"10.9.0.5"}
	for want, text := range map[string]string{
		"is empty":                     " ",
		"no CNI configuration in JSON": "{",
		"has 70013 bytes":              `{"type":"` + strings.Repeat("x", 70000) + `"}  `,
		"want a list of plugins":       `{"plugins":[]}`,
		"plugins[0]: want an object":   `{"plugins":[1]}`,
		"9 are too many":               `{"plugins":[` + strings.Repeat(`{"type":"a"},`, 8) + `{"type":"a"}]}`,
		`type: "../../bin/sh"`:         `{"type":"../../bin/sh"}`,
		`type: "/bin/sh"`:              `{"type":"/bin/sh"}`,
		`type: ".."`:                   `{"type":".."}`,
		`type: ""`:                     `{"type":7}`,
		`ipam: type: "../x"`:           `{"type":"bridge","ipam":{"type":"../x"}}`,
		"ipam: want an object":         `{"type":"bridge","ipam":"host-local"}`,
		`name: "../up"`:                `{"name":"../up","type":"bridge"}`,
		"is the pods' own network":     `{"type":"bridge","bridge":"skerry0"}`,
		`bridge: "a/b"`:                `{"type":"bridge","bridge":"a/b"}`,
		"bridge: want a name":          `{"type":"bridge","bridge":{}}`,
		"has no ipam":                  `{"type":"bridge","bridge":"br5"}`,
	} {
		_, err := Prepare(asking, text, testHost)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "NetworkAttachmentDefinition x/n: spec.config: ") {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add(`{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"bridge","bridge":"br5","ipam":{"type":"host-local","dataDir":"/etc"}},{"type":"tuning"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Prepare(testNetwork, text, testHost)
		if err != nil {
			return
		}
		var list struct {
			Name    string
			Plugins []struct {
				Type   string
				Bridge string
				IPAM   struct{ Type, DataDir string }
			}
		}
		if err := json.Unmarshal(got.List, &list); err != nil {
			return // keys in another case, which plugins refuse as well
		}
		for _, p := range list.Plugins {
			if strings.Contains(p.Type, "/") || strings.Contains(p.IPAM.Type, "/") || p.Bridge == "skerry0" && p.Type == "bridge" {
				t.Errorf("%s", got.List)
			}
		}
	})
}
