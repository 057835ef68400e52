// SPDX-License-Identifier: Apache-2.0

// Package machine turns a VirtualMachineInstance into a QEMU machine.
//
// New is a pure function of the instance, of what is known about the host's
// QEMU and of what the node agent attached (taps, cloud-init images). The result
// holds typed devices with stable ids, so that hot-plug can later be the
// difference of two Machines: a Device's Props are both the JSON of QEMU's
// -device option and the arguments of QMP's device_add.
//
// It must never do I/O, never read the clock, and never put a string of a user
// into QEMU's comma-separated syntax unescaped: JSON wherever QEMU 10 takes it,
// checked alphabets and doubled commas elsewhere. A field that it does not know
// how to honour is an error with the field's path, never dropped.
package machine
