// SPDX-License-Identifier: Apache-2.0

// Package evm is the controller of EnhancedVirtualMachines and of the base volumes
// that their images are kept in.
//
//	image → base claim + snapshot (one per digest, storage class and volume mode)
//	      → snapshot made known in the machine's namespace → boot claim → VirtualMachine
//
// Next and NextBase are the decisions, pure functions from what was read to a plan;
// the reconcilers read, call them and carry the plans out. Every write may be the
// last one before a crash: what is made has a name that follows from what it is made
// for, so that the next pass finds it.
//
// A base is filled by a pod that has no rights and no credentials of the cluster. The
// controller learns of it from the pod's termination message and log.
//
// The package must never delete a boot volume that has content unless its machine
// says so or its retention is over, and never take one that is another machine's.
package evm
