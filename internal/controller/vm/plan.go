// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Input is what a decision is made from.
type Input struct {
	VM *v1.VirtualMachine
	// VMI is the instance of that name, whoever's it is; nil when there is none.
	VMI *v1.VirtualMachineInstance
	// Live says that both were read from the API server just now, not from a
	// cache. Only then is a missing instance known to be missing, and a request
	// or strategy known to be still unanswered.
	Live bool
	Now  time.Time
	// ResizePolicy is the cluster's, "" for InPlace.
	ResizePolicy v1.ResizePolicy
}

// Plan is what is to be done, in the order of the fields.
type Plan struct {
	// Confirm asks for the decision to be made again with live objects.
	// Nothing else in the plan is set.
	Confirm bool
	// VM is the machine as it should be. Its metadata and spec are written
	// first when they differ.
	VM *v1.VirtualMachine
	// Create is the instance to create. The status is written only when that
	// fails (see CreateFailed): the new instance brings the next pass.
	Create *v1.VirtualMachineInstance
	// The status of VM is written when it differs.

	// Resize is a change of the running instance's sizes, made after the status
	// was written.
	Resize *LiveChange
	// Delete is the instance to delete, after the status was written.
	Delete *Deletion
	Events []Event
	// After asks for another pass then, 0 for none.
	After time.Duration
}

// Deletion is an instance to delete.
type Deletion struct {
	Name string
	UID  types.UID
}

// Event is an Event about the machine.
type Event struct {
	Type, Reason, Note string
}

// Reasons in conditions and Events.
const (
	ReasonVMINotExists        = "VMINotExists"
	ReasonVMIConditionMissing = "VMIConditionMissing"
	ReasonGuestNotRunning     = "GuestNotRunning"
	ReasonVMITerminating      = "VMITerminating"
	ReasonFailedCreate        = "FailedCreate"
	ReasonFailedDelete        = "FailedDelete"
	ReasonTemplateChanged     = "TemplateChanged"   // something that cannot change while it runs
	ReasonResizeNotPossible   = "ResizeNotPossible" // it can, but not to that
	ReasonResizePolicy        = "ResizePolicy"      // the machine is not to be changed while it runs

	EventCreated = "SuccessfulCreate"
	EventDeleted = "SuccessfulDelete"
	EventResize  = "Resize"
)

// TemplateAnnotation is on an instance and has the hash of the template's spec
// that it was made from: whether the machine's template has changed since then
// cannot be seen in the instance's spec, into which admission writes defaults.
const TemplateAnnotation = "skerry.dev/template-hash"
