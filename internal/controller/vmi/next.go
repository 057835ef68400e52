// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

const (
	// bindPatience is how long a new pod may be unbound before the phase
	// Scheduling is written. The scheduler usually needs milliseconds, and then
	// one write to Scheduled does for both.
	bindPatience = time.Second
	// kvmPatience is how long a new instance waits for a node's KVM device to
	// come back before it is emulated.
	kvmPatience = 30 * time.Second
	// startPatience is how long a bound pod may take without a word.
	startPatience = 30 * time.Second
	// A pod that its node refused is replaced when it is half as old as the
	// instance was when the pod was made, within these bounds: so the intervals
	// grow, and nothing needs to be remembered.
	minReplace = time.Second
	maxReplace = time.Minute
)

// Next decides what to do for an instance. It never changes its input.
func Next(in Input) Plan {
	vmi := in.VMI.DeepCopy()
	d := &decision{in: in, vmi: vmi, st: &vmi.Status, plan: Plan{VMI: vmi}}
	d.decide()
	if d.plan.Confirm {
		return Plan{Confirm: true, VMI: in.VMI}
	}
	return d.plan
}

type decision struct {
	in   Input
	vmi  *v1.VirtualMachineInstance // becomes plan.VMI
	st   *v1.VirtualMachineInstanceStatus
	plan Plan
}

func (d *decision) decide() {
	if d.vmi.DeletionTimestamp != nil {
		d.deleting()
		return
	}
	if d.st.Phase.IsFinal() {
		// Only the pod that the end was read from may be left; anything that
		// runs here has no machine that it belongs to.
		d.deleteLive(nil)
		return
	}
	if !slices.Contains(d.vmi.Finalizers, v1.VMIFinalizer) {
		d.vmi.Finalizers = append(d.vmi.Finalizers, v1.VMIFinalizer)
	}
	if d.st.Phase == "" {
		setPhase(d.st, v1.Pending, d.in.Now)
	}
	if !hasStage(d.st, v1.StageAdmitted) {
		d.st.Stages = slices.Insert(d.st.Stages, 0, v1.StageTimestamp{Stage: v1.StageAdmitted})
		setStage(d.st, v1.StageAdmitted, d.vmi.CreationTimestamp.Time)
	}

	d.claims()

	pod := d.current()
	switch {
	case pod == nil && d.handedOver():
		if d.sure() {
			d.end(outcome{v1.Failed, ReasonPodGone, "the machine's pod was deleted, and the machine with it"})
		}
	case pod == nil:
		d.create()
	case ended(pod):
		d.deleteLive(pod)
		d.ended(pod)
	default:
		d.deleteLive(pod)
		d.follow(pod)
	}
}

// handedOver tells whether a node's agent was ever told of a pod.
func (d *decision) handedOver() bool {
	return len(d.st.ActivePods) > 0 || d.st.Phase == v1.Scheduled || d.st.Phase == v1.Running
}

// sure tells whether pods are known as they are, and those that are missing to be
// missing; if they are not it asks for the decision to be made again.
func (d *decision) sure() bool {
	d.plan.Confirm = !d.in.Live
	return d.in.Live
}

// current is the pod that is the machine: the one handed over, else the oldest
// that has not ended, else the youngest of those that have.
func (d *decision) current() *corev1.Pod {
	var best *corev1.Pod
	better := func(a, b *corev1.Pod) bool {
		_, aActive := d.st.ActivePods[string(a.UID)]
		_, bActive := d.st.ActivePods[string(b.UID)]
		switch {
		case aActive != bActive:
			return aActive
		case ended(a) != ended(b):
			return !ended(a)
		case ended(a):
			return b.CreationTimestamp.Before(&a.CreationTimestamp)
		default:
			return a.CreationTimestamp.Before(&b.CreationTimestamp)
		}
	}
	for i := range d.in.Pods {
		if p := &d.in.Pods[i]; best == nil || better(p, best) {
			best = p
		}
	}
	return best
}

// deleteLive deletes every pod that runs, or will, besides keep.
func (d *decision) deleteLive(keep *corev1.Pod) {
	for i := range d.in.Pods {
		if p := &d.in.Pods[i]; !ended(p) && (keep == nil || p.UID != keep.UID) {
			d.delete(p, podtemplate.PodGrace(d.vmi))
		}
	}
}

func (d *decision) delete(pod *corev1.Pod, grace int64) {
	again := pod.DeletionTimestamp != nil
	if again && (pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds <= grace) {
		return
	}
	d.plan.Delete = append(d.plan.Delete, Deletion{Name: pod.Name, UID: pod.UID, Grace: grace, Again: again})
}

// deleting ends the machine's pods and lets go of the instance when they are gone.
func (d *decision) deleting() {
	i := slices.Index(d.vmi.Finalizers, v1.VMIFinalizer)
	if i < 0 {
		return
	}
	for j := range d.in.Pods {
		d.delete(&d.in.Pods[j], podtemplate.PodGrace(d.vmi))
	}
	if pod := d.current(); pod != nil {
		if !d.st.Phase.IsFinal() && ended(pod) && pod.DeletionTimestamp == nil {
			// It ended by itself; what it says is lost with it otherwise.
			d.end(judge(d.vmi, pod))
		}
		return
	}
	if !d.sure() {
		return
	}
	d.vmi.Finalizers = slices.Delete(d.vmi.Finalizers, i, i+1)
	if !d.st.Phase.IsFinal() {
		d.end(outcome{phase: v1.Succeeded})
	}
}

// create asks for the pod as soon as it can be told what to ask of a node.
func (d *decision) create() {
	if d.in.Nodes.Schedulable == 0 {
		d.st.SetCondition(v1.VMIPodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable,
			"no node has the label "+v1.SchedulableLabel+"=true, which the node agent gives a node that can run machines; "+
				"see that skerry-node runs on a node and look at its conditions (kubectl describe node)", d.in.Now)
		return // a node's change brings the next pass
	}
	if !d.in.Nodes.KVM && d.in.Nodes.KVMSoon {
		if wait := d.vmi.CreationTimestamp.Add(kvmPatience).Sub(d.in.Now); wait > 0 {
			d.plan.After = wait
			return
		}
	}
	if reason, message := d.awaitClaims(); reason != "" {
		d.problem(reason, message)
		d.plan.After = claimPatience
		return
	}
	if c := d.st.Condition(v1.VMISynchronized); c != nil && (c.Reason == ReasonClaimNotFound || c.Reason == ReasonClaimNotReady) {
		d.st.RemoveCondition(v1.VMISynchronized)
	}
	// An earlier failure to create it stays on record until the pod is seen.
	d.plan.Create = true
	if c := d.st.Condition(v1.VMIPodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		d.st.RemoveCondition(v1.VMIPodScheduled)
	}
}

// ended draws the conclusion from a pod that has ended.
func (d *decision) ended(pod *corev1.Pod) {
	if !rejected(pod) || passed(d.st, v1.Running) {
		d.handOver(pod, false)
		d.end(judge(d.vmi, pod))
		return
	}
	// Take the pod back from the node and make another one, by and by.
	d.problem(ReasonPodRejected, fmt.Sprintf("the kubelet of node %s refused the pod, another one will be made: %s: %s",
		pod.Spec.NodeName, pod.Status.Reason, pod.Status.Message))
	d.st.Phase = v1.Pending
	delete(d.st.ActivePods, string(pod.UID))
	d.st.NodeName = ""
	delete(d.vmi.Labels, v1.NodeNameLabel)
	age := pod.CreationTimestamp.Sub(d.vmi.CreationTimestamp.Time)
	wait := pod.CreationTimestamp.Add(min(max(age/2, minReplace), maxReplace)).Sub(d.in.Now)
	if wait > 0 {
		d.plan.After = wait
		return
	}
	d.delete(pod, 0)
}

// end makes the instance final.
func (d *decision) end(o outcome) {
	setPhase(d.st, o.phase, d.in.Now)
	d.st.Reason = o.reason
	d.clearProblem()
	d.st.RemoveCondition(v1.VMIPodScheduled)
	if o.phase == v1.Succeeded {
		d.st.SetCondition(v1.VMIReady, corev1.ConditionFalse, ReasonGuestNotRunning, "the guest has powered off", d.in.Now)
		return
	}
	d.st.SetCondition(v1.VMIReady, corev1.ConditionFalse, o.reason, o.message, d.in.Now)
	d.event(corev1.EventTypeWarning, o.reason, o.message)
}

// follow keeps the instance in step with its pod.
func (d *decision) follow(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		d.unbound(pod)
		return
	}
	d.handOver(pod, true)
	if d.st.Phase == v1.Running {
		d.clearProblem()
		d.ready(pod)
		d.networkStatus(pod)
		d.resize(pod)
		return
	}
	d.st.SetCondition(v1.VMIReady, corev1.ConditionFalse, ReasonGuestNotRunning, "", d.in.Now)
	d.starting(pod)
}

// handOver gives a bound pod to the agent of its node. A pod that ended before
// anybody saw it bound is recorded only (scheduled is false).
func (d *decision) handOver(pod *corev1.Pod, scheduled bool) {
	node := pod.Spec.NodeName
	if node == "" {
		return
	}
	active := map[string]string{string(pod.UID): node}
	if !maps.Equal(d.st.ActivePods, active) {
		d.st.ActivePods = active
	}
	d.st.NodeName = node
	if d.vmi.Labels[v1.NodeNameLabel] != node {
		if d.vmi.Labels == nil {
			d.vmi.Labels = map[string]string{}
		}
		d.vmi.Labels[v1.NodeNameLabel] = node
	}
	if pod.Status.QOSClass != "" {
		d.st.QosClass = pod.Status.QOSClass
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == v1.ComputeContainer {
			d.st.LauncherContainerImageVersion = c.Image
		}
	}
	if !scheduled || d.st.Phase == v1.Scheduled || d.st.Phase == v1.Running {
		return
	}
	d.st.RemoveCondition(v1.VMIPodScheduled)
	if d.st.Phase != v1.Scheduling {
		d.st.StampPhase(v1.Scheduling, pod.CreationTimestamp.Time)
	}
	setPhase(d.st, v1.Scheduled, d.in.Now)
	setStage(d.st, v1.StageScheduled, d.in.Now)
}

func (d *decision) event(kind, reason, note string) {
	d.plan.Events = append(d.plan.Events, Event{Type: kind, Reason: reason, Note: printable(note)})
}
