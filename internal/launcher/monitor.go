// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A connection that QEMU leaves behind ends in one of these.
var errReset, errPipe error = unix.ECONNRESET, unix.EPIPE

// maxMessage bounds a line of QMP in bytes.
const maxMessage = 64 << 10

// monitor is the little of QMP that a shutdown needs.
type monitor struct {
	f        *os.File
	patience time.Duration // for an answer
	// pending has been read but is not a whole line yet: a deadline may come in
	// the middle of one.
	pending []byte
}

type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// dialMonitor connects and negotiates. A monitor that serves somebody else, or of a
// QEMU that just starts, does not greet in time.
func dialMonitor(path string, patience time.Duration) (*monitor, error) {
	f, err := dialUnix(path)
	if err != nil {
		return nil, err
	}
	m := &monitor{f: f, patience: patience}
	fail := func(err error) (*monitor, error) {
		m.close()
		return nil, fmt.Errorf("QMP: %w", err)
	}
	if err := m.hurry(); err != nil {
		return fail(err)
	}
	greeting, err := m.read()
	if err != nil {
		return fail(err)
	}
	if greeting.QMP == nil {
		return fail(errors.New("no greeting"))
	}
	if _, err := m.execute("qmp_capabilities", nil); err != nil {
		return fail(err)
	}
	return m, nil
}

// hurry gives the next answers as long as QEMU may take.
func (m *monitor) hurry() error { return m.f.SetDeadline(time.Now().Add(m.patience)) }

func (m *monitor) close() { _ = m.f.Close() }

func (m *monitor) read() (message, error) {
	var msg message
	for {
		if line, rest, whole := bytes.Cut(m.pending, []byte("\n")); whole {
			m.pending = rest
			if err := json.Unmarshal(line, &msg); err != nil {
				return msg, fmt.Errorf("decode message: %w", err)
			}
			return msg, nil
		}
		if len(m.pending) > maxMessage {
			return msg, fmt.Errorf("a message is longer than %d bytes", maxMessage)
		}
		buf := make([]byte, 4096)
		n, err := m.f.Read(buf)
		m.pending = append(m.pending, buf[:n]...)
		if err != nil {
			return msg, err
		}
	}
}

// execute runs a command without arguments; events that come before its answer go
// to seen.
func (m *monitor) execute(command string, seen func(event string)) (json.RawMessage, error) {
	if _, err := fmt.Fprintf(m.f, "{\"execute\":%q}\n", command); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	for {
		msg, err := m.read()
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", command, err)
		case msg.Event != "":
			if seen != nil {
				seen(msg.Event)
			}
		case msg.Error != nil:
			return nil, fmt.Errorf("%s: %s: %s", command, msg.Error.Class, msg.Error.Desc)
		default:
			return msg.Return, nil
		}
	}
}

// powerOff presses the power button until the guest obeys, and at the deadline
// pulls the plug. It returns nil when QEMU closes the connection.
func (m *monitor) powerOff(deadline time.Time) error {
	if err := m.hurry(); err != nil {
		return err
	}
	obeys := false
	seen := func(event string) { obeys = obeys || event == "SHUTDOWN" }
	status, err := m.status(seen)
	if err != nil {
		return closed(err)
	}
	switch status {
	case "prelaunch": // the guest has not run a single instruction
		deadline = time.Time{}
	case "paused":
		// A paused guest hears no button. Somebody deletes the machine all the same,
		// so its file systems are worth more than its standstill.
		if time.Now().Before(deadline) {
			if _, err := m.execute("cont", seen); err != nil {
				return closed(err)
			}
		}
	}
	for time.Now().Before(deadline) {
		if !obeys {
			if err := m.hurry(); err != nil {
				return err
			}
			if _, err := m.execute("system_powerdown", seen); err != nil {
				return closed(err)
			}
		}
		if err := m.events(earlier(deadline, time.Now().Add(powerdownEvery)), seen); err != nil {
			return closed(err)
		}
	}
	if err := m.hurry(); err != nil {
		return err
	}
	if _, err := m.execute("quit", nil); err != nil {
		return closed(err)
	}
	return closed(m.events(time.Now().Add(m.patience), seen))
}

// status is QEMU's run state.
func (m *monitor) status(seen func(string)) (string, error) {
	answer, err := m.execute("query-status", seen)
	if err != nil {
		return "", err
	}
	var s struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(answer, &s); err != nil {
		return "", fmt.Errorf("query-status: %w", err)
	}
	return s.Status, nil
}

// events reads until the time comes, which is no error.
func (m *monitor) events(until time.Time, seen func(string)) error {
	if err := m.f.SetDeadline(until); err != nil {
		return err
	}
	for {
		msg, err := m.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if msg.Event != "" {
			seen(msg.Event)
		}
	}
}

// closed makes nil of the end of the connection, which is what is waited for.
func closed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, errReset) || errors.Is(err, errPipe) {
		return nil
	}
	return err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
