// SPDX-License-Identifier: Apache-2.0

// Package podnet connects a machine's network interfaces to its pod's network:
// inside the pod's network namespace it makes, for each interface, a bridge and
// a persistent tap that belongs to QEMU's user, and with the masquerade binding
// the address translation between the guest and the pod.
//
// Setup is level-triggered: it may be killed between any two steps and run
// again, also while the guest runs; it then finishes what is missing and leaves
// alone what is right. What it would otherwise forget (the pod's address and
// routes, once they have moved to the guest) is kept in the namespace itself,
// written in one transaction before anything is changed.
//
// It must never change anything outside of the given namespace, never trust
// names or addresses that the guest controls, and never wait for the guest.
// Every host that runs pods has bridges, veth, tun and nf_tables; nothing else
// is needed (no dummy, no ebtables, no external command).
package podnet
