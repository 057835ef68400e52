// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
)

// Reasons of Synchronized=False, by the step that failed.
const (
	problemNetwork   = "NetworkNotReady"
	problemCloudInit = "CloudInitFailed"
	problemSpec      = "MachineInvalid"
	problemLauncher  = "LauncherFailed"
	problemVolume    = "VolumeNotReady"
	problemRefused   = "LauncherRefused"
	problemMonitor   = "MonitorLost"
)

// Reasons of Events.
const (
	eventCreated      = "Created"
	eventStarted      = "Started"
	eventShuttingDown = "ShuttingDown"
	eventStopped      = "Stopped"
	eventPaused       = "Paused"
	eventUnpaused     = "Unpaused"
	eventSyncFailed   = "SyncFailed"
)

// errEnded means that the pod's process has ended; the controller draws the
// conclusion from the pod.
var errEnded = errors.New("the process in the pod has ended")

// errDeleting means that the instance is being deleted, so nothing is started.
var errDeleting = errors.New("the instance is being deleted")

// stepError says which step failed, and so which reason is reported.
type stepError struct {
	reason string
	err    error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func failed(reason, format string, args ...any) error {
	return &stepError{reason, fmt.Errorf(format, args...)}
}

// toProblem is what is reported of an error; nil for those that are no problem.
func toProblem(err error) *problem {
	if err == nil || errors.Is(err, errEnded) || errors.Is(err, errDeleting) {
		return nil
	}
	p := &problem{reason: problemLauncher, message: printable(err.Error())}
	var step *stepError
	if errors.As(err, &step) {
		p.reason = step.reason
	}
	switch p.reason {
	case problemNetwork:
		p.message += "; it is tried again; if it stays so, look at the network of the pod and the node agent's log"
	case problemSpec:
		p.message += "; correct the field, and start the machine anew"
	case problemCloudInit:
		p.message += "; it is tried again: correct the Secret or the field"
	case problemLauncher:
		p.message += "; it is tried again; if it stays so, see kubectl logs of the pod and the node agent's log"
	case problemVolume:
		p.message += "; it is tried again; if it stays so, look at the claim (kubectl describe pvc) and the controller's log"
	case problemRefused:
		p.message = "the launcher refused to start the machine: " + p.message
	case problemMonitor:
		p.message += "; the machine runs on, but cannot be observed, paused or reset: see the node agent's log"
	}
	p.message = printable(p.message)
	return p
}
