// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// problems are the reasons with which this controller writes Synchronized=False.
// The condition with any other reason is the node agent's.
var problems = []string{
	ReasonFailedCreate, ReasonPodRejected, ReasonPodNotStarted, ReasonAgentMissing, ReasonClaimNotFound, ReasonClaimNotReady,
	// The kubelet's, for a container that waits.
	"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
	"SignatureValidationFailed", "RegistryUnavailable", "CreateContainerConfigError", "CreateContainerError",
	"PreCreateHookError", "PreStartHookError", "PostStartHookError", "RunContainerError", "CreatePodSandboxError",
}

// problem says what keeps the machine from starting, with an Event when it is news.
func (d *decision) problem(reason, message string) {
	if !writeProblem(d.st, reason, message, d.in.Now) {
		return
	}
	d.event(corev1.EventTypeWarning, reason, message)
}

// writeProblem returns whether the reason is a new one.
func writeProblem(st *v1.VirtualMachineInstanceStatus, reason, message string, now time.Time) bool {
	c := st.Condition(v1.VMISynchronized)
	if c != nil && c.Status == corev1.ConditionFalse && c.Reason == "ImagePullBackOff" && reason == "ErrImagePull" {
		return false // the kubelet goes back and forth between the two; each would be a write
	}
	news := c == nil || c.Reason != reason
	st.SetCondition(v1.VMISynchronized, corev1.ConditionFalse, reason, printable(message), now)
	return news
}

func (d *decision) clearProblem() {
	if c := d.st.Condition(v1.VMISynchronized); c != nil && c.Status == corev1.ConditionFalse && slices.Contains(problems, c.Reason) {
		d.st.RemoveCondition(v1.VMISynchronized)
	}
}

// CreateFailed writes into vmi why its pod could not be created. It returns
// whether that is news, worth an Event.
func CreateFailed(vmi *v1.VirtualMachineInstance, err error, now time.Time) bool {
	return writeProblem(&vmi.Status, ReasonFailedCreate, err.Error(), now)
}

// unbound follows a pod that has no node yet.
func (d *decision) unbound(pod *corev1.Pod) {
	c := podCondition(pod, corev1.PodScheduled)
	if c == nil || c.Status != corev1.ConditionFalse {
		if wait := pod.CreationTimestamp.Add(bindPatience).Sub(d.in.Now); wait > 0 && d.st.Phase == v1.Pending {
			d.plan.After = wait
			return
		}
		setPhase(d.st, v1.Scheduling, d.in.Now)
		return
	}
	setPhase(d.st, v1.Scheduling, d.in.Now)
	d.st.SetCondition(v1.VMIPodScheduled, corev1.ConditionFalse, c.Reason, printable(c.Message+unschedulableHint(pod, c.Message)), d.in.Now)
}

// unschedulableHint says what to do about a message of the scheduler.
func unschedulableHint(pod *corev1.Pod, message string) string {
	var hints []string
	requests := pod.Spec.Containers[0].Resources.Requests
	add := func(when, hint string) {
		if strings.Contains(message, when) {
			hints = append(hints, hint)
		}
	}
	add("Insufficient memory", fmt.Sprintf("the machine's pod asks for %s: lower spec.domain.memory.guest, stop something, or add a node", quantity(requests, corev1.ResourceMemory)))
	add("Insufficient cpu", fmt.Sprintf("the machine's pod asks for %s CPUs: lower spec.domain.resources.requests.cpu, stop something, or add a node", quantity(requests, corev1.ResourceCPU)))
	add("Insufficient ephemeral-storage", "free space on the node's disk")
	add("Insufficient "+v1.KVMResource, "no node has a KVM device free: see that skerry-node runs there and that /dev/kvm works (kubectl describe node)")
	add("Insufficient "+v1.TunResource, "no node offers its tun device: see that skerry-node runs there")
	add("node affinity/selector", fmt.Sprintf("no node has all the labels asked for (%s); the node agent sets %s",
		selector(pod.Spec.NodeSelector), v1.SchedulableLabel))
	add("unbound immediate PersistentVolumeClaims", "see what their claims wait for (kubectl describe pvc)")
	add("untolerated taint", "remove the node's taint or add to spec.tolerations")
	if len(hints) == 0 {
		return ""
	}
	return " What to do: " + strings.Join(hints, "; ") + "."
}

func quantity(l corev1.ResourceList, name corev1.ResourceName) string {
	q := l[name]
	return q.String()
}

func selector(m map[string]string) string {
	return metav1.FormatLabelSelector(metav1.SetAsLabelSelector(m))
}

// starting follows a bound pod until the agent says that the machine runs.
func (d *decision) starting(pod *corev1.Pod) {
	c := compute(pod)
	if c != nil && c.State.Running != nil {
		d.awaitAgent(pod, c.State.Running.StartedAt.Time)
		return
	}
	var reason, message string
	if c != nil && c.State.Waiting != nil {
		reason, message = c.State.Waiting.Reason, c.State.Waiting.Message
	}
	switch {
	case slices.Contains(problems, reason):
		d.problem(reason, imageField(d.vmi, message)+or(message, reason))
	case reason != "" && reason != "ContainerCreating" && reason != "PodInitializing":
		d.problem(ReasonPodNotStarted, reason+": "+message)
	default:
		if wait := d.scheduledAt().Add(startPatience).Sub(d.in.Now); wait > 0 {
			d.clearProblem()
			d.plan.After = wait
			return
		}
		hint := ""
		if s := secrets(pod); len(s) > 0 {
			hint = fmt.Sprintf(" It needs the Secrets %s, which may be missing.", strings.Join(s, ", "))
		}
		d.problem(ReasonPodNotStarted, fmt.Sprintf("node %s has not started the pod for %s; `kubectl -n %s describe pod %s` shows why.%s",
			pod.Spec.NodeName, startPatience, pod.Namespace, pod.Name, hint))
	}
}

func (d *decision) awaitAgent(pod *corev1.Pod, since time.Time) {
	if c := d.st.Condition(v1.VMISynchronized); c != nil && !slices.Contains(problems, c.Reason) {
		return // the agent is at work and has said something
	}
	if wait := since.Add(startPatience).Sub(d.in.Now); wait > 0 {
		d.clearProblem()
		d.plan.After = wait
		return
	}
	d.problem(ReasonAgentMissing, fmt.Sprintf("the pod has run for %s but the node agent has not started the machine in it; see that skerry-node runs on node %s, and its log",
		startPatience, pod.Spec.NodeName))
}

func (d *decision) scheduledAt() time.Time {
	for _, s := range d.st.Stages {
		if s.Stage == v1.StageScheduled {
			return s.Time.Time
		}
	}
	return d.in.Now
}

// imageField is the field of the image that the kubelet's message is about.
func imageField(vmi *v1.VirtualMachineInstance, message string) string {
	for i := range vmi.Spec.Volumes {
		if c := vmi.Spec.Volumes[i].ContainerDisk; c != nil && c.Image != "" && strings.Contains(message, c.Image) {
			return fmt.Sprintf("spec.volumes[%d].containerDisk.image: ", i)
		}
	}
	if fw := vmi.Spec.Domain.Firmware; fw != nil && fw.KernelBoot != nil && fw.KernelBoot.Container != nil {
		if image := fw.KernelBoot.Container.Image; image != "" && strings.Contains(message, image) {
			return "spec.domain.firmware.kernelBoot.container.image: "
		}
	}
	return ""
}

func secrets(pod *corev1.Pod) []string {
	var out []string
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			out = append(out, v.Secret.SecretName)
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		out = append(out, s.Name)
	}
	return out
}

// ready writes the instance's Ready from its pod's, and the pod's readiness gate.
func (d *decision) ready(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		d.st.SetCondition(v1.VMIReady, corev1.ConditionFalse, ReasonPodTerminating, "", d.in.Now)
		return
	}
	gate := corev1.PodCondition{Type: v1.UnpausedReadinessGate, Status: corev1.ConditionTrue, Reason: ReasonNotPaused}
	if c := d.st.Condition(v1.VMIPaused); c != nil && c.Status == corev1.ConditionTrue {
		gate.Status, gate.Reason = corev1.ConditionFalse, ReasonPaused
	}
	if c := podCondition(pod, v1.UnpausedReadinessGate); c == nil || c.Status != gate.Status || c.Reason != gate.Reason {
		gate.LastTransitionTime = metav1.NewTime(d.in.Now.Truncate(time.Second))
		d.plan.PodCondition, d.plan.Pod = &gate, pod
	}

	c := podCondition(pod, corev1.PodReady)
	have := d.st.Condition(v1.VMIReady)
	switch {
	case c == nil:
		d.st.SetCondition(v1.VMIReady, corev1.ConditionFalse, ReasonPodConditionMissing, "", d.in.Now)
	case c.Status != corev1.ConditionTrue && gate.Status == corev1.ConditionTrue && c.Reason == "ReadinessGatesNotReady" &&
		have != nil && have.Status == corev1.ConditionFalse:
		// The kubelet is about to see the gate open: not worth a write of its own.
	default:
		d.st.SetCondition(v1.VMIReady, c.Status, c.Reason, c.Message, d.in.Now)
	}
}
