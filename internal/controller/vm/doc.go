// SPDX-License-Identifier: Apache-2.0

// Package vm is the controller of VirtualMachines: it keeps or ends the
// VirtualMachineInstance of each one as its run strategy and the pending
// requests say, and sums up in its status how it goes.
//
// Next is the whole decision, a pure function from what was read to a Plan; the
// Reconciler reads, calls it and carries the plan out. Every write may be the
// last one before a crash.
//
// It owns the machine's status but for stateChangeRequests, which the power
// verbs add and it removes. It must never take over an instance that another
// owner made, and never look at pods or nodes.
package vm
