// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// report sums up how the machine stands in its status.
func (d *decision) report() {
	d.restartRequired()
	d.st.DesiredGeneration = d.vm.Generation
	d.st.ObservedGeneration = d.vm.Generation
	if c := find(d.st, v1.VMRestartRequired); c != nil {
		if g, err := strconv.ParseInt(d.vmi.Annotations[v1.VMGenerationAnnotation], 10, 64); err == nil {
			d.st.ObservedGeneration = g
		}
	}
	d.copyConditions()
	ready := find(d.st, v1.VMReady)
	d.st.Created = new(d.vmi != nil)
	d.st.Ready = new(ready != nil && ready.Status == corev1.ConditionTrue)
	d.st.PrintableStatus = d.printable()
}

// own are the conditions that are not copied from the instance.
var own = []v1.VirtualMachineConditionType{v1.VMReady, v1.VMFailure, v1.VMRestartRequired}

func (d *decision) copyConditions() {
	if d.vmi == nil {
		set(d.st, v1.VMReady, corev1.ConditionFalse, ReasonVMINotExists, "the machine has no instance: it is stopped", d.in.Now)
	} else if d.vmi.DeletionTimestamp != nil || d.stopping && !d.vmi.Status.Phase.IsFinal() {
		set(d.st, v1.VMReady, corev1.ConditionFalse, ReasonVMITerminating, "the instance is being stopped", d.in.Now)
	} else if c := findInstance(d.vmi, v1.VMIReady); c == nil && !d.vmi.Status.Phase.IsFinal() {
		// What the instance's controller is about to write; one write less here.
		set(d.st, v1.VMReady, corev1.ConditionFalse, ReasonGuestNotRunning, "", d.in.Now)
	} else if c == nil {
		set(d.st, v1.VMReady, corev1.ConditionFalse, ReasonVMIConditionMissing, "the instance has no Ready condition", d.in.Now)
	} else {
		// With a transition time of its own: this one turns when the machine does.
		set(d.st, v1.VMReady, c.Status, c.Reason, c.Message, d.in.Now)
	}
	var copied []v1.VirtualMachineConditionType
	if d.vmi != nil {
		for i := range d.vmi.Status.Conditions {
			c := &d.vmi.Status.Conditions[i]
			if t := v1.VirtualMachineConditionType(c.Type); !slices.Contains(own, t) {
				d.copyCondition(t, c)
				copied = append(copied, t)
			}
		}
	}
	d.st.Conditions = slices.DeleteFunc(d.st.Conditions, func(c v1.VirtualMachineCondition) bool {
		return !slices.Contains(own, c.Type) && !slices.Contains(copied, c.Type)
	})
}

func (d *decision) copyCondition(t v1.VirtualMachineConditionType, from *v1.VirtualMachineInstanceCondition) {
	to := set(d.st, t, from.Status, from.Reason, from.Message, d.in.Now)
	to.LastProbeTime, to.LastTransitionTime = from.LastProbeTime, from.LastTransitionTime
}

// restartRequired carries over what can change while the machine runs, and tells
// when something else has.
func (d *decision) restartRequired() {
	change, why := d.resize()
	if change != nil {
		d.plan.Resize = change
	}
	if why == nil {
		d.clear(v1.VMRestartRequired)
		return
	}
	set(d.st, v1.VMRestartRequired, corev1.ConditionTrue, why.reason,
		fmt.Sprintf("%s; restart the machine to apply it: skerry restart %s -n %s", why.message, d.vm.Name, d.vm.Namespace), d.in.Now)
}

// printable is the machine's state in a word; the first that is true wins.
func (d *decision) printable() v1.VirtualMachinePrintableStatus {
	var phase v1.VirtualMachineInstancePhase
	if d.vmi != nil {
		phase = d.vmi.Status.Phase
	}
	alive := d.vmi != nil && !phase.IsFinal()
	sync, scheduled := "", ""
	if alive {
		if c := findInstance(d.vmi, v1.VMISynchronized); c != nil && c.Status == corev1.ConditionFalse {
			sync = c.Reason
		}
		if c := findInstance(d.vmi, v1.VMIPodScheduled); c != nil && c.Status == corev1.ConditionFalse {
			scheduled = c.Reason
		}
	}
	f := d.st.StartFailure
	backingOff := f != nil && f.RetryAfterTimestamp != nil && d.in.Now.Before(f.RetryAfterTimestamp.Time)
	switch {
	case d.vm.DeletionTimestamp != nil:
		return v1.StatusTerminating
	case alive && d.stopping:
		return v1.StatusStopping
	case alive && migrating(d.vmi):
		return v1.StatusMigrating
	case phase == v1.Running && instanceIs(d.vmi, v1.VMIPaused):
		return v1.StatusPaused
	case phase == v1.Running:
		return v1.StatusRunning
	case sync == "FailedPvcNotFound":
		return v1.StatusErrorPvcNotFound
	case scheduled == corev1.PodReasonUnschedulable:
		return v1.StatusErrorUnschedulable
	case alive && phase != v1.Running && awaitsVolume(d.vmi):
		return v1.StatusWaitingForVolumeBind
	case sync == "ErrImagePull":
		return v1.StatusErrImagePull
	case sync == "ImagePullBackOff":
		return v1.StatusImagePullBackOff
	case d.vmi == nil && d.starting && !backingOff:
		return v1.StatusStarting
	case phase == v1.Pending || phase == v1.Scheduling || phase == v1.Scheduled || alive && phase == "":
		return v1.StatusStarting
	case f != nil && f.ConsecutiveFailCount > 0:
		return v1.StatusCrashLoopBackOff
	case d.vmi == nil || phase.IsFinal():
		return v1.StatusStopped
	default:
		return v1.StatusUnknown
	}
}

// awaitsVolume tells whether a claim of the instance has no volume yet.
func awaitsVolume(vmi *v1.VirtualMachineInstance) bool {
	return slices.ContainsFunc(vmi.Status.VolumeStatus, func(s v1.VolumeStatus) bool {
		return s.PersistentVolumeClaimInfo != nil && s.Phase == "Pending"
	})
}

func migrating(vmi *v1.VirtualMachineInstance) bool {
	m := vmi.Status.MigrationState
	return m != nil && !isTrue(m.Completed) && !isTrue(m.Failed)
}

func instanceIs(vmi *v1.VirtualMachineInstance, t v1.VirtualMachineInstanceConditionType) bool {
	c := findInstance(vmi, t)
	return c != nil && c.Status == corev1.ConditionTrue
}

func isTrue(b *bool) bool { return b != nil && *b }

func findInstance(vmi *v1.VirtualMachineInstance, t v1.VirtualMachineInstanceConditionType) *v1.VirtualMachineInstanceCondition {
	for i := range vmi.Status.Conditions {
		if vmi.Status.Conditions[i].Type == t {
			return &vmi.Status.Conditions[i]
		}
	}
	return nil
}

func find(st *v1.VirtualMachineStatus, t v1.VirtualMachineConditionType) *v1.VirtualMachineCondition {
	for i := range st.Conditions {
		if st.Conditions[i].Type == t {
			return &st.Conditions[i]
		}
	}
	return nil
}

func (d *decision) clear(t v1.VirtualMachineConditionType) {
	d.st.Conditions = slices.DeleteFunc(d.st.Conditions, func(c v1.VirtualMachineCondition) bool { return c.Type == t })
}

// set writes a condition; the transition time changes with its status only.
func set(st *v1.VirtualMachineStatus, t v1.VirtualMachineConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) *v1.VirtualMachineCondition {
	c := find(st, t)
	if c == nil {
		st.Conditions = append(st.Conditions, v1.VirtualMachineCondition{Type: t})
		c = &st.Conditions[len(st.Conditions)-1]
	}
	if c.Status != status {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
	c.Status, c.Reason, c.Message = status, reason, message
	return c
}
