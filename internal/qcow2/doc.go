// SPDX-License-Identifier: Apache-2.0

// Package qcow2 writes empty qcow2 files (alone or on top of a backing file) and
// judges the header of an untrusted one, so that the launcher image needs no
// qemu-img and no image can name other files of the pod.
//
// The format is QEMU's docs/interop/qcow2.txt. The package must never read or
// write guest data, and never opens a file by itself.
package qcow2
