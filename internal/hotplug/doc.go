// SPDX-License-Identifier: Apache-2.0

// Package hotplug plugs vCPUs and memory into one running QEMU and takes them out
// again, over QMP. It says what is there and does one step at a time: every call
// returns once QEMU has accepted the step, not when the guest has followed, so
// that whoever calls it can be killed at any moment, look again and go on.
//
// It must never decide how much a machine should have, and never keep anything of
// its own: what has to outlive its caller is in QEMU.
//
// Source: QEMU's qapi/machine.json, qapi/qdev.json, qapi/acpi.json and
// docs/interop/virtio-balloon-stats.rst.
package hotplug

import (
	"context"
)

// Monitor is what is needed of a QMP session; *qmp.Client is one.
type Monitor interface {
	Execute(ctx context.Context, command string, args, result any) error
}

// args are a command's arguments.
type args = map[string]any
