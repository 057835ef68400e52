// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package renew

import (
	"fmt"
	"os"
	"strings"
	"testing"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/test/witness"
)

// guests is how many are renewed: three at work are what two cores carry under
// emulation beside everything else, ten are for the campaign.
var guests = 3

func init() {
	if os.Getenv("SKERRY_CAMPAIGN") != "" {
		guests = 10
	}
}

// Guests get another QEMU while they run; before that, two that are no good
// are tried in vain. One more is left alone and shows what the machine does to
// guests by itself.
func TestRenew(t *testing.T) {
	ns, alone := namespace(t, "renew"), namespace(t, "control")
	control := newGuest(t, alone, "control", nil)
	var all []*guest
	for i := range guests {
		name := fmt.Sprintf("g%d", i)
		if i == 0 {
			name = "exit0" // see pretender
		}
		all = append(all, newGuest(t, ns, name, func(spec *v1.VirtualMachineInstanceSpec) {
			if i == 1 {
				spec.Domain.CPU = &v1.CPU{Cores: 2}
			}
		}))
	}
	for _, g := range append(all, control) {
		g.awake(t)
		if got := g.program(t); got != contract.QEMU {
			t.Fatalf("%s runs %s at first", g.name, got)
		}
	}
	old := all[1].renewableWhen(t, v1.RenewableUpToDate)
	if q := old.Status.QEMU; q == nil || q.Version == "" || q.Package == "" || q.Renewed != "" {
		t.Errorf("status.qemu is %+v", q)
	}
	if out, err := box.CLI(t.Context(), "vm", "renew", "-n", ns, "g1"); err != nil || !strings.Contains(out, "up to date") {
		t.Errorf("renew without anything newer: %s %v", out, err)
	}
	var traffic []*witness.Traffic
	for _, g := range all {
		tr, err := witness.StartTraffic(t.Context(), g.ip)
		if err != nil {
			t.Fatal(err)
		}
		traffic = append(traffic, tr)
	}

	// A QEMU that passes for one until it is given a machine. (One that does not know
	// an option: TestQEMURenewsEveryMachine.)
	bad, _ := newImages(t, "+bad", pretender(old.Status.Machine.Type))
	upgrade(t, bad)
	for g, says := range map[*guest]string{all[0]: "pretender: no", all[1]: "within 10s"} {
		g.renewableWhen(t, v1.RenewableOutdated)
		out, err := box.CLI(t.Context(), "vm", "renew", "-n", ns, g.name)
		if err == nil || !strings.Contains(out, says) {
			t.Errorf("renew %s: %s %v; want %q", g.name, out, err, says)
		}
		t.Logf("renew %s: %s", g.name, out)
		g.ranOn(t)
		if got := g.program(t); got != contract.QEMU {
			t.Errorf("%s runs %s", g.name, got)
		}
		g.renewableWhen(t, v1.RenewableFailed)
	}

	images, name := newImages(t, "+renewed", renamed)
	upgrade(t, images)
	for _, g := range append(all, control) {
		g.renewableWhen(t, v1.RenewableOutdated)
	}
	listener := listen(t, append(all, control))
	sleeper := all[2]
	if _, err := box.CLI(t.Context(), "pause", "-n", ns, sleeper.name); err != nil {
		t.Fatal(err)
	}
	console, screen := open(t, all[0], "console"), open(t, all[1], "vnc")
	console.echo(t, "before")
	waitFor(t, "VNC's greeting", func() (bool, string) {
		text, err := screen.text()
		return strings.HasPrefix(text, "RFB "), fmt.Sprint(text, err)
	})
	sizes := map[*guest]int64{}
	for _, g := range all {
		_, sizes[g] = g.memory(t, g.process.PID)
	}

	out, err := box.CLI(t.Context(), "vm", "renew", "-n", ns, "--all")
	t.Logf("skerry vm renew --all\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range append(all, control) {
		h := listener.Heard(uint64(i))
		t.Logf("%s: longest gap between heartbeats %v, %d of %d lost", g.name, h.Gap, h.Lost, h.Count+h.Lost)
		if g == sleeper {
			continue // cannot answer
		}
		// They go before all else in a guest, and would leave it no time on a busy machine.
		if _, err := witness.Ask(t.Context(), g.ip, "beats off"); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
	}
	console.echo(t, "after")
	waitFor(t, "VNC to be closed", func() (bool, string) {
		text, err := screen.text()
		return err != nil, text
	})
	again := open(t, all[1], "vnc")
	waitFor(t, "VNC's greeting", func() (bool, string) {
		text, err := again.text()
		return strings.HasPrefix(text, "RFB "), fmt.Sprint(text, err)
	})
	want := contract.NextRoot(name) + contract.QEMU
	for _, g := range all {
		vmi := g.renewableWhen(t, v1.RenewableUpToDate)
		if q := vmi.Status.QEMU; q == nil || q.Renewed != name || !strings.HasSuffix(q.Package, "+renewed") {
			t.Errorf("%s: status.qemu is %+v, want image %s", g.name, q, name)
		}
		if got := g.program(t); got != want {
			t.Errorf("%s runs %s, want %s", g.name, got, want)
		}
		if g == sleeper {
			if vmi.Status.Condition(v1.VMIPaused) == nil {
				t.Errorf("%s was paused and is not any more", g.name)
			}
			if _, err := box.CLI(t.Context(), "unpause", "-n", ns, g.name); err != nil {
				t.Fatal(err)
			}
			if _, err := witness.Ask(t.Context(), g.ip, "beats off"); err != nil {
				t.Errorf("%s: %v", g.name, err)
			}
		}
		g.ranOn(t)
		// What the guest touches is added; a copy would double it.
		if _, size := g.memory(t, g.process.PID); size > sizes[g]+32<<20 {
			t.Errorf("%s: the memory file grew from %d to %d bytes", g.name, sizes[g], size)
		}
	}
	if got := control.program(t); got != contract.QEMU {
		t.Errorf("the control guest runs %s", got)
	}
	control.ranOn(t)
	for i, tr := range traffic {
		n, err := tr.Stop()
		if err != nil || n.StreamIn == 0 {
			t.Errorf("traffic with %s: %+v %v", all[i].name, n, err)
		}
	}
	// A renewed machine ends as others do, and what it was started with is the record.
	if out, err := box.CLI(t.Context(), "vm", "renew", "-n", ns, "--all"); err != nil || strings.Count(out, "is up to date") != guests {
		t.Errorf("renew again: %s %v", out, err)
	}
	if _, err := witness.Ask(t.Context(), all[1].ip, "poweroff"); err != nil {
		t.Logf("power off: %v", err) // it may be quicker than its answer
	}
	all[1].when(t, "Succeeded", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Succeeded })
}

// listen has all guests send their heartbeats here.
func listen(t *testing.T, all []*guest) *witness.Listener {
	t.Helper()
	l, err := witness.Listen(gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i, g := range all {
		if _, err := witness.Ask(t.Context(), g.ip, l.Command(uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "all heartbeats", func() (bool, string) {
		for i := range all {
			if l.Heard(uint64(i)).Count == 0 {
				return false, all[i].name
			}
		}
		return true, ""
	})
	l.Reset()
	return l
}

// gateway is this machine's address on the pods' bridge.
const gateway = "10.42.0.1"
