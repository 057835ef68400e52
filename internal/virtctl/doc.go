// SPDX-License-Identifier: Apache-2.0

// Package virtctl holds the commands that work on one virtual machine: console,
// vnc, start, stop, ssh … with the flags of KubeVirt's client virtctl. The same
// commands are verbs of `skerry` and the kubectl plugin `kubectl virt`; there a
// name alone means the machine of that name.
//
// They talk to an API server alone, Skerry's or that of a cluster with KubeVirt.
// What the server answers is printed as text, never run; a machine's console is
// copied to the terminal as it is, as a terminal's user expects.
package virtctl
