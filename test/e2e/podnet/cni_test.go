// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package podnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/internal/netns/netnstest"
	"github.com/skerry-dev/skerry/internal/podnet"
)

// The bridge plugin cleans up behind a pod whose interface became the guest's as
// it does behind any other.
func TestCNICleansUp(t *testing.T) {
	for _, binding := range []podnet.Binding{podnet.Masquerade, podnet.Bridge} {
		t.Run(string(binding), func(t *testing.T) {
			node, pod := netnstest.New(t), netnstest.New(t)
			bin, err := filepath.Abs(filepath.Join(build, "bin"))
			if err != nil {
				t.Fatal(err)
			}
			state := t.TempDir()
			config := map[string]any{
				"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
				"ipam": map[string]any{
					"type": "host-local", "dataDir": state,
					"ranges": [][]map[string]string{{{"subnet": "10.244.6.0/24"}}}, "routes": []map[string]string{{"dst": "0.0.0.0/0"}},
				},
			}
			cni := func(command string, prev json.RawMessage) []byte {
				t.Helper()
				if prev != nil {
					config["prevResult"] = prev
				}
				in, err := json.Marshal(config)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(filepath.Join(bin, "bridge"))
				cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=machine", "CNI_NETNS=/proc/self/fd/3", "CNI_IFNAME=eth0", "CNI_PATH=" + bin, "PATH=" + os.Getenv("PATH")}
				cmd.Stdin, cmd.ExtraFiles = bytes.NewReader(in), []*os.File{pod}
				var out []byte
				netnstest.Inside(t, node, func() error {
					var err error
					if out, err = cmd.CombinedOutput(); err != nil {
						return fmt.Errorf("%s: %w\n%s", command, err, out)
					}
					return nil
				})
				return out
			}
			result := cni("ADD", nil)
			a, err := podnet.Setup(t.Context(), pod, podnet.Config{UID: qemuUser, GID: qemuUser, Seed: "x", NICs: []podnet.NIC{{Name: "default", Binding: binding}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := a[0].PodIPs[0]; got != netip.MustParseAddr("10.244.6.2") {
				t.Errorf("pod address %s", got)
			}
			cni("DEL", result)
			leases, err := filepath.Glob(filepath.Join(state, "pods", "10.*"))
			if err != nil || len(leases) > 0 {
				t.Errorf("leases left: %v, %v", leases, err)
			}
			if out := netnstest.Exec(t, pod, "ip", "-o", "link", "show"); strings.Contains(out, " eth0:") || strings.Contains(out, " eth0@") {
				t.Errorf("the plugin did not find its interface:\n%s", out)
			}
		})
	}
}
