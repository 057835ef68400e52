// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
)

func TestPassing(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	created := func(d time.Duration) vmiOpt {
		return func(vmi *v1.VirtualMachineInstance) { vmi.CreationTimestamp = ago(d) }
	}
	runningFor := func(d time.Duration) vmiOpt {
		return func(vmi *v1.VirtualMachineInstance) {
			vmi.Status.PhaseTransitionTimestamps = []v1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: v1.Running, PhaseTransitionTimestamp: new(ago(d))}}
		}
	}
	goingFor := func(d time.Duration) vmiOpt {
		return func(vmi *v1.VirtualMachineInstance) { vmi.DeletionTimestamp = new(ago(d)) }
	}
	deletedFor := func(d time.Duration) vmOpt {
		return func(vm *v1.VirtualMachine) { vm.DeletionTimestamp = new(ago(d)) }
	}
	always, rerun, halted := v1.RunStrategyAlways, v1.RunStrategyRerunOnFailure, v1.RunStrategyHalted
	for name, c := range map[string]struct {
		vm   *v1.VirtualMachine
		vmi  *v1.VirtualMachineInstance
		want time.Duration
	}{
		"has just been started":              {vm: machine(always), vmi: inst(v1.Pending, created(500*time.Millisecond)), want: 1500 * time.Millisecond},
		"first seen with a strategy":         {vm: machine(always, observed("")), vmi: inst(v1.Pending, created(0)), want: passingLimit},
		"is long in starting":                {vm: machine(always), vmi: inst(v1.Scheduled, created(passingLimit))},
		"runs, not known to be ready":        {vm: machine(always), vmi: inst(v1.Running, runningFor(time.Second)), want: time.Second},
		"runs, ready not written yet":        {vm: machine(always), vmi: inst(v1.Running, runningFor(time.Second), vmiCond(v1.VMIReady, corev1.ConditionFalse, ReasonGuestNotRunning)), want: time.Second},
		"runs and is ready":                  {vm: machine(always), vmi: inst(v1.Running, runningFor(0), vmiCond(v1.VMIReady, corev1.ConditionTrue, ""))},
		"runs and is not ready for a reason": {vm: machine(always), vmi: inst(v1.Running, runningFor(0), vmiCond(v1.VMIReady, corev1.ConditionFalse, "PodTerminating"))},
		"runs for long and is not ready":     {vm: machine(always), vmi: inst(v1.Running, runningFor(time.Minute))},
		"is stopped by this pass":            {vm: machine(halted), vmi: inst(v1.Running), want: passingLimit},
		"is stopping":                        {vm: machine(halted), vmi: inst(v1.Running, goingFor(time.Second)), want: time.Second},
		"takes long to stop":                 {vm: machine(halted), vmi: inst(v1.Running, goingFor(time.Minute))},
		"is deleted":                         {vm: machine(always, deletedFor(0)), vmi: inst(v1.Running), want: passingLimit},
		"takes long to go":                   {vm: machine(always, deletedFor(time.Minute)), vmi: inst(v1.Running, goingFor(0))},
		"from a clock that is ahead":         {vm: machine(always), vmi: inst(v1.Running, runningFor(-time.Hour))},
		"a request is answered":              {vm: machine(always, requests(stopReq("uid-old"), startReq)), vmi: inst(v1.Scheduled, created(0))},
		"rerun is recorded":                  {vm: machine(rerun, observed(halted)), vmi: inst(v1.Pending, created(0))},
		"rerun is given up":                  {vm: machine(always, observed(rerun)), vmi: inst(v1.Pending, created(0))},
		"a failure is recorded":              {vm: machine(always, failures(1, "uid-other", now)), vmi: inst(v1.Failed)},
		"nothing to be written":              {vm: settled(machine(always), inst(v1.Pending, created(0))), vmi: inst(v1.Pending, created(0))},
	} {
		in := Input{VM: c.vm, VMI: c.vmi, Live: true, Now: now}
		if got := (&telling{}).wait(in, Next(in)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Of many machines that take long at once, few are told of.
func TestTelling(t *testing.T) {
	t.Parallel()
	starting := func(since time.Duration, at time.Time) (Input, Plan) {
		vmi := inst(v1.Pending, func(vmi *v1.VirtualMachineInstance) { vmi.CreationTimestamp = metav1.NewTime(at.Add(-since)) })
		in := Input{VM: machine(v1.RunStrategyAlways), VMI: vmi, Live: true, Now: at}
		return in, Next(in)
	}
	tell := &telling{}
	for i := range tellBurst {
		if got := tell.wait(starting(3*time.Second, now)); got != 0 {
			t.Fatalf("machine %d: %v, want to be told of", i, got)
		}
	}
	if got := tell.wait(starting(3*time.Second, now)); got != tellAgain {
		t.Errorf("one more: %v, want %v", got, tellAgain)
	}
	if got := tell.wait(starting(tellAnyway-time.Second, now)); got != time.Second {
		t.Errorf("one that is about to be told of anyway: %v", got)
	}
	if got := tell.wait(starting(tellAnyway, now)); got != 0 {
		t.Errorf("one that has taken very long: %v", got)
	}
	if in, plan := starting(time.Second, now); tell.wait(in, plan) != time.Second {
		t.Error("one that has just started does not wait as before")
	}
	later := now.Add(-time.Hour) // a clock that was set back
	if got := tell.wait(starting(3*time.Second, later)); got == 0 {
		t.Error("a clock that was set back lets one more through")
	}
	later = later.Add(tellEvery)
	if got := tell.wait(starting(3*time.Second, later)); got != 0 {
		t.Errorf("after a while: %v", got)
	}
	if got := tell.wait(starting(3*time.Second, later)); got != tellAgain {
		t.Errorf("the next then: %v", got)
	}
}

// settled is the machine with its status written.
func settled(vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) *v1.VirtualMachine {
	vm.Status = Next(Input{VM: vm, VMI: vmi, Live: true, Now: now}).VM.Status
	return vm
}

// A machine that starts and stops in no time needs one write of its status.
func TestWritesOfAQuickLife(t *testing.T) {
	t.Parallel()
	writer := &crashtest.Writer{}
	w := newWorld(t, writer, machine(v1.RunStrategyAlways))
	until := func(what string, done func() bool) {
		t.Helper()
		for range 20 {
			if _, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
				t.Fatal(err)
			}
			if done() {
				return
			}
			w.others()
		}
		t.Fatalf("never %s", what)
	}
	until("running", func() bool { return w.vm().Status.PrintableStatus == v1.StatusRunning && *w.vm().Status.Ready })
	w.must(w.api.Delete(t.Context(), w.vm()))
	w.clock = w.vm().DeletionTimestamp.Time
	until("gone", func() bool { return w.vm() == nil })
	want := []string{
		"create *v1.VirtualMachineInstance web", "patch status of *v1.VirtualMachine web",
		"delete *v1.VirtualMachineInstance web", "patch *v1.VirtualMachine web",
	}
	if diff := cmp.Diff(want, writer.Log()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(strings.Join(w.events, ""), "Warning") {
		t.Errorf("events %q", w.events)
	}
}
