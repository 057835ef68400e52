// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Input is what a decision is made from.
type Input struct {
	VMI *v1.VirtualMachineInstance
	// Pods are those that VMI controls (by UID), in any state.
	Pods []corev1.Pod
	// Live says that Pods was read from the API server just now, not from a
	// cache. Only then is a missing pod known to be gone, and a pod's size to be
	// what is to be changed.
	Live  bool
	Nodes Nodes
	// Claims has an entry for each claim that VMI names.
	Claims map[string]Claim
	Now    time.Time
	// Overhead is the memory that QEMU needs for vmi beyond the guest's, see
	// Reconciler.
	Overhead func(vmi *v1.VirtualMachineInstance, kvm bool) resource.Quantity
}

// Nodes is what the cluster's nodes have to offer.
type Nodes struct {
	// Schedulable counts the nodes that run instances: those with the label
	// kubevirt.io/schedulable=true.
	Schedulable int
	// KVM says that one of them offers its KVM device.
	KVM bool
	// KVMSoon says that the agent of one of them has found KVM to work, but the
	// device cannot be asked for yet, as while agent or kubelet start.
	KVMSoon bool
	// VhostNet says that all that offer KVM offer vhost-net too, so that asking
	// for it keeps an instance off none of them.
	VhostNet bool
}

// Plan is what is to be done, in the order of the fields.
type Plan struct {
	// Confirm asks for the decision to be made again with live pods. Nothing
	// else in the plan is set.
	Confirm bool
	// Create asks for the pod. A failure is told with CreateFailed.
	Create bool
	// VMI is the instance as it should be; it is written when it differs.
	VMI *v1.VirtualMachineInstance
	// PodCondition is to be set on Pod.
	PodCondition *corev1.PodCondition
	Pod          *corev1.Pod
	// NetworkStatus is to be the annotation of that name on NetworkPod.
	NetworkStatus string
	NetworkPod    *corev1.Pod
	// Resize are changes of ResizePod's container, each to be asked for in a dry
	// run before VMI is written and made afterwards. A refusal is told with
	// ResizeRefused.
	Resize    []PodChange
	ResizePod *corev1.Pod
	// Delete are the pods to delete.
	Delete []Deletion
	// Events are told once the instance has been written.
	Events []Event
	// After asks for another pass then, 0 for none.
	After time.Duration
}

// Deletion is a pod to delete with this grace period.
type Deletion struct {
	Name  string
	UID   types.UID
	Grace int64 // seconds
	// Again says that the pod is being deleted already, with a longer period.
	Again bool
}

// Event is an Event about the instance.
type Event struct {
	Type, Reason, Note string
}

// Reasons in conditions, Events and status.reason, beside Kubernetes' own.
const (
	// status.reason of a failed instance.
	ReasonGuestPanicked = "GuestPanicked"
	ReasonQEMUFailed    = "QEMUFailed"  // QEMU gave up by itself
	ReasonQEMUCrashed   = "QEMUCrashed" // QEMU was ended by a signal
	ReasonRefused       = "Refused"     // the launcher would not start QEMU
	ReasonOOMKilled     = "OOMKilled"
	ReasonKilled        = "Killed" // after the grace period, or by somebody on the node
	ReasonEvicted       = "Evicted"
	ReasonNodeLost      = "NodeLost"
	ReasonPodRejected   = "PodRejected"
	ReasonPodFailed     = "PodFailed"
	ReasonPodGone       = "PodNotExists"

	// Synchronized=False.
	ReasonFailedCreate  = "FailedCreate"
	ReasonPodNotStarted = "PodNotStarted"
	ReasonAgentMissing  = "NodeAgentNotReady"
	ReasonClaimNotFound = "FailedPvcNotFound"
	ReasonClaimNotReady = "PVCNotReady"

	// Ready=False.
	ReasonGuestNotRunning     = "GuestNotRunning"
	ReasonPodTerminating      = "PodTerminating"
	ReasonPodConditionMissing = "PodConditionMissing"

	// The pod's condition kubevirt.io/virtual-machine-unpaused.
	ReasonNotPaused = "NotPaused"
	ReasonPaused    = "Paused"

	// Events.
	EventCreated      = "SuccessfulCreate"
	EventDeleted      = "SuccessfulDelete"
	EventFailedCreate = "FailedCreate"
	EventFailedDelete = "FailedDelete"
)
