// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"sync"
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

// Of machines that are on their way for longer, so many are told of at once, and
// then one more each interval: when hundreds start together, all take long, and to
// tell that of each would make all of them take longer. Who must wait looks again
// after tellAgain; a state that lasts for tellAnyway is told of in any case.
const (
	tellBurst  = 10
	tellEvery  = 2 * time.Second
	tellAgain  = 10 * time.Second
	tellAnyway = 5 * time.Minute
)

// telling holds back writes that only tell of a state on the way to another. Its
// zero value may tell of tellBurst at once. It is safe for use by several goroutines.
type telling struct {
	mu     sync.Mutex
	tokens float64
	filled time.Time
}

// wait is how long the write of plan's status can wait; 0 when it should be written
// now, or does not differ.
func (t *telling) wait(in Input, plan Plan) time.Duration {
	age, ok := passing(in, plan)
	switch {
	case !ok || age < 0: // clocks that differ are not relied on
		return 0
	case age < passingLimit:
		return passingLimit - age
	case age >= tellAnyway || t.take(in.Now):
		return 0
	}
	return min(tellAgain, tellAnyway-age)
}

// take tells whether one more may be told of now.
func (t *telling) take(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.filled.IsZero() {
		t.tokens = tellBurst
	} else { // a clock that was set back takes nothing away
		t.tokens = min(tellBurst, t.tokens+max(now.Sub(t.filled), 0).Seconds()/tellEvery.Seconds())
	}
	t.filled = now
	if t.tokens < 1 {
		return false
	}
	t.tokens--
	return true
}

// passing tells whether plan's status tells no more than the state that the machine
// is in on its way to another one, and for how long it has been in it. What later
// decisions depend on is more than that.
func passing(in Input, plan Plan) (age time.Duration, ok bool) {
	is, want := &in.VM.Status, &plan.VM.Status
	if equality.Semantic.DeepEqual(is, want) || !equality.Semantic.DeepEqual(lasting(is), lasting(want)) {
		return 0, false
	}
	since, ok := passingSince(in, want)
	return in.Now.Sub(since), ok
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
