// SPDX-License-Identifier: Apache-2.0

// Package renew decides whether a machine's QEMU can be replaced by another one
// while the guest runs, and with which command lines. Everything in it is a
// function of what was observed: it must never talk to QEMU or touch a file.
//
// What it refuses, QEMU would not: memory that is not shared, or a device that is
// left out of the new command line, costs the guest its life (QEMU's mode
// cpr-exec).
package renew
