// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// hosts are the combinations for which there are golden files.
var hosts = []Host{
	{QEMUVersion: "11.1.3", Accel: KVM, Arch: "amd64"},
	{QEMUVersion: "11.1.3", Accel: TCG, Arch: "amd64"},
	{QEMUVersion: "10.0.13", Accel: KVM, Arch: "amd64"},
	{QEMUVersion: "10.0.13", Accel: TCG, Arch: "amd64"},
}

// attachmentsFor is what an agent would have prepared for an instance.
func attachmentsFor(vmi *v1.VirtualMachineInstance) Attachments {
	a := Attachments{
		Interfaces: map[string]Interface{},
		CloudInit:  map[string]string{},
		Claims:     map[string]Claim{},
		Now:        time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
	}
	for i, n := range vmi.Spec.Domain.Devices.Interfaces {
		a.Interfaces[n.Name] = Interface{
			Tap: fmt.Sprintf("tap%d", i), FD: TapFD(i),
			MAC: fmt.Sprintf("02:5a:00:00:00:%02x", i+1), MTU: 1450,
		}
	}
	for _, v := range vmi.Spec.Volumes {
		if v.CloudInitNoCloud != nil {
			a.CloudInit[v.Name] = contract.MachineDir + "/" + v.Name + ".iso"
		}
		if v.PersistentVolumeClaim != nil {
			// What a test says about its claims is in their names.
			is := func(word string) bool { return strings.Contains(v.PersistentVolumeClaim.ClaimName, word) }
			a.Claims[v.Name] = Claim{Block: is("block"), Size: 8 * mib, Direct: !is("tmpfs"), Native: !is("busy")}
		}
	}
	return a
}

func readVMI(t testing.TB, file string) *v1.VirtualMachineInstance {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := yaml.UnmarshalStrict(b, vmi); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return vmi
}

func vmiFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/vmi/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no instances in testdata/vmi: %v", err)
	}
	return files
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, file := range vmiFiles(t) {
		for _, host := range hosts {
			name := strings.TrimSuffix(filepath.Base(file), ".yaml")
			name = fmt.Sprintf("%s.%s.%s", name, host.Accel, host.QEMUVersion)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				vmi := readVMI(t, file)
				m, err := New(vmi, host, attachmentsFor(vmi))
				if err != nil {
					t.Fatal(err)
				}
				c := m.Contract()
				got, err := yaml.Marshal(c)
				if err != nil {
					t.Fatal(err)
				}
				golden := "testdata/args/" + name + ".yaml"
				if *update {
					if err := os.WriteFile(golden, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), string(got)); d != "" {
					t.Errorf("machine.json of %s (-want +got):\n%s", file, d)
				}
			})
		}
	}
}
