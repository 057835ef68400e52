// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// Run states of query-status that the agent acts on. There are more.
const (
	StateRunning       = "running"
	StatePaused        = "paused"
	StatePrelaunch     = "prelaunch"
	StateShutdown      = "shutdown"
	StateSuspended     = "suspended"
	StateIOError       = "io-error"
	StateInternalError = "internal-error"
	StateGuestPanicked = "guest-panicked"
	StateInMigrate     = "inmigrate"
	StatePostMigrate   = "postmigrate"
	StateFinishMigrate = "finish-migrate"
	StateWatchdog      = "watchdog"
)

// Events that the agent acts on.
const (
	EventShutdown      = "SHUTDOWN"
	EventPowerdown     = "POWERDOWN"
	EventReset         = "RESET"
	EventStop          = "STOP"
	EventResume        = "RESUME"
	EventSuspend       = "SUSPEND"
	EventWakeup        = "WAKEUP"
	EventGuestPanicked = "GUEST_PANICKED"
	EventBlockIOError  = "BLOCK_IO_ERROR"
	EventVserport      = "VSERPORT_CHANGE"
)

// Status is the result of query-status.
type Status struct {
	Running bool   `json:"running"`
	Status  string `json:"status"`
}

// QueryStatus asks whether the guest runs.
func (c *Client) QueryStatus(ctx context.Context) (Status, error) {
	var s Status
	err := c.Execute(ctx, "query-status", nil, &s)
	s.Status = clip(s.Status, maxEventName)
	return s, err
}

// QueryVersion asks for QEMU's version.
func (c *Client) QueryVersion(ctx context.Context) (Version, error) {
	var v Version
	err := c.Execute(ctx, "query-version", nil, &v)
	v.Package = clip(v.Package, maxEventName)
	return v, err
}

// Stop halts the guest's CPUs. Stopping a stopped guest is no error.
func (c *Client) Stop(ctx context.Context) error { return c.Execute(ctx, "stop", nil, nil) }

// Cont lets the guest's CPUs run again.
func (c *Client) Cont(ctx context.Context) error { return c.Execute(ctx, "cont", nil, nil) }

// SystemPowerdown presses the guest's ACPI power button.
func (c *Client) SystemPowerdown(ctx context.Context) error {
	return c.Execute(ctx, "system_powerdown", nil, nil)
}

// SystemReset presses the guest's reset button.
func (c *Client) SystemReset(ctx context.Context) error {
	return c.Execute(ctx, "system_reset", nil, nil)
}

// Quit ends QEMU at once: to the guest it is a power cut.
func (c *Client) Quit(ctx context.Context) error { return c.Execute(ctx, "quit", nil, nil) }

// Chardev is one entry of query-chardev.
type Chardev struct {
	Label    string `json:"label"`
	Filename string `json:"filename"`
	// FrontendOpen tells whether the guest's side is open: for the guest agent's
	// port, whether an agent listens.
	FrontendOpen bool `json:"frontend-open"`
}

// QueryChardev lists the character devices.
func (c *Client) QueryChardev(ctx context.Context) ([]Chardev, error) {
	var l []Chardev
	err := c.Execute(ctx, "query-chardev", nil, &l)
	return l, err
}

// CPU is one entry of query-cpus-fast.
type CPU struct {
	Index    int    `json:"cpu-index"`
	QOMPath  string `json:"qom-path"`
	ThreadID int    `json:"thread-id"` // in QEMU's own PID namespace
}

// QueryCPUsFast lists the virtual CPUs without disturbing them.
func (c *Client) QueryCPUsFast(ctx context.Context) ([]CPU, error) {
	var l []CPU
	err := c.Execute(ctx, "query-cpus-fast", nil, &l)
	return l, err
}

// MemorySize is the result of query-memory-size-summary, in bytes.
type MemorySize struct {
	Base    uint64 `json:"base-memory"`
	Plugged uint64 `json:"plugged-memory"`
}

// QueryMemorySize asks how much memory the guest has.
func (c *Client) QueryMemorySize(ctx context.Context) (MemorySize, error) {
	var m MemorySize
	err := c.Execute(ctx, "query-memory-size-summary", nil, &m)
	return m, err
}

// KVM is the result of query-kvm.
type KVM struct {
	Enabled bool `json:"enabled"`
	Present bool `json:"present"`
}

// QueryKVM asks whether the guest runs on KVM.
func (c *Client) QueryKVM(ctx context.Context) (KVM, error) {
	var k KVM
	err := c.Execute(ctx, "query-kvm", nil, &k)
	return k, err
}

// Screendump has QEMU write a picture of the primary display to file in dir,
// both as QEMU sees them. file is a plain name: the caller reads it back from
// the directory that it knows.
func (c *Client) Screendump(ctx context.Context, dir, file string) error {
	if file == "" || strings.ContainsRune(file, '/') || file == "." || file == ".." {
		return fmt.Errorf("screendump: %q is not a plain file name", file)
	}
	return c.Execute(ctx, "screendump", map[string]any{
		"filename": path.Join(dir, file),
		"format":   "png",
	}, nil)
}
