// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// outcome is how a machine ended.
type outcome struct {
	phase           v1.VirtualMachineInstancePhase
	reason, message string
}

// ended tells whether nothing of the pod runs any more.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || terminated(pod) != nil
}

func compute(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].Name == v1.ComputeContainer {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	return nil
}

func terminated(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	if c := compute(pod); c != nil {
		return c.State.Terminated
	}
	return nil
}

// rejectedMessage is what the kubelet's message begins with for every pod that it
// does not admit, whatever the reason (rejectPod in k8s.io/kubernetes/pkg/kubelet).
const rejectedMessage = "Pod was rejected: "

// rejected tells whether the node's kubelet refused the pod before any of it
// started: another pod, or the same node a little later, may be accepted. The
// usual case is a pod that was bound but not started when the kubelet died: the
// next one looks at it before the device plugins have registered again.
func rejected(pod *corev1.Pod) bool {
	if pod.Status.Phase != corev1.PodFailed || started(pod) {
		return false
	}
	if strings.HasPrefix(pod.Status.Message, rejectedMessage) {
		return true
	}
	switch r := pod.Status.Reason; r {
	case "UnexpectedAdmissionError", "NodeAffinity", "TopologyAffinityError":
		return true
	default:
		return strings.HasPrefix(r, "OutOf")
	}
}

// started tells whether any container of the pod ever ran.
func started(pod *corev1.Pod) bool {
	for _, all := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range all {
			if c := &all[i]; c.RestartCount > 0 || c.State.Running != nil || c.State.Terminated != nil || c.LastTerminationState.Terminated != nil {
				return true
			}
		}
	}
	return false
}

// judge says how the machine ended whose pod has ended.
func judge(vmi *v1.VirtualMachineInstance, pod *corev1.Pod) outcome {
	fail := func(reason, format string, args ...any) outcome {
		return outcome{v1.Failed, reason, printable(fmt.Sprintf(format, args...))}
	}
	node := pod.Spec.NodeName

	// A disruption is nobody's wish inside the guest, so the machine counts as
	// failed (and is run again) however well it was shut down.
	if c := podCondition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
		if c.Reason == "DeletionByPodGC" {
			return fail(ReasonNodeLost, "node %s is gone: %s", node, c.Message)
		}
		return fail(ReasonEvicted, "the pod was taken off node %s (%s): %s", node, c.Reason, c.Message)
	}
	switch pod.Status.Reason {
	case "Evicted", "Preempting", "Terminated", "NodeShutdown":
		return fail(ReasonEvicted, "the pod was taken off node %s (%s): %s", node, pod.Status.Reason, pod.Status.Message)
	case "NodeLost":
		return fail(ReasonNodeLost, "node %s does not answer: %s", node, pod.Status.Message)
	}

	t := terminated(pod).DeepCopy()
	var end int
	if t != nil {
		end, t.Message = lastWord(t.Message)
	}
	switch {
	case t == nil && pod.Status.Phase == corev1.PodSucceeded:
		return outcome{phase: v1.Succeeded}
	case t == nil && rejected(pod):
		return fail(ReasonPodRejected, "the kubelet of node %s refused the pod (%s): %s", node, pod.Status.Reason, pod.Status.Message)
	case t == nil:
		return fail(ReasonPodFailed, "the pod failed (%s): %s", or(pod.Status.Reason, "no reason given"), pod.Status.Message)
	case t.ExitCode == contract.ExitPowerOff:
		return outcome{phase: v1.Succeeded}
	case t.Reason == "OOMKilled":
		return fail(ReasonOOMKilled, "QEMU was killed because the pod reached its memory limit or the node had no memory left; "+
			"raise spec.domain.resources.limits.memory, lower spec.domain.memory.guest, or free memory on node %s", node)
	case t.Reason == "ContainerStatusUnknown":
		return fail(ReasonNodeLost, "node %s lost the machine, as when it is restarted: %s", node, t.Message)
	case t.ExitCode == contract.ExitRefused:
		return fail(ReasonRefused, "the launcher refused to start the machine: %s", or(t.Message, "it left no message; see kubectl logs "+pod.Name))
	case t.Reason == "StartError" || t.Reason == "ContainerCannotRun":
		return fail(ReasonPodFailed, "node %s could not start the pod's container: %s", node, t.Message)
	}

	if t.ExitCode == contract.ExitUnknown {
		return lost(pod, end)
	}
	signal := t.Signal
	if signal == 0 && t.ExitCode > 128 && t.ExitCode < 128+65 {
		signal = t.ExitCode - 128
	}
	switch {
	case signal == 9 && (vmi.DeletionTimestamp != nil || pod.DeletionTimestamp != nil):
		return fail(ReasonKilled, "the guest had not powered off by the end of its grace period and was killed")
	case signal == 9:
		return fail(ReasonKilled, "QEMU was killed (signal 9), neither by the guest nor for want of memory in the pod; see the kernel log of node %s", node)
	case signal != 0:
		return fail(ReasonQEMUCrashed, "QEMU crashed (signal %d): %s", signal, t.Message)
	case !passed(&vmi.Status, v1.Running):
		return fail(ReasonQEMUFailed, "QEMU could not start (exit code %d): %s", t.ExitCode, or(t.Message, "see kubectl logs "+pod.Name))
	case t.ExitCode == contract.ExitFailure && end == contract.EndPanic:
		return panicked(pod, t.Message)
	case t.ExitCode == contract.ExitFailure:
		// The agent knows better when it saw QEMU go.
		if r := vmi.Status.Reason; r != "" && r != ReasonGuestPanicked {
			return fail(r, "QEMU ended (exit code %d): %s", t.ExitCode, t.Message)
		}
		return panicked(pod, t.Message)
	default:
		return fail(ReasonQEMUFailed, "QEMU ended with exit code %d: %s", t.ExitCode, t.Message)
	}
}

// panicked is the end of a guest of which text is the end of its console, if known.
func panicked(pod *corev1.Pod, text string) outcome {
	return outcome{v1.Failed, ReasonGuestPanicked,
		printable("the guest crashed (its kernel panicked); the end of its console: " + or(text, "see the Events and kubectl logs "+pod.Name))}
}

// lost judges by QEMU's last word an end whose exit code is not known: containerd
// keeps none of what ends while it is dead itself.
func lost(pod *corev1.Pod, end int) outcome {
	switch end {
	case contract.EndPowerOff, contract.EndReset, contract.EndQuit, contract.EndSignal:
		return outcome{phase: v1.Succeeded}
	case contract.EndPanic:
		return panicked(pod, "")
	}
	return outcome{v1.Failed, ReasonQEMUFailed, printable(fmt.Sprintf("QEMU ended without a word, and its exit code is not known, as it ended "+
		"while the container runtime of node %s was down: it crashed or was killed; see kubectl logs %s and the node's kernel log", pod.Spec.NodeName, pod.Name))}
}

// lastWord reads what QEMU wrote of its end (contract.EndTrace) in a container's
// message, 0 when there is nothing of it, and returns the rest of the message. Who
// has taken QEMU over can write any of it, as he can end it in any way.
func lastWord(message string) (end int, rest string) {
	const word = contract.EndTrace + " reason="
	var b strings.Builder
	for line := range strings.Lines(message) {
		_, number, ok := strings.Cut(line, word)
		if !ok {
			b.WriteString(line)
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(number)); err == nil {
			end = n
		}
	}
	return end, b.String()
}

func or(s, otherwise string) string {
	if strings.TrimSpace(s) == "" {
		return otherwise
	}
	return s
}
