// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/guestagent"
	"github.com/skerry-dev/skerry/internal/qmp"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestNextLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{
		{Type: v1.VMIReady, Status: corev1.ConditionFalse, Reason: "GuestNotRunning"},
		{Type: v1.VMISynchronized, Status: corev1.ConditionFalse, Reason: "ImagePullBackOff"},
	}
	before := vmi.DeepCopy()
	st := next(vmi.Status, vmi, observed{}, now)
	if diff := cmp.Diff(before.Status, st); diff != "" {
		t.Errorf("nothing observed, but: %s", diff)
	}
	up := observed{up: true, run: qmp.Status{Running: true, Status: "running"}}
	st = next(vmi.Status, vmi, up, now)
	if diff := cmp.Diff(before, vmi); diff != "" {
		t.Errorf("the input was changed: %s", diff)
	}
	if c := st.Condition(v1.VMISynchronized); c == nil || c.Reason != "ImagePullBackOff" {
		t.Error("the controller's condition was removed")
	}
	if c := st.Condition(v1.VMIReady); c == nil || c.Reason != "GuestNotRunning" {
		t.Error("the controller's condition was changed")
	}
	if diff := cmp.Diff(st, next(st, vmi, up, now.Add(time.Hour))); diff != "" {
		t.Errorf("the same again changes: %s", diff)
	}
	for _, phase := range []v1.VirtualMachineInstancePhase{v1.Succeeded, v1.Failed} {
		vmi.Status.Phase = phase
		if diff := cmp.Diff(vmi.Status, next(vmi.Status, vmi, up, now)); diff != "" {
			t.Errorf("a final status was changed: %s", diff)
		}
	}
}

func TestNextProblem(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	st := next(vmi.Status, vmi, observed{problem: &problem{problemNetwork, "no link"}}, now)
	if c := st.Condition(v1.VMISynchronized); c == nil || c.Reason != problemNetwork || c.Status != corev1.ConditionFalse || c.Message != "no link" {
		t.Errorf("condition = %+v", c)
	}
	if st.Phase != v1.Scheduled {
		t.Errorf("phase = %s", st.Phase)
	}
	st = next(st, vmi, observed{}, now)
	if st.Condition(v1.VMISynchronized) != nil {
		t.Error("the problem stays")
	}
}

func TestNextStages(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	o := observed{}.withStage(v1.StageNetwork, now.Add(time.Second)).withStage(v1.StageImageReady, now)
	o = o.withStage(v1.StageNetwork, now.Add(time.Hour)) // the first time counts
	st := next(vmi.Status, vmi, o, now)
	if len(st.Stages) != 2 || st.Stages[0].Stage != v1.StageImageReady || !st.Stages[1].Time.Time.Equal(now.Add(time.Second)) {
		t.Errorf("stages = %+v", st.Stages)
	}
	again := next(st, vmi, observed{}.withStage(v1.StageImageReady, now.Add(time.Hour)), now)
	if diff := cmp.Diff(st, again); diff != "" {
		t.Errorf("another agent's stamp replaced the first: %s", diff)
	}
}

func TestPausedStates(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{
		"running": "", "paused": reasonPausedByUser, "prelaunch": reasonPausedByUser, "io-error": reasonPausedIOError,
		"shutdown": "", "guest-panicked": "", "suspended": "", "inmigrate": "", "<script>": "",
	} {
		reason, _, ok := observed{up: true, run: qmp.Status{Status: state}}.paused()
		if reason != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", state, reason, ok)
		}
	}
	if _, _, ok := (observed{run: qmp.Status{Status: "paused"}}).paused(); ok {
		t.Error("paused without QEMU")
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	guest := []guestagent.Interface{
		{Name: "docker0", MAC: net.HardwareAddr{2, 0x42, 0, 0, 0, 1}, Addresses: []netip.Addr{addr("172.17.0.1")}},
		{Name: "eth1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xb}, Addresses: []netip.Addr{addr("192.0.2.5"), addr("fe80::5")}},
		{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xa}, Addresses: []netip.Addr{addr("10.0.2.2")}},
		{Name: "veth1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0xc}},
		{Name: "sit0"},
	}
	have := []nic{
		{name: "second", mac: "02:00:00:00:00:0B", podInterface: "net1", podIPs: []netip.Addr{addr("192.0.2.5")}, linkDown: true},
		{name: "default", mac: "02:00:00:00:00:0a", podInterface: "eth0", podNetwork: true, masquerade: true, podIPs: []netip.Addr{addr("10.42.0.7")}},
	}
	got := interfaces(have, observed{agent: true, guestNICs: guest})
	want := []v1.VirtualMachineInstanceNetworkInterface{
		{Name: "default", MAC: "02:00:00:00:00:0a", PodInterfaceName: "eth0", InterfaceName: "eth0", InfoSource: "domain, guest-agent", IPAddress: "10.42.0.7", IPAddresses: []string{"10.42.0.7"}, QueueCount: 1, LinkState: "up"},
		{Name: "second", MAC: "02:00:00:00:00:0B", PodInterfaceName: "net1", InterfaceName: "eth1", InfoSource: "domain, guest-agent", IPAddress: "192.0.2.5", IPAddresses: []string{"192.0.2.5", "fe80::5"}, QueueCount: 1, LinkState: "down"},
		{MAC: "02:42:00:00:00:01", InterfaceName: "docker0", InfoSource: "guest-agent", IPAddress: "172.17.0.1", IPAddresses: []string{"172.17.0.1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What the agent said last is forgotten with it.
	got = interfaces(have, observed{guestNICs: guest})
	if len(got) != 2 || got[0].InfoSource != "domain" || got[0].InterfaceName != "" {
		t.Errorf("without agent: %+v", got)
	}
	// A guest that claims the same address twice gets one entry for the interface.
	got = interfaces(have[1:], observed{agent: true, guestNICs: []guestagent.Interface{guest[2], guest[2]}})
	if len(got) != 2 || got[1].Name != "" {
		t.Errorf("twice: %+v", got)
	}
}

func TestVolumesKeepsWhatOthersWrote(t *testing.T) {
	t.Parallel()
	old := []v1.VolumeStatus{{Name: "z", Target: "", Phase: "Bound", Reason: "PVCNotReady"}, {Name: "hot"}}
	got := volumes(old, []v1.VolumeStatus{{Name: "z", Target: "vda", Phase: "Ready", Size: 5}, {Name: "a", Target: "vdb", Phase: "Ready"}}, nil)
	want := []v1.VolumeStatus{{Name: "a", Target: "vdb", Phase: "Ready"}, {Name: "hot"}, {Name: "z", Target: "vda", Phase: "Bound", Reason: "PVCNotReady", Size: 5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUrgent(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	vmi.Status.Phase = v1.Running
	base := observed{up: true, run: qmp.Status{Running: true, Status: "running"}}
	st := next(vmi.Status, vmi, base, now)
	change := func(f func(*observed)) v1.VirtualMachineInstanceStatus {
		o := base
		f(&o)
		return next(st, vmi, o, now)
	}
	for name, tc := range map[string]struct {
		f    func(*observed)
		want bool
	}{
		"nothing":      {func(*observed) {}, false},
		"paused":       {func(o *observed) { o.run.Status = "paused" }, true},
		"problem":      {func(o *observed) { o.problem = &problem{problemMonitor, "x"} }, true},
		"crash":        {func(o *observed) { o.crashed = true }, true},
		"first output": {func(o *observed) { *o = o.withStage(v1.StageFirstOutput, now) }, false},
		"agent":        {func(o *observed) { o.agent = true }, false},
	} {
		n := change(tc.f)
		if got := urgent(&st, &n); got != tc.want {
			t.Errorf("%s: urgent = %v", name, got)
		}
	}
}

// A guest that opens and closes its agent's channel all day causes few writes.
func TestQuietWritesAreBounded(t *testing.T) {
	t.Parallel()
	var w writes
	at, made := now, 0
	for at.Before(now.Add(time.Hour)) {
		if wait := w.wait(at, time.Second); wait > 0 {
			at = at.Add(wait)
			continue
		}
		made++
		w.at = at
	}
	if limit := quietBurst + int(time.Hour/quietInterval) + 1; made > limit || made < limit-5 {
		t.Errorf("%d writes in an hour, want about %d", made, limit)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	if got := printable("a\x1b[31m\n\tb\x00\xff  c"); got != "a[31m b c" {
		t.Errorf("%q", got)
	}
	if got := printable(strings.Repeat("é", 5000)); len(got) > maxNote+8 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestToProblem(t *testing.T) {
	t.Parallel()
	if toProblem(nil) != nil || toProblem(errEnded) != nil || toProblem(errDeleting) != nil {
		t.Error("no problem became one")
	}
	for _, reason := range problems {
		p := toProblem(failed(reason, "disk %d\n", 1))
		if p.reason != reason || !strings.Contains(p.message, "disk 1") || strings.Contains(p.message, "\n") {
			t.Errorf("%+v", p)
		}
	}
}

// While QEMU is replaced the machine is what it was; an agent that comes in
// between learns how it ends.
func TestRan(t *testing.T) {
	t.Parallel()
	state := func(s string) qmp.Status { return qmp.Status{Running: s == qmp.StateRunning, Status: s} }
	is := func(what string, o observed, run string, moving bool) {
		t.Helper()
		if o.run.Status != run || o.moving != moving || !o.up {
			t.Errorf("%s: run state %q, moving %v, up %v; want %q, %v", what, o.run.Status, o.moving, o.up, run, moving)
		}
	}
	o := observed{}.ran(state(qmp.StatePaused))
	is("at first", o, qmp.StatePaused, false)
	o = o.ran(state(qmp.StateFinishMigrate))
	is("writes its state", o, qmp.StatePaused, true)
	o = o.ran(state(qmp.StateInMigrate))
	is("reads its state", o, qmp.StatePaused, true)
	o = o.ran(state(qmp.StatePaused))
	is("has its state", o, qmp.StatePaused, false)

	o = observed{}.ran(state(qmp.StateRunning))
	o.renewing = true
	o = o.ran(state(qmp.StatePaused))
	is("renewed and not let go yet", o, qmp.StateRunning, false)
	o.renewing = false
	is("somebody paused it then", o.ran(state(qmp.StatePaused)), qmp.StatePaused, false)

	o = observed{}.ran(state(qmp.StateInMigrate))
	is("an agent that knows nothing", o, qmp.StateInMigrate, true)
	is("and learns", o.ran(state(qmp.StatePaused)), qmp.StatePaused, false)
}
