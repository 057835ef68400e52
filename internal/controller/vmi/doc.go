// SPDX-License-Identifier: Apache-2.0

// Package vmi is the controller of VirtualMachineInstances: it gives each one
// pod, hands the pod to the agent of the node that it was bound to, and says in
// the end how the machine ended.
//
// Next is the whole decision, a pure function from what was read to a Plan; the
// Reconciler reads, calls it and carries the plan out. Every write may be the
// last one before a crash: the next pass starts from what the API server has.
//
// It writes the phases Pending, Scheduling, Scheduled, Succeeded and Failed, the
// conditions Ready and PodScheduled, the condition Synchronized while the pod
// does not run, and the fields of status that come from the pod. Everything
// else in status is the node agent's; it must never touch a node or a guest.
package vmi
