// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

var now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

type vmOpt func(*v1.VirtualMachine)

func machine(strategy v1.VirtualMachineRunStrategy, opts ...vmOpt) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "web", UID: "uid-vm", Generation: 3, Finalizers: []string{v1.VMFinalizer},
	}}
	vm.Spec.RunStrategy = &strategy
	vm.Spec.Template.Labels = map[string]string{"app": "web"}
	vm.Status.RunStrategy = strategy
	for _, o := range opts {
		o(vm)
	}
	return vm
}

func observed(s v1.VirtualMachineRunStrategy) vmOpt {
	return func(vm *v1.VirtualMachine) { vm.Status.RunStrategy = s }
}

func requests(rs ...v1.VirtualMachineStateChangeRequest) vmOpt {
	return func(vm *v1.VirtualMachine) { vm.Status.StateChangeRequests = rs }
}

var (
	startReq  = v1.VirtualMachineStateChangeRequest{Action: v1.StartRequest}
	pausedReq = v1.VirtualMachineStateChangeRequest{Action: v1.StartRequest, Data: map[string]string{"paused": "true"}}
)

func stopReq(uid types.UID) v1.VirtualMachineStateChangeRequest {
	return v1.VirtualMachineStateChangeRequest{Action: v1.StopRequest, UID: uid}
}

func failures(n int32, last types.UID, retry time.Time) vmOpt {
	return func(vm *v1.VirtualMachine) {
		vm.Status.StartFailure = &v1.VirtualMachineStartFailure{ConsecutiveFailCount: n, LastFailedVMIUID: last,
			RetryAfterTimestamp: new(metav1.NewTime(retry))}
	}
}

func deletedVM(vm *v1.VirtualMachine) { vm.DeletionTimestamp = new(metav1.NewTime(now)) }

type vmiOpt func(*v1.VirtualMachineInstance)

func inst(phase v1.VirtualMachineInstancePhase, opts ...vmiOpt) *v1.VirtualMachineInstance {
	vmi, err := Instance(machine(v1.RunStrategyAlways), false)
	if err != nil {
		panic(err)
	}
	vmi.UID = "uid-vmi"
	vmi.Status.Phase = phase
	for _, o := range opts {
		o(vmi)
	}
	return vmi
}

func ran(vmi *v1.VirtualMachineInstance) {
	vmi.Status.PhaseTransitionTimestamps = []v1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: v1.Running}}
}

func deletedVMI(vmi *v1.VirtualMachineInstance) { vmi.DeletionTimestamp = new(metav1.NewTime(now)) }

func vmiCond(t v1.VirtualMachineInstanceConditionType, s corev1.ConditionStatus, reason string) vmiOpt {
	return func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.Conditions = append(vmi.Status.Conditions, v1.VirtualMachineInstanceCondition{Type: t, Status: s, Reason: reason})
	}
}

func anothers(vmi *v1.VirtualMachineInstance) { vmi.OwnerReferences = nil }

func TestNext(t *testing.T) {
	t.Parallel()
	const (
		always = v1.RunStrategyAlways
		rerun  = v1.RunStrategyRerunOnFailure
		manual = v1.RunStrategyManual
		once   = v1.RunStrategyOnce
		halted = v1.RunStrategyHalted
	)
	running := func(r bool) vmOpt {
		return func(vm *v1.VirtualMachine) { vm.Spec.RunStrategy, vm.Spec.Running = nil, &r }
	}
	for name, c := range map[string]struct {
		vm     *v1.VirtualMachine
		vmi    *v1.VirtualMachineInstance
		cached bool

		confirm  bool
		create   string // "", "running" or "paused"
		deletes  bool
		status   v1.VirtualMachinePrintableStatus
		ready    string
		failure  string // part of the message of the condition Failure
		left     []v1.VirtualMachineStateChangeRequest
		failures int32
		after    time.Duration
		strategy v1.VirtualMachineRunStrategy // in status afterwards, if not that of the spec
		flipped  bool                         // the spec now says Always
		released bool
		events   []string
	}{
		"always: nothing there, says the cache": {vm: machine(always), cached: true, confirm: true},
		"always: nothing there":                 {vm: machine(always), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists"},
		"always: pending":                       {vm: machine(always), vmi: inst(v1.Pending), status: v1.StatusStarting, ready: "False/GuestNotRunning"},
		"always: not seen by admission yet":     {vm: machine(always), vmi: inst(""), status: v1.StatusStarting, ready: "False/GuestNotRunning"},
		"always: runs, all from the cache":      {vm: machine(always), vmi: inst(v1.Running, vmiCond(v1.VMIReady, "True", "")), cached: true, status: v1.StatusRunning, ready: "True/"},
		"always: powered off":                   {vm: machine(always), vmi: inst(v1.Succeeded, ran), deletes: true, status: v1.StatusStopped, ready: "False/VMIConditionMissing"},
		"always: crashed":                       {vm: machine(always), vmi: inst(v1.Failed, ran, vmiCond(v1.VMIReady, "False", "GuestPanicked")), deletes: true, status: v1.StatusStopped, ready: "False/GuestPanicked"},
		"always: being deleted":                 {vm: machine(always), vmi: inst(v1.Running, deletedVMI), status: v1.StatusStopping, ready: "False/VMITerminating"},
		"always: ended and being deleted":       {vm: machine(always), vmi: inst(v1.Succeeded, ran, deletedVMI), status: v1.StatusStopped, ready: "False/VMITerminating"},
		"always: never ran":                     {vm: machine(always), vmi: inst(v1.Failed), deletes: true, status: v1.StatusCrashLoopBackOff, ready: "False/VMIConditionMissing", failures: 1},
		"always: never ran, counted":            {vm: machine(always, failures(2, "uid-vmi", now.Add(time.Minute))), vmi: inst(v1.Failed), deletes: true, status: v1.StatusCrashLoopBackOff, ready: "False/VMIConditionMissing", failures: 2},
		"always: never ran, the third":          {vm: machine(always, failures(2, "uid-old", now)), vmi: inst(v1.Failed), deletes: true, status: v1.StatusCrashLoopBackOff, ready: "False/VMIConditionMissing", failures: 3},
		"always: backs off":                     {vm: machine(always, failures(1, "uid-old", now.Add(7*time.Second))), after: 7 * time.Second, status: v1.StatusCrashLoopBackOff, ready: "False/VMINotExists", failures: 1},
		"always: has backed off":                {vm: machine(always, failures(1, "uid-old", now)), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists", failures: 1},
		"always: runs at last":                  {vm: machine(always, failures(4, "uid-old", now)), vmi: inst(v1.Running), status: v1.StatusRunning, ready: "False/GuestNotRunning"},
		"always: restart":                       {vm: machine(always, requests(stopReq("uid-vmi"), startReq)), vmi: inst(v1.Running), deletes: true, status: v1.StatusStopping, ready: "False/VMITerminating", left: []v1.VirtualMachineStateChangeRequest{stopReq("uid-vmi"), startReq}},
		"always: restart, gone":                 {vm: machine(always, requests(stopReq("uid-vmi"), startReq)), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists", left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"always: restart, gone, says the cache": {vm: machine(always, requests(stopReq("uid-vmi"), startReq)), cached: true, confirm: true},
		"always: restarted":                     {vm: machine(always, requests(stopReq("uid-old"), startReq)), vmi: inst(v1.Scheduled), status: v1.StatusStarting, ready: "False/GuestNotRunning"},
		"always: started paused":                {vm: machine(always, requests(pausedReq)), create: "paused", status: v1.StatusStarting, ready: "False/VMINotExists", left: []v1.VirtualMachineStateChangeRequest{pausedReq}},
		"running: true":                         {vm: machine(always, running(true)), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists"},
		"running: false":                        {vm: machine(halted, running(false)), vmi: inst(v1.Running), deletes: true, status: v1.StatusStopping, ready: "False/VMITerminating"},

		"rerun: first seen":               {vm: machine(rerun, observed("")), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists", strategy: "-"},
		"rerun: first seen, was halted":   {vm: machine(rerun, observed(halted)), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists", strategy: halted},
		"rerun: old one still stopping":   {vm: machine(rerun, observed(halted)), vmi: inst(v1.Running, deletedVMI), status: v1.StatusStopping, ready: "False/VMITerminating", strategy: halted},
		"rerun: runs":                     {vm: machine(rerun, observed("")), vmi: inst(v1.Running), status: v1.StatusRunning, ready: "False/GuestNotRunning"},
		"rerun: powered off":              {vm: machine(rerun), vmi: inst(v1.Succeeded, ran), deletes: true, status: v1.StatusStopped, ready: "False/VMIConditionMissing"},
		"rerun: stays off":                {vm: machine(rerun), cached: true, status: v1.StatusStopped, ready: "False/VMINotExists"},
		"rerun: crashed":                  {vm: machine(rerun), vmi: inst(v1.Failed, ran), deletes: true, status: v1.StatusStopped, ready: "False/VMIConditionMissing", left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"rerun: crashed, seen again":      {vm: machine(rerun, requests(startReq)), vmi: inst(v1.Failed, ran, deletedVMI), status: v1.StatusStopped, ready: "False/VMITerminating", left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"rerun: crashed, gone":            {vm: machine(rerun, requests(startReq)), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists", left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"rerun: crashed, runs again":      {vm: machine(rerun, requests(startReq)), vmi: inst(v1.Scheduled), status: v1.StatusStarting, ready: "False/GuestNotRunning"},
		"rerun: crashes in a loop":        {vm: machine(rerun, requests(startReq), failures(1, "uid-old", now.Add(time.Second))), after: time.Second, status: v1.StatusCrashLoopBackOff, ready: "False/VMINotExists", failures: 1, left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"rerun: stop":                     {vm: machine(rerun, requests(stopReq("uid-vmi"))), vmi: inst(v1.Running), deletes: true, status: v1.StatusStopping, ready: "False/VMITerminating", left: []v1.VirtualMachineStateChangeRequest{stopReq("uid-vmi")}},
		"rerun: stopped":                  {vm: machine(rerun, requests(stopReq("uid-vmi"))), status: v1.StatusStopped, ready: "False/VMINotExists"},
		"rerun: a stop of an earlier one": {vm: machine(rerun, requests(stopReq("uid-old"))), vmi: inst(v1.Running), status: v1.StatusRunning, ready: "False/GuestNotRunning"},

		"manual: nothing":                   {vm: machine(manual), cached: true, status: v1.StatusStopped, ready: "False/VMINotExists"},
		"manual: start":                     {vm: machine(manual, requests(startReq)), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists", left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"manual: start, says the cache":     {vm: machine(manual, requests(startReq)), cached: true, confirm: true},
		"manual: started":                   {vm: machine(manual, requests(startReq)), vmi: inst(v1.Pending), status: v1.StatusStarting, ready: "False/GuestNotRunning"},
		"manual: powered off, kept":         {vm: machine(manual), vmi: inst(v1.Succeeded, ran), status: v1.StatusStopped, ready: "False/VMIConditionMissing"},
		"manual: start after that":          {vm: machine(manual, requests(startReq)), vmi: inst(v1.Succeeded, ran), deletes: true, status: v1.StatusStopped, ready: "False/VMIConditionMissing", left: []v1.VirtualMachineStateChangeRequest{startReq}},
		"manual: failed to start, no count": {vm: machine(manual, failures(1, "uid-old", now)), vmi: inst(v1.Failed), status: v1.StatusStopped, ready: "False/VMIConditionMissing"},
		"manual: stop without a UID":        {vm: machine(manual, requests(stopReq(""))), vmi: inst(v1.Running), deletes: true, status: v1.StatusStopping, ready: "False/VMITerminating", left: []v1.VirtualMachineStateChangeRequest{stopReq("")}},

		"once: nothing":           {vm: machine(once), create: "running", status: v1.StatusStarting, ready: "False/VMINotExists"},
		"once: powered off, kept": {vm: machine(once), vmi: inst(v1.Succeeded, ran), status: v1.StatusStopped, ready: "False/VMIConditionMissing"},
		"once: crashed, kept":     {vm: machine(once), vmi: inst(v1.Failed, ran), status: v1.StatusStopped, ready: "False/VMIConditionMissing"},

		"halted: nothing":               {vm: machine(halted), cached: true, status: v1.StatusStopped, ready: "False/VMINotExists"},
		"halted: runs":                  {vm: machine(halted), vmi: inst(v1.Running), deletes: true, status: v1.StatusStopping, ready: "False/VMITerminating"},
		"halted: ended":                 {vm: machine(halted), vmi: inst(v1.Failed, ran), deletes: true, status: v1.StatusStopped, ready: "False/VMIConditionMissing"},
		"halted: started paused":        {vm: machine(halted, requests(pausedReq)), status: v1.StatusStopped, ready: "False/VMINotExists", flipped: true, left: []v1.VirtualMachineStateChangeRequest{pausedReq}},
		"halted: a request is left":     {vm: machine(halted, requests(startReq)), status: v1.StatusStopped, ready: "False/VMINotExists"},
		"halted: the counter is of use": {vm: machine(halted, failures(3, "uid-old", now.Add(time.Hour))), cached: true, status: v1.StatusStopped, ready: "False/VMINotExists"},

		"another's instance is in the way": {vm: machine(always), vmi: inst(v1.Running, anothers), status: v1.StatusStarting, ready: "False/VMINotExists",
			failure: "this machine did not make", events: []string{"Warning FailedCreate"}},
		"another's instance does not bother a stopped machine": {vm: machine(halted), vmi: inst(v1.Running, anothers), status: v1.StatusStopped, ready: "False/VMINotExists"},

		"deleted: runs":                     {vm: machine(always, deletedVM), vmi: inst(v1.Running), deletes: true, status: v1.StatusTerminating, ready: "False/VMITerminating", strategy: always},
		"deleted: stopping":                 {vm: machine(always, deletedVM), vmi: inst(v1.Running, deletedVMI), status: v1.StatusTerminating, ready: "False/VMITerminating"},
		"deleted: nothing, says the cache":  {vm: machine(always, deletedVM), cached: true, confirm: true},
		"deleted: nothing":                  {vm: machine(always, deletedVM), status: v1.StatusTerminating, ready: "False/VMINotExists", released: true},
		"deleted: another's instance stays": {vm: machine(always, deletedVM), vmi: inst(v1.Running, anothers), status: v1.StatusTerminating, ready: "False/VMINotExists", released: true},
		"deleted: its instance is to stay": {vm: machine(always, deletedVM, func(vm *v1.VirtualMachine) {
			vm.Finalizers = append(vm.Finalizers, metav1.FinalizerOrphanDependents)
		}), vmi: inst(v1.Running), status: v1.StatusTerminating, ready: "False/GuestNotRunning", released: true},

		"paused": {vm: machine(always), vmi: inst(v1.Running, vmiCond(v1.VMIPaused, "True", "PausedByUser")), status: v1.StatusPaused, ready: "False/GuestNotRunning"},
		"unschedulable": {vm: machine(always), vmi: inst(v1.Scheduling, vmiCond(v1.VMIPodScheduled, "False", "Unschedulable"), vmiCond(v1.VMISynchronized, "False", "ErrImagePull")),
			status: v1.StatusErrorUnschedulable, ready: "False/GuestNotRunning"},
		"pull error":    {vm: machine(always), vmi: inst(v1.Scheduled, vmiCond(v1.VMISynchronized, "False", "ErrImagePull")), status: v1.StatusErrImagePull, ready: "False/GuestNotRunning"},
		"pull back-off": {vm: machine(always), vmi: inst(v1.Scheduled, vmiCond(v1.VMISynchronized, "False", "ImagePullBackOff")), status: v1.StatusImagePullBackOff, ready: "False/GuestNotRunning"},
		"migrating": {vm: machine(always), vmi: inst(v1.Running, func(vmi *v1.VirtualMachineInstance) {
			vmi.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{}
		}, vmiCond(v1.VMIPaused, "True", "PausedByMigrationMonitor")), status: v1.StatusMigrating, ready: "False/GuestNotRunning"},
		"unknown": {vm: machine(always), vmi: inst(v1.Unknown), status: v1.StatusUnknown, ready: "False/GuestNotRunning"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := Input{VM: c.vm, VMI: c.vmi, Live: !c.cached, Now: now}
			before := c.vm.DeepCopy()
			plan := Next(in)
			if diff := cmp.Diff(before, c.vm); diff != "" {
				t.Fatalf("Next changed its input:\n%s", diff)
			}
			if plan.Confirm != c.confirm {
				t.Fatalf("confirm is %v", plan.Confirm)
			}
			if c.confirm {
				if plan.Create != nil || plan.Delete != nil || !cmp.Equal(plan.VM, c.vm) {
					t.Fatalf("acts without confirmation: %+v", plan)
				}
				return
			}
			st := &plan.VM.Status
			type summary struct {
				Create   string
				Deletes  bool
				Status   v1.VirtualMachinePrintableStatus
				Ready    string
				Left     []v1.VirtualMachineStateChangeRequest
				Failures int32
				After    time.Duration
				Strategy v1.VirtualMachineRunStrategy
				Flipped  bool
				Released bool
				Events   []string
			}
			got := summary{Deletes: plan.Delete != nil, Status: st.PrintableStatus, Ready: cond(st, v1.VMReady), Left: st.StateChangeRequests,
				After: plan.After, Strategy: st.RunStrategy, Flipped: Strategy(plan.VM) != Strategy(c.vm)}
			if plan.Create != nil {
				got.Create = "running"
				if plan.Create.Spec.StartStrategy != nil {
					got.Create = "paused"
				}
			}
			if st.StartFailure != nil {
				got.Failures = st.StartFailure.ConsecutiveFailCount
			}
			got.Released = len(plan.VM.Finalizers) == 0 || plan.VM.Finalizers[0] != v1.VMFinalizer
			for _, e := range plan.Events {
				got.Events = append(got.Events, e.Type+" "+e.Reason)
			}
			want := summary{c.create, c.deletes, c.status, c.ready, c.left, c.failures, c.after, c.strategy, c.flipped, c.released, c.events}
			if want.Strategy == "" {
				want.Strategy = Strategy(c.vm)
			}
			if want.Strategy == "-" {
				want.Strategy = ""
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if f := find(st, v1.VMFailure); (f != nil) != (c.failure != "") || f != nil && !strings.Contains(f.Message, c.failure) {
				t.Errorf("condition Failure %v, want one with %q", f, c.failure)
			}
			if plan.Delete != nil && plan.Delete.UID != c.vmi.UID {
				t.Errorf("deletes %v", plan.Delete)
			}
			// Deciding again about the outcome at the same moment changes nothing more.
			in.VM = plan.VM
			if again := Next(in); !c.flipped && (!cmp.Equal(again.VM.Status, plan.VM.Status) || len(again.Events) > 0) {
				t.Errorf("not stable: %s\nevents %v", cmp.Diff(plan.VM.Status, again.VM.Status), again.Events)
			}
		})
	}
}

func cond(st *v1.VirtualMachineStatus, t v1.VirtualMachineConditionType) string {
	if c := find(st, t); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

func TestInstance(t *testing.T) {
	t.Parallel()
	vm := machine(v1.RunStrategyAlways, func(vm *v1.VirtualMachine) {
		vm.Spec.Template.Annotations = map[string]string{"a": "b"}
		vm.Spec.Template.Spec.Hostname = "front"
	})
	before := vm.DeepCopy()
	vmi, err := Instance(vm, false)
	if err != nil {
		t.Fatal(err)
	}
	vmi.Labels["changed"], vmi.Annotations["changed"] = "x", "x"
	vmi.Spec.Domain.Firmware.Serial = "x"
	if diff := cmp.Diff(before, vm); diff != "" {
		t.Errorf("the instance shares memory with the machine:\n%s", diff)
	}
	if vmi.Name != "web" || vmi.Namespace != "ns" || vmi.Labels["app"] != "web" || vmi.Annotations["a"] != "b" || vmi.Annotations[v1.VMGenerationAnnotation] != "3" ||
		!metav1.IsControlledBy(vmi, vm) || vmi.Spec.Hostname != "front" || vmi.Spec.StartStrategy != nil {
		t.Errorf("instance %+v", vmi)
	}
	// python3 -c 'import uuid; print(uuid.uuid5(uuid.UUID("6a1a24a1-4061-4607-8bf4-a3963d0c5895"), "web"))'
	if got, want := vmi.Spec.Domain.Firmware.UUID, "d32ff544-f682-571b-8677-3762f07ab8a4"; got != want {
		t.Errorf("firmware UUID %s, want %s", got, want)
	}
	vm.Spec.Template.Spec.Domain.Firmware = &v1.Firmware{UUID: "given"}
	if vmi, err = Instance(vm, true); err != nil || vmi.Spec.Domain.Firmware.UUID != "given" || *vmi.Spec.StartStrategy != "Paused" {
		t.Errorf("instance %+v, error %v", vmi, err)
	}
}

func TestRestartRequired(t *testing.T) {
	t.Parallel()
	vm := machine(v1.RunStrategyAlways)
	vmi := inst(v1.Running)
	vm.Generation = 7
	changed := vm.DeepCopy()
	changed.Spec.Template.Spec.Hostname = "other"
	for name, c := range map[string]struct {
		vm       *v1.VirtualMachine
		vmi      *v1.VirtualMachineInstance
		required bool
		observed int64
	}{
		"unchanged":                    {vm, vmi, false, 7},
		"changed":                      {changed, vmi, true, 3},
		"changed while it is stopping": {changed, inst(v1.Running, deletedVMI), false, 7},
		"changed after its end":        {changed, inst(v1.Succeeded, ran), false, 7},
		"changed while stopped":        {changed, nil, false, 7},
		"made by an older version":     {changed, inst(v1.Running, func(vmi *v1.VirtualMachineInstance) { delete(vmi.Annotations, TemplateAnnotation) }), false, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := Next(Input{VM: c.vm, VMI: c.vmi, Live: true, Now: now}).VM.Status
			if got := find(&st, v1.VMRestartRequired); (got != nil) != c.required {
				t.Errorf("RestartRequired %v", got)
			}
			if st.ObservedGeneration != c.observed || st.DesiredGeneration != 7 {
				t.Errorf("observed generation %d of %d", st.ObservedGeneration, st.DesiredGeneration)
			}
		})
	}
}

func TestConditionsAreCopied(t *testing.T) {
	t.Parallel()
	vmi := inst(v1.Running, vmiCond(v1.VMIReady, "True", ""), vmiCond(v1.VMIAgentConnected, "True", ""), vmiCond("Failure", "True", "not ours"))
	st := Next(Input{VM: machine(v1.RunStrategyAlways), VMI: vmi, Live: true, Now: now}).VM.Status
	if cond(&st, v1.VMReady) != "True/" || cond(&st, "AgentConnected") != "True/" || cond(&st, v1.VMFailure) != "" || !*st.Ready || !*st.Created {
		t.Errorf("status %+v", st)
	}
	vm := machine(v1.RunStrategyAlways)
	vm.Status = st
	vmi.Status.Conditions = nil
	st = Next(Input{VM: vm, VMI: vmi, Live: true, Now: now}).VM.Status
	if len(st.Conditions) != 1 || *st.Ready {
		t.Errorf("conditions are left: %v", st.Conditions)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for n, want := range map[int32]time.Duration{0: 0, 1: 10 * time.Second, 2: 40 * time.Second, 3: 90 * time.Second, 5: 250 * time.Second, 6: 300 * time.Second, 1 << 30: 300 * time.Second} {
		for _, uid := range []types.UID{"a", "b", "c"} {
			if got := backoff(n, uid); got < want || got > min(want+want/2, backoffMax) {
				t.Errorf("backoff(%d, %s) = %s, want %s and up to half more", n, uid, got, want)
			}
		}
	}
}

func TestTemplateHash(t *testing.T) {
	t.Parallel()
	a, err := templateHash(&v1.VirtualMachineInstanceSpec{Hostname: "a"})
	if err != nil {
		t.Fatal(err)
	}
	// The hash is stored in the API: a change of it would ask for restarts of
	// every machine after an upgrade.
	if want := "4ab3529553a0e6c8"; a != want {
		t.Errorf("hash %s, want %s", a, want)
	}
}
