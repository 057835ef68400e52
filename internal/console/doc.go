// SPDX-License-Identifier: Apache-2.0

// Package console moves a machine's console output: the serial log from its
// small tmpfs file to the container's standard output, where `kubectl logs`
// finds it, and the bytes of interactive sessions.
//
// It must never make QEMU, and so the guest, wait: QEMU appends to a file that
// is emptied behind it, and what a client does not take in time is dropped, not
// left in QEMU's socket. Memory is bounded whatever the guest prints, and
// nothing here interprets what it printed.
package console
