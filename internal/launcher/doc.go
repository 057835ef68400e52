// SPDX-License-Identifier: Apache-2.0

// Package launcher is the program that a machine's container starts with. `run`
// waits for the node agent, makes the disks' files, opens the taps and becomes
// QEMU (same process); `shutdown` is the pod's preStop hook and asks the guest to
// power off.
//
// It runs as QEMU's user without capabilities, holds no credentials and is
// imported by nothing but its command, so that it stays small: no Kubernetes
// client, not even package net. What it does with untrusted images is to read
// their headers; it must never mount, convert or copy one.
package launcher
