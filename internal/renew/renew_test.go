// SPDX-License-Identifier: Apache-2.0

package renew

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// lines are the command lines of all machines that package machine has as golden
// files for the newest QEMU.
func lines(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../machine/testdata/args/*.11.1.3.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("golden files: %d, %v", len(files), err)
	}
	out := map[string][]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var m contract.Machine
		if err := yaml.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = m.Argv
	}
	return out
}

// live is a machine that is exactly what its line says.
func live(t *testing.T, argv []string) Live {
	t.Helper()
	list, err := words(argv)
	if err != nil {
		t.Fatal(err)
	}
	return Live{
		Version: "11.1.3", Status: "running", Memory: map[string]bool{"ram0": true},
		Devices: ids(values(list, "-device"), "id"), Nodes: ids(values(list, "-blockdev"), "node-name"),
	}
}

func TestEveryMachineCanBeRenewed(t *testing.T) {
	t.Parallel()
	for name, argv := range lines(t) {
		l := live(t, argv)
		if o := Judge(argv, l, Candidate{Version: "11.1.3"}); o != nil {
			t.Errorf("%s: %s: %s", name, o.Reason, o.Message)
		}
		now, err := Argv(argv, l.Plugged)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(slices.DeleteFunc(slices.Clone(argv), func(w string) bool { return w == "-S" }), now); d != "" {
			t.Errorf("%s: the line changed:\n%s", name, d)
		}
		r, err := Commands(now, "", "0123456789ab")
		if err != nil {
			t.Fatal(err)
		}
		// Nothing of the rehearsal listens where the machine does.
		for _, w := range r.Rehearsal {
			if strings.Contains(w, contract.RunDir+"/") && !strings.Contains(w, contract.RunDir+"/"+contract.RehearsalDir+"/") && !strings.HasSuffix(w, contract.RenewState) {
				t.Errorf("%s: the rehearsal has %s", name, w)
			}
		}
		if r.Rehearsal[len(r.Rehearsal)-1] != "-S" || slices.Contains(r.New, "-S") || slices.Contains(r.Old, "-S") {
			t.Errorf("%s: only the rehearsal must not let the guest run: %v", name, r)
		}
		if r.Old[0] != contract.QEMU || contract.NextOf(r.New[0]) != "0123456789ab" || contract.NextOf(r.Rehearsal[0]) != "0123456789ab" {
			t.Errorf("%s: programs %s, %s, %s", name, r.Old[0], r.New[0], r.Rehearsal[0])
		}
	}
}

func TestArgv(t *testing.T) {
	t.Parallel()
	argv := []string{contract.QEMU, "-nodefaults", "-S", "-append", "-S", "-append", "-device", "-device", `{"driver":"x","id":"ua-vcpu1"}`, "-object", `{"qom-type":"y","id":"vm0"}`}
	base := []string{contract.QEMU, "-nodefaults", "-append", "-S", "-append", "-device", "-device", `{"driver":"x","id":"ua-vcpu1"}`, "-object", `{"qom-type":"y","id":"vm0"}`}
	p := Plugged{
		VCPUs: []VCPU{
			{ID: "vcpu10", Driver: "max-x86_64-cpu", Props: map[string]int64{"thread-id": 0, "socket-id": 10, "core-id": 0}},
			{ID: "vcpu2-0-1", Driver: "max-x86_64-cpu", Props: map[string]int64{"socket-id": 2, "core-id": 0, "thread-id": 1}},
			{ID: "vcpu2", Driver: "max-x86_64-cpu", Props: map[string]int64{"socket-id": 2, "core-id": 0, "thread-id": 0}},
		},
		DIMMs: []DIMM{{ID: "dimm0", Backend: "mem-dimm0", Size: 1 << 28, Addr: 1 << 32, Slot: 0}},
		Marks: []string{"skerry-plugs-2", "skerry-boot-memory-1000", "entropy0"},
	}
	want := append(slices.Clone(base),
		"-object", `{"qom-type":"memory-backend-memfd","id":"mem-dimm0","size":268435456,"share":true}`,
		"-device", `{"driver":"pc-dimm","id":"dimm0","memdev":"mem-dimm0","addr":4294967296,"slot":0}`,
		"-device", `{"driver":"max-x86_64-cpu","id":"vcpu2","core-id":0,"socket-id":2,"thread-id":0}`,
		"-device", `{"driver":"max-x86_64-cpu","id":"vcpu10","core-id":0,"socket-id":10,"thread-id":0}`,
		"-device", `{"driver":"max-x86_64-cpu","id":"vcpu2-0-1","core-id":0,"socket-id":2,"thread-id":1}`,
		"-object", `{"qom-type":"secret","id":"skerry-boot-memory-1000","data":"-"}`,
	)
	got, err := Argv(argv, p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// The line of a renewed machine is the record: what is there is not there twice,
	// and what was unplugged since goes.
	if again, err := Argv(got, p); err != nil || cmp.Diff(want, again) != "" {
		t.Errorf("again: %v\n%s", err, cmp.Diff(want, again))
	}
	if less, err := Argv(got, Plugged{}); err != nil || cmp.Diff(base, less) != "" {
		t.Errorf("unplugged: %v\n%s", err, cmp.Diff(base, less))
	}
	for _, bad := range [][]string{nil, {contract.QEMU, "-device"}, {contract.QEMU, "x"}} {
		if _, err := Argv(bad, Plugged{}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	base := lines(t)["container-disk.tcg.11.1.3.yaml"]
	if base == nil {
		t.Fatal("no golden line container-disk")
	}
	replaced := func(old, new string) func([]string) []string {
		return func(argv []string) []string {
			out := slices.Clone(argv)
			n := 0
			for i := range out {
				if strings.Contains(out[i], old) {
					out[i] = strings.ReplaceAll(out[i], old, new)
					n++
				}
			}
			if n == 0 {
				panic(old + " is not in the line")
			}
			return out
		}
	}
	for name, c := range map[string]struct {
		line   func([]string) []string
		live   func(*Live)
		next   Candidate
		reason string
		says   string
	}{
		"good":                 {},
		"paused":               {live: func(l *Live) { l.Status = "paused" }},
		"failed before":        {live: func(l *Live) { l.Migration = "failed" }},
		"newer":                {next: Candidate{Version: "12.0.1", Machines: []string{"pc-q35-11.1"}}},
		"old QEMU":             {live: func(l *Live) { l.Version = "10.0.13" }, reason: v1.RenewableQEMUVersion, says: "QEMU 10.0.13, and only 11.1"},
		"unreadable version":   {live: func(l *Live) { l.Version = "x" }, reason: v1.RenewableQEMUVersion},
		"downgrade":            {live: func(l *Live) { l.Version = "11.2.0" }, next: Candidate{Version: "11.1.3"}, reason: v1.RenewableQEMUVersion, says: "is newer"},
		"machine type":         {next: Candidate{Version: "12.0.1", Machines: []string{"pc-q35-12.0"}}, reason: v1.RenewableQEMUVersion, says: "does not know the machine type pc-q35-"},
		"no memory backend":    {live: func(l *Live) { l.Memory = nil }, reason: v1.RenewableMemory},
		"private memory":       {live: func(l *Live) { l.Memory = map[string]bool{"ram0": true, "b": false, "a": false} }, reason: v1.RenewableMemory, says: "memory a, b is not shared"},
		"private device RAM":   {line: replaced("aux-ram-share=on", "aux-ram-share=off"), reason: v1.RenewableMemory, says: "aux-ram-share"},
		"tap by name":          {line: replaced(`"fd":"30"`, `"ifname":"tap0"`), reason: v1.RenewableDevice, says: "network net-default by name"},
		"other network":        {line: replaced(`"type":"tap"`, `"type":"user"`), reason: v1.RenewableDevice, says: `type "user"`},
		"unknown device":       {live: func(l *Live) { l.Devices = append(l.Devices, "usb1") }, reason: v1.RenewableDevice, says: "device usb1 was added"},
		"plugged vCPU":         {live: func(l *Live) { l.Devices = append(l.Devices, "vcpu1"); l.Plugged.VCPUs = []VCPU{{ID: "vcpu1"}} }},
		"vCPU that is not his": {live: func(l *Live) { l.Devices = append(l.Devices, "vcpu1") }, reason: v1.RenewableDevice, says: "device vcpu1 was added"},
		"device gone":          {live: func(l *Live) { l.Devices = l.Devices[1:] }, reason: v1.RenewableDevice, says: "was removed"},
		"block node added":     {live: func(l *Live) { l.Nodes = append(l.Nodes, "snap") }, reason: v1.RenewableDevice, says: "block node snap was added"},
		"migrating":            {live: func(l *Live) { l.Migration = "active" }, reason: v1.RenewableState, says: "(active)"},
		"capability":           {live: func(l *Live) { l.Capabilities = []string{"x-ignore-shared"} }, reason: v1.RenewableState, says: "x-ignore-shared"},
		"never ran":            {live: func(l *Live) { l.Status = "prelaunch" }, reason: v1.RenewableState, says: `"prelaunch"`},
		"no line":              {line: func([]string) []string { return []string{contract.QEMU, "oops"} }, reason: v1.RenewableDevice},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, argv := live(t, base), base
			if c.line != nil {
				argv = c.line(argv)
			}
			if c.live != nil {
				c.live(&l)
			}
			if c.next.Version == "" {
				c.next.Version = "11.1.3"
				if l.Version != "11.1.3" {
					c.next.Version = ""
				}
			}
			o := Judge(argv, l, c.next)
			switch {
			case o == nil && c.reason != "":
				t.Errorf("nothing speaks against it, want %s", c.reason)
			case o != nil && (o.Reason != c.reason || !strings.Contains(o.Message, c.says)):
				t.Errorf("%s: %s; want %s with %q", o.Reason, o.Message, c.reason, c.says)
			}
		})
	}
}

func TestNewer(t *testing.T) {
	t.Parallel()
	a := contract.ImageInfo{QEMUVersion: "11.1.3", Packages: map[string]string{"qemu": "1", "libc6": "2"}}
	for name, c := range map[string]struct {
		b    contract.ImageInfo
		want bool
	}{
		"same":    {contract.ImageInfo{QEMUVersion: "11.1.3", Packages: map[string]string{"libc6": "2", "qemu": "1"}}, false},
		"version": {contract.ImageInfo{QEMUVersion: "11.1.4", Packages: a.Packages}, true},
		"library": {contract.ImageInfo{QEMUVersion: "11.1.3", Packages: map[string]string{"libc6": "3", "qemu": "1"}}, true},
		"other":   {contract.ImageInfo{QEMUVersion: "11.1.3", Packages: map[string]string{"libc7": "2", "qemu": "1"}}, true},
		"nothing": {contract.ImageInfo{QEMUVersion: "11.1.3"}, true},
	} {
		if got := Newer(a, c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
