// SPDX-License-Identifier: Apache-2.0

// Package qmp speaks the QEMU Machine Protocol over a connection that somebody
// else opened. It numbers commands, matches replies, hands events over and ends
// cleanly when the other side does not keep to the protocol.
//
// The other side is hostile: whoever broke out of a guest may answer in QEMU's
// place. So every line, queue and wait is bounded, and what arrives faster than
// the limit is left in the socket. The package never opens a socket or a file,
// never retries a command and never panics on what it reads.
//
// Source: QEMU's docs/interop/qmp-spec.rst and its QAPI reference.
package qmp
