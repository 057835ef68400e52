// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conditions of a change of the running machine. The controller alone writes
// them, from both halves of status.resize. Each is True while the change is
// under way or waits, False when something stands in its way that waiting does
// not remove, and away when there is nothing to do.
const (
	VMIHotVCPUChange   VirtualMachineInstanceConditionType = "HotVCPUChange"
	VMIHotMemoryChange VirtualMachineInstanceConditionType = "HotMemoryChange"
)

// ResizePolicyAnnotation is on a VirtualMachine (or its template) and says what
// a change of its CPUs, memory or resources does while it runs. A cluster's
// default is an option of the controller.
const ResizePolicyAnnotation = "skerry.dev/resize-policy"

// ResizePolicy is a value of ResizePolicyAnnotation.
type ResizePolicy string

// The policies.
const (
	// ResizeInPlace changes the machine where it runs. The default.
	ResizeInPlace ResizePolicy = "InPlace"
	// ResizeInPlaceOrMigrate would migrate a machine that cannot be changed where
	// it runs. There is no migration yet: it does what InPlace does and says so.
	ResizeInPlaceOrMigrate ResizePolicy = "InPlaceOrMigrate"
	// ResizeRestartOnly leaves the machine as it is until it is restarted.
	ResizeRestartOnly ResizePolicy = "RestartOnly"
)

// ResizeStatus is how far a change of the running machine's size has come. Its
// two parts have different writers.
type ResizeStatus struct {
	// Pod is what the controller does with the machine's pod.
	// +optional
	Pod *PodResize `json:"pod,omitempty"`
	// Guest is what the node agent does with the machine and its guest.
	// +optional
	Guest *GuestResize `json:"guest,omitempty"`
}

// PodResize is the controller's part, for each resource.
type PodResize struct {
	// +optional
	CPU *PodResourceResize `json:"cpu,omitempty"`
	// +optional
	Memory *PodResourceResize `json:"memory,omitempty"`
}

// PodResizeStep is what the controller did last, or waits for.
type PodResizeStep string

// The steps of the pod's part.
const (
	// PodResizeRefused: the API server refused it, in a dry run. Nothing was done.
	PodResizeRefused PodResizeStep = "Refused"
	// PodResizeInfeasible: the node can never grant it. The pod was put back to
	// what it has.
	PodResizeInfeasible PodResizeStep = "Infeasible"
	// PodResizeDeferred: the node has no room now. The kubelet grants it as soon
	// as it has.
	PodResizeDeferred PodResizeStep = "Deferred"
	// PodResizeAsked: the pod's spec was changed, the kubelet has not acted yet.
	PodResizeAsked PodResizeStep = "Asked"
	// PodResizeGranted: the kubelet has given the pod what the guest is to have.
	// It is the agent's turn.
	PodResizeGranted PodResizeStep = "Granted"
	// PodResizeGuestFirst: the guest is to give back before the pod is cut. It is
	// the agent's turn.
	PodResizeGuestFirst PodResizeStep = "GuestFirst"
	// PodResizeReclaim: the pod's memory limit is to be cut to `limit`. The agent
	// is asked to bring the pod's charged memory below it first, page cache
	// included, since the kubelet refuses the cut otherwise; it answers in
	// guest.memory.podUsage.
	PodResizeReclaim PodResizeStep = "Reclaim"
	// PodResizeShrinking: the guest has given back and the pod's spec was cut, the
	// kubelet has not acted yet.
	PodResizeShrinking PodResizeStep = "Shrinking"
	// PodResizeDone: the pod has what the spec asks for, and so has the guest.
	PodResizeDone PodResizeStep = "Done"
)

// PodResourceResize is the controller's part for one resource.
type PodResourceResize struct {
	// +optional
	Step PodResizeStep `json:"step,omitempty"`
	// Target is the guest's size (virtual CPUs, or bytes) that this step is about.
	// +optional
	Target *resource.Quantity `json:"target,omitempty"`
	// Request is the pod's request that this step is about.
	// +optional
	Request *resource.Quantity `json:"request,omitempty"`
	// Limit is the pod's limit that this step changes, none when it changes none.
	// While it is being raised (Asked), a cgroup that has it proves that the
	// kubelet has granted the step, sooner than the pod's status says so.
	// +optional
	Limit *resource.Quantity `json:"limit,omitempty"`
	// Reason is why it was refused or waits, in the API server's or the kubelet's
	// own word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message is their text, and what to do about it.
	// +optional
	Message string `json:"message,omitempty"`
	// Times are when each step of the present change was reached, in order.
	// +optional
	Times []ResizeTime `json:"times,omitempty"`
}

// ResizeTime says when a step was reached.
type ResizeTime struct {
	Step string `json:"step"`
	// Time has microseconds.
	Time metav1.MicroTime `json:"time"`
}

// GuestResize is the agent's part, for each resource.
type GuestResize struct {
	// +optional
	CPU *GuestResourceResize `json:"cpu,omitempty"`
	// +optional
	Memory *GuestResourceResize `json:"memory,omitempty"`
}

// GuestResizeMechanism is how a running machine's size is changed.
type GuestResizeMechanism string

// The mechanisms.
const (
	MechanismACPICPU   GuestResizeMechanism = "acpi-cpu"   // virtual CPUs, one socket at a time
	MechanismVirtioMem GuestResizeMechanism = "virtio-mem" // memory, up and down
	MechanismPCDIMM    GuestResizeMechanism = "pc-dimm"    // memory, up only
)

// Steps of the guest's part, as they stand in its times.
const (
	GuestResizeAnnounced = "Announced" // the agent knows the target and will act on it
	GuestResizeCovered   = "Covered"   // the pod's cgroup is big enough for it
	GuestResizePlugged   = "Plugged"   // QEMU has been told
	GuestResizeDone      = "Done"      // the guest has it, or has given back
)

// GuestResourceResize is the agent's part for one resource.
type GuestResourceResize struct {
	// Mechanism that is used for this machine.
	// +optional
	Mechanism GuestResizeMechanism `json:"mechanism,omitempty"`
	// Max is the largest size (virtual CPUs, or bytes) that the running machine
	// can be changed to; its size at boot when it has no head-room.
	// +optional
	Max *resource.Quantity `json:"max,omitempty"`
	// Target is the size that the agent acts for. It is written before QEMU is
	// told anything, together with machine and with an optimistic lock on the
	// instance: the controller cuts the pod below it only after the agent has
	// changed its mind in here.
	// +optional
	Target *resource.Quantity `json:"target,omitempty"`
	// Machine is the size that QEMU has been told, whatever the guest made of it.
	// It is never below what the guest holds.
	// +optional
	Machine *resource.Quantity `json:"machine,omitempty"`
	// PodUsage is, for memory, what the pod's cgroup was charged with after the
	// agent had reclaimed page cache for a smaller limit (see PodResizeReclaim).
	// Written only when asked for.
	// +optional
	PodUsage *resource.Quantity `json:"podUsage,omitempty"`
	// Reason is the obstacle in the guest or in QEMU, empty when there is none.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message explains it and says what to do.
	// +optional
	Message string `json:"message,omitempty"`
	// Times are when each step of the present change was reached, in order.
	// +optional
	Times []ResizeTime `json:"times,omitempty"`
}

// LiveUpdateFeatures is where manifests of the peer's older releases say how far
// a machine may grow while it runs. What the template says goes first.
type LiveUpdateFeatures struct {
	// Affinity has no meaning any more.
	// +optional
	Affinity *LiveUpdateAffinity `json:"affinity,omitempty"`
	// +optional
	CPU *LiveUpdateCPU `json:"cpu,omitempty"`
	// +optional
	Memory *LiveUpdateMemory `json:"memory,omitempty"`
}

// LiveUpdateAffinity has no fields.
type LiveUpdateAffinity struct{}

// LiveUpdateCPU bounds the virtual CPUs.
type LiveUpdateCPU struct {
	// MaxSockets is spec.template.spec.domain.cpu.maxSockets.
	// +optional
	MaxSockets *int64 `json:"maxSockets,omitempty"`
}

// LiveUpdateMemory bounds the memory.
type LiveUpdateMemory struct {
	// MaxGuest is spec.template.spec.domain.memory.maxGuest.
	// +optional
	MaxGuest *resource.Quantity `json:"maxGuest,omitempty"`
}
