// SPDX-License-Identifier: Apache-2.0

// Package node is the node agent. For every instance whose pod is on its node it
// connects the pod's network, writes machine.json, lets the launcher start QEMU,
// then follows the machine over QMP and reports what it sees in the instance's
// status.
//
// The Reconciler does nothing but compare: it reads an instance, asks the guest
// object of that instance what it has observed, and writes what differs. The
// guest object, one goroutine per machine with a few helpers, does everything
// that touches the pod. It keeps no files: after a restart of the agent it finds
// the machine again by the instance's status and the sockets in its pod, and a
// dead agent stops no machine.
//
// It acts only on pods that the controller wrote to status.activePods, reaches
// into them only through package podfs, and decides nothing cluster-wide. It
// must never end a machine by itself, except where an instance is deleted
// without a grace period, and never write an instance's final phase.
package node
