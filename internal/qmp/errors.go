// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"errors"
	"fmt"
)

// Error classes of the protocol. QEMU uses GenericError for nearly everything;
// its text is for people and is not stable.
const (
	ClassGeneric         = "GenericError"
	ClassCommandNotFound = "CommandNotFound"
	ClassDeviceNotActive = "DeviceNotActive"
	ClassDeviceNotFound  = "DeviceNotFound"
	ClassKVMMissingCap   = "KVMMissingCap"
)

// ErrClosed is wrapped by every error that is due to the end of the connection,
// whichever side ended it. The command may or may not have been carried out.
var ErrClosed = errors.New("the QMP connection is closed")

// ErrBusy is returned when the monitor has not answered so many commands that
// another one would only wait behind them.
var ErrBusy = errors.New("the monitor has not answered earlier commands")

// CommandError is QEMU's refusal of a command.
type CommandError struct {
	Command string
	Class   string
	Desc    string
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("QMP %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// IsClass tells whether err is a refusal of that class.
func IsClass(err error, class string) bool {
	var ce *CommandError
	return errors.As(err, &ce) && ce.Class == class
}

// ProtocolError says in what way the other side broke the protocol. The
// connection is closed afterwards.
type ProtocolError struct {
	What string
	Err  error
}

func (e *ProtocolError) Error() string {
	if e.Err != nil {
		return "QMP protocol error: " + e.What + ": " + e.Err.Error()
	}
	return "QMP protocol error: " + e.What
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// closedError carries the reason of the end and matches ErrClosed.
type closedError struct{ reason error }

func (e *closedError) Error() string {
	if e.reason == nil {
		return ErrClosed.Error()
	}
	return ErrClosed.Error() + ": " + e.reason.Error()
}

func (e *closedError) Is(target error) bool { return target == ErrClosed }
func (e *closedError) Unwrap() error        { return e.reason }

// clip shortens text of the other side before it goes into errors and logs.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
