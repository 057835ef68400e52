// SPDX-License-Identifier: Apache-2.0

// Package resize decides how a running machine's CPUs or memory change in place.
// Next is the decision, a pure function from what is wanted and what each party
// has to the one step that comes next, for CPU and memory apart. Two processes
// call it, each with what it sees, and each carries out only the steps that it
// owns: the controller alone changes the pod, the node agent alone tells QEMU.
//
// # The rules that make it safe
//
// The pod always covers what the guest holds and what the agent may still plug.
// Both parties write into the same object, the VirtualMachineInstance, under an
// optimistic lock, so that each knows what the other knew:
//
//   - The controller publishes each step (Said) before it changes the pod, and
//     looks once more that the instance has not changed since.
//   - The agent grows the machine to a size only while what was published is about
//     that very size, and either says that the kubelet has granted it or the pod's
//     cgroup proves that.
//   - The agent announces the size that it acts for, together with what QEMU has
//     been told, before it tells QEMU anything. The controller never cuts the pod
//     below what is announced, told or held.
//
// So growing is pod first and shrinking is guest first, a newer wish supersedes
// an older one at any point and in both directions, and either process may die
// between any two steps. The tests explore every order of events on small sizes.
//
// It must never do I/O and knows no clock.
package resize
