// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

// Reasons of HotVCPUChange and HotMemoryChange, beside the API server's, the
// kubelet's and the agent's own.
const (
	ReasonPodResizing       = "PodResizing"        // the kubelet has been asked
	ReasonPodDeferred       = "Deferred"           // it waits for room
	ReasonGuestResizing     = "GuestResizing"      // the agent's turn, growing
	ReasonGuestFirst        = "GuestGivesBack"     // the agent's turn, shrinking
	ReasonReclaiming        = "Reclaiming"         // before the memory limit is cut
	ReasonPodShrinking      = "PodShrinking"       // the kubelet has been asked for less
	ReasonAdmissionChanged  = "AdmissionChangedIt" // something added what was not asked for
	ReasonForeignLimit      = "LimitNotOurs"       // the pod has a limit that the machine does not
	ReasonResizeUnknown     = "SizesUnknown"
	ReasonResizeUnsupported = "ResizeUnsupported"

	EventResize        = "Resize"
	EventResizeRefused = "ResizeRefused"
)

// resizeCondition is the resource's.
func resizeCondition(r resize.Resource) v1.VirtualMachineInstanceConditionType {
	if r == resize.CPU {
		return v1.VMIHotVCPUChange
	}
	return v1.VMIHotMemoryChange
}

// setResizeCondition sums both halves of status.resize up.
func setResizeCondition(vmi *v1.VirtualMachineInstance, r resize.Resource, now time.Time) {
	st, t := &vmi.Status, resizeCondition(r)
	p, g := resize.PodPart(vmi, r), resize.GuestPart(vmi, r)
	if p == nil {
		st.RemoveCondition(t)
		return
	}
	set := func(status corev1.ConditionStatus, reason, message string) {
		st.SetCondition(t, status, reason, printable(message), now)
	}
	size := sizeText(r, p.Target)
	kubelet := func(otherwise string) string {
		if p.Message != "" {
			return p.Message
		}
		return otherwise
	}
	switch p.Step {
	case v1.PodResizeRefused, v1.PodResizeInfeasible:
		set(corev1.ConditionFalse, or(p.Reason, string(p.Step)), p.Message)
	case v1.PodResizeDeferred:
		set(corev1.ConditionTrue, ReasonPodDeferred, p.Message)
	case v1.PodResizeAsked:
		set(corev1.ConditionTrue, ReasonPodResizing, kubelet("the node's kubelet has been asked for what a guest with "+size+" needs"))
	case v1.PodResizeGranted:
		guestCondition(set, vmi, r, g, ReasonGuestResizing, fmt.Sprintf("the pod is big enough for %s; the guest is growing", size))
	case v1.PodResizeGuestFirst:
		guestCondition(set, vmi, r, g, ReasonGuestFirst, fmt.Sprintf("the guest gives back down to %s; the pod is cut afterwards", size))
	case v1.PodResizeReclaim:
		guestCondition(set, vmi, r, g, ReasonReclaiming, fmt.Sprintf("page cache that the pod is charged with is reclaimed until its memory is below the new limit of %s", p.Limit))
	case v1.PodResizeShrinking:
		set(corev1.ConditionTrue, ReasonPodShrinking, kubelet("the node's kubelet has been asked to take what a guest with "+size+" does not need"))
	default:
		st.RemoveCondition(t)
	}
}

// guestCondition says how the agent's turn goes.
func guestCondition(set func(corev1.ConditionStatus, string, string), vmi *v1.VirtualMachineInstance, r resize.Resource,
	g *v1.GuestResourceResize, reason, message string,
) {
	target := resize.SpecSize(vmi, r)
	switch {
	case g != nil && g.Reason != "":
		set(corev1.ConditionFalse, g.Reason, g.Message)
	case g == nil || g.Target == nil || g.Target.Value() != target:
		set(corev1.ConditionTrue, reason, message+"; the agent of node "+vmi.Status.NodeName+" has not begun")
	default:
		set(corev1.ConditionTrue, reason, message)
	}
}

// kubeletSays is the kubelet's own reason and text about the pod's pending change,
// and what to do.
func kubeletSays(pod *corev1.Pod, r resize.Resource, p resize.Pod) (reason, message string) {
	if c := podCondition(pod, corev1.PodResizePending); c != nil && c.Status == corev1.ConditionTrue && p.Pending != resize.NotPending {
		return c.Reason, printable(strings.TrimRight(c.Message, ". ") + "." + pendingHint(pod, r, c))
	}
	if c := podCondition(pod, corev1.PodResizePending); c != nil && c.Status == corev1.ConditionTrue && p.Have != p.Actual {
		return c.Reason, printable("it waits for the machine's other change: " + c.Message)
	}
	if c := podCondition(pod, corev1.PodResizeInProgress); c != nil && c.Status == corev1.ConditionTrue && c.Reason != "" {
		return c.Reason, printable(c.Message)
	}
	return "", ""
}

// pendingHint says what to do about a change that the kubelet does not make.
func pendingHint(pod *corev1.Pod, r resize.Resource, c *corev1.PodCondition) string {
	node := pod.Spec.NodeName
	m := strings.ToLower(c.Message)
	var hint string
	switch {
	case strings.Contains(m, "static"):
		hint = fmt.Sprintf("node %s gives Guaranteed pods CPUs or memory of their own, and its kubelet cannot change them while they run: restart the machine, or run its kubelet with the policy none", node)
	case strings.Contains(m, "swap"):
		hint = fmt.Sprintf("let the pods of node %s go without swap (memorySwap.swapBehavior: NoSwap)", node)
	case c.Reason == corev1.PodReasonInfeasible:
		hint = fmt.Sprintf("node %s is too small for it. Ask for less; nothing was changed", node)
	default:
		hint = fmt.Sprintf("it goes through as soon as node %s has room: stop something there, or go back to the size before", node)
	}
	return fmt.Sprintf(" What to do about the %s: %s.", r, hint)
}
