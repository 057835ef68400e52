// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// passingLimit is how long a machine must be on its way from one state to another
// (starting, not ready yet, stopping) before that is worth a write of its own. Most
// are through by then, and one write to the state after it does for both. The API
// server's times have whole seconds, so that it is between one second and this.
const passingLimit = 2 * time.Second

// passing is how long the write of plan's status can wait; 0 when it should be
// written now, or does not differ. What later decisions depend on never waits, only
// what tells people how the machine stands.
func passing(in Input, plan Plan) time.Duration {
	is, want := &in.VM.Status, &plan.VM.Status
	if equality.Semantic.DeepEqual(is, want) || !equality.Semantic.DeepEqual(lasting(is), lasting(want)) {
		return 0
	}
	since, ok := passingSince(in, want)
	if !ok {
		return 0
	}
	age := in.Now.Sub(since)
	if age < 0 {
		return 0 // clocks differ: do not rely on them
	}
	return max(passingLimit-age, 0)
}

// passingSince is when the machine entered a state that it is expected to leave soon.
func passingSince(in Input, want *v1.VirtualMachineStatus) (since time.Time, ok bool) {
	vmi := in.VMI
	if vmi == nil {
		return time.Time{}, false
	}
	switch want.PrintableStatus {
	case v1.StatusStarting:
		return vmi.CreationTimestamp.Time, true
	case v1.StatusRunning:
		// The controller of instances is about to say whether it is ready.
		c := findInstance(vmi, v1.VMIReady)
		if c != nil && (c.Status != corev1.ConditionFalse || c.Reason != ReasonGuestNotRunning) {
			return time.Time{}, false
		}
		for _, t := range vmi.Status.PhaseTransitionTimestamps {
			if t.Phase == v1.Running && t.PhaseTransitionTimestamp != nil {
				return t.PhaseTransitionTimestamp.Time, true
			}
		}
	case v1.StatusStopping:
		if vmi.DeletionTimestamp == nil {
			return in.Now, true // it is deleted by this very pass
		}
		return vmi.DeletionTimestamp.Time, true
	case v1.StatusTerminating:
		if in.VM.DeletionTimestamp != nil {
			return in.VM.DeletionTimestamp.Time, true
		}
	}
	return time.Time{}, false
}

// lasting is a status without what merely follows from the state that the machine
// is in at the moment.
func lasting(st *v1.VirtualMachineStatus) *v1.VirtualMachineStatus {
	out := st.DeepCopy()
	out.PrintableStatus, out.Created, out.Ready = "", nil, nil
	out.ObservedGeneration, out.DesiredGeneration = 0, 0
	if out.RunStrategy != v1.RunStrategyRerunOnFailure {
		out.RunStrategy = "" // only whether this one was seen makes a difference
	}
	out.Conditions = slices.DeleteFunc(out.Conditions, func(c v1.VirtualMachineCondition) bool {
		return c.Type != v1.VMFailure && c.Type != v1.VMRestartRequired
	})
	if len(out.Conditions) == 0 {
		out.Conditions = nil
	}
	return out
}
