// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Next decides what to do for a machine. It never changes its input.
func Next(in Input) Plan {
	vm := in.VM.DeepCopy()
	d := &decision{in: in, vm: vm, st: &vm.Status, strategy: Strategy(vm), plan: Plan{VM: vm}}
	if in.VMI != nil && metav1.IsControlledBy(in.VMI, vm) {
		d.vmi = in.VMI
	} else if in.VMI != nil {
		d.foreign = in.VMI
	}
	d.decide()
	if d.plan.Confirm {
		return Plan{Confirm: true, VM: in.VM}
	}
	return d.plan
}

// Strategy is the machine's run strategy, also in its deprecated form.
func Strategy(vm *v1.VirtualMachine) v1.VirtualMachineRunStrategy {
	switch {
	case vm.Spec.RunStrategy != nil:
		return *vm.Spec.RunStrategy
	case vm.Spec.Running != nil && *vm.Spec.Running:
		return v1.RunStrategyAlways
	default:
		return v1.RunStrategyHalted
	}
}

type decision struct {
	in       Input
	vm       *v1.VirtualMachine // becomes plan.VM
	st       *v1.VirtualMachineStatus
	strategy v1.VirtualMachineRunStrategy
	vmi      *v1.VirtualMachineInstance // the machine's own
	foreign  *v1.VirtualMachineInstance // another's, of the machine's name
	plan     Plan

	starting bool // an instance is to be made as soon as can be
	stopping bool // the instance is to go
}

func (d *decision) decide() {
	if d.vm.DeletionTimestamp != nil {
		d.deleting()
		d.report()
		return
	}
	if !slices.Contains(d.vm.Finalizers, v1.VMFinalizer) {
		d.vm.Finalizers = append(d.vm.Finalizers, v1.VMFinalizer)
	}
	d.answered()
	d.st.StartFailure = startFailure(d.st.StartFailure, d.strategy, d.vmi, d.in.Now)
	switch {
	case d.vmi == nil:
		d.without()
	case d.vmi.DeletionTimestamp == nil:
		d.with()
	default:
		d.stopping = true
	}
	// RerunOnFailure starts a machine when it is first seen with that strategy,
	// so having seen it is recorded only once there is an instance that stays.
	if d.strategy != v1.RunStrategyRerunOnFailure || d.vmi != nil && d.vmi.DeletionTimestamp == nil {
		d.st.RunStrategy = d.strategy
	}
	d.report()
}

// deleting ends the instance and then lets go of the machine.
func (d *decision) deleting() {
	i := slices.Index(d.vm.Finalizers, v1.VMFinalizer)
	if i < 0 {
		return
	}
	orphan := slices.Contains(d.vm.Finalizers, metav1.FinalizerOrphanDependents)
	switch {
	case d.vmi != nil && !orphan:
		d.stop()
	case d.vmi == nil && !d.sure():
	default:
		d.vm.Finalizers = slices.Delete(d.vm.Finalizers, i, i+1)
	}
}

// sure tells whether a missing instance is known to be missing; if it is not it
// asks for the decision to be made again.
func (d *decision) sure() bool {
	d.plan.Confirm = !d.in.Live
	return d.in.Live
}

// answered drops the requests at the head of the queue that have come true.
func (d *decision) answered() {
	requests := d.st.StateChangeRequests
	for len(requests) > 0 {
		r := requests[0]
		switch r.Action {
		case v1.StopRequest:
			if d.vmi != nil && (r.UID == "" || r.UID == d.vmi.UID) {
				d.st.StateChangeRequests = requests
				return // still there
			}
			if d.vmi == nil && !d.sure() {
				return
			}
		case v1.StartRequest:
			if d.vmi == nil || d.vmi.DeletionTimestamp != nil || d.vmi.Status.Phase.IsFinal() {
				d.st.StateChangeRequests = requests
				return // not yet
			}
		default: // admission lets no other through
		}
		requests = requests[1:]
	}
	d.st.StateChangeRequests = nil
}

// request is the first pending one, "" when there is none.
func (d *decision) request() v1.VirtualMachineStateChangeRequest {
	if len(d.st.StateChangeRequests) == 0 {
		return v1.VirtualMachineStateChangeRequest{}
	}
	return d.st.StateChangeRequests[0]
}

// without decides for a machine that has no instance.
func (d *decision) without() {
	r := d.request()
	requested := r.Action == v1.StartRequest
	switch d.strategy {
	case v1.RunStrategyAlways, v1.RunStrategyOnce:
		d.starting = true
	case v1.RunStrategyRerunOnFailure:
		d.starting = requested || d.st.RunStrategy != v1.RunStrategyRerunOnFailure
	case v1.RunStrategyManual:
		d.starting = requested
	case v1.RunStrategyHalted:
		d.startHalted(r)
	}
	if !d.starting {
		d.clear(v1.VMFailure)
		return
	}
	if d.foreign != nil {
		d.failCreate(fmt.Sprintf("a VirtualMachineInstance %s that this machine did not make is in the way; delete it or give the machine another name", d.foreign.Name))
		return // its end brings the next pass
	}
	if f := d.st.StartFailure; f != nil && f.RetryAfterTimestamp != nil {
		if wait := f.RetryAfterTimestamp.Sub(d.in.Now); wait > 0 {
			d.plan.After = wait
			return
		}
	}
	if !d.sure() {
		return
	}
	vmi, err := Instance(d.vm, requested && paused(r))
	if err != nil {
		d.failCreate(err.Error())
		return
	}
	d.plan.Create = vmi
}

// startHalted turns the request for a start in the paused state, for which the
// spec has no word, into a change of the strategy as any other start makes. A
// plain request is left over from another strategy and must not start anything.
func (d *decision) startHalted(r v1.VirtualMachineStateChangeRequest) {
	switch {
	case r.Action == "" || !d.sure():
	case r.Action != v1.StartRequest || !paused(r):
		d.st.StateChangeRequests = nil
	case d.vm.Spec.RunStrategy != nil:
		d.vm.Spec.RunStrategy = new(v1.RunStrategyAlways)
	default:
		d.vm.Spec.Running = new(true)
	}
}

func paused(r v1.VirtualMachineStateChangeRequest) bool {
	return r.Data[v1.StateChangeRequestPaused] == "true"
}

// with decides for a machine with an instance that is not being deleted.
func (d *decision) with() {
	d.clear(v1.VMFailure)
	phase := d.vmi.Status.Phase
	r := d.request()
	switch {
	case r.Action == v1.StopRequest:
		d.stop()
	case d.strategy == v1.RunStrategyHalted:
		d.stop()
	case !phase.IsFinal():
	case d.strategy == v1.RunStrategyAlways:
		d.stop()
	case d.strategy == v1.RunStrategyRerunOnFailure:
		if phase == v1.Failed && r.Action == "" {
			d.st.StateChangeRequests = []v1.VirtualMachineStateChangeRequest{{Action: v1.StartRequest}}
		}
		d.stop()
	case r.Action == v1.StartRequest: // Manual: the old one makes room
		d.stop()
	}
}

// stop deletes the instance.
func (d *decision) stop() {
	d.stopping = true
	if d.vmi.DeletionTimestamp == nil {
		d.plan.Delete = &Deletion{Name: d.vmi.Name, UID: d.vmi.UID}
	}
}

func (d *decision) failCreate(message string) {
	if CreateFailed(d.vm, message, d.in.Now) {
		d.plan.Events = append(d.plan.Events, Event{corev1.EventTypeWarning, ReasonFailedCreate, message})
	}
}

// CreateFailed writes into the machine's status why its instance could not be
// made. It returns whether that is news.
func CreateFailed(vm *v1.VirtualMachine, message string, now time.Time) bool {
	c := find(&vm.Status, v1.VMFailure)
	news := c == nil || c.Message != message
	set(&vm.Status, v1.VMFailure, corev1.ConditionTrue, ReasonFailedCreate, message, now)
	return news
}
