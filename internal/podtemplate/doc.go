// SPDX-License-Identifier: Apache-2.0

// Package podtemplate makes the pod of a VirtualMachineInstance: Render is a
// function from the instance's spec to the pod, without I/O, so that the pod of
// every spec can be kept as a golden file.
//
// It must never read the cluster, and it never leaves a part of the spec out in
// silence: what it does not know it refuses by the field's path, even though
// admission has normally refused it before.
package podtemplate
