// SPDX-License-Identifier: Apache-2.0

// Package hostinfo finds out what the host can do, so that nobody has to say
// so: whether KVM runs guests, which cgroups there are, which devices and
// modules, which privileges are missing. Detect reads a Source and has no other
// input, so every host that Skerry has met is a table row in its test.
//
// `skerry status`, the node's condition and the configuration of containerd and
// the kubelet are all made from the same Info. The package must never change
// the host: it loads no module and writes no file.
package hostinfo
