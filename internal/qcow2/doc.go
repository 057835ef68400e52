// SPDX-License-Identifier: Apache-2.0

// Package qcow2 writes qcow2 files (empty ones, alone or on top of a backing file,
// and whole ones from front to end), turns a whole one that streams by into its
// disk's bytes, and judges the header of an untrusted one: so neither launcher
// image nor node agent needs qemu-img, and no image can name other files.
//
// The format is QEMU's docs/interop/qcow2.txt. The package never opens a file by
// itself but a nameless one for what a stream has to hold back.
package qcow2
