// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version is QEMU's version as the greeting and query-version give it.
type Version struct {
	QEMU struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
		Micro int `json:"micro"`
	} `json:"qemu"`
	Package string `json:"package"`
}

// String is upstream's version, such as "11.1.3".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.QEMU.Major, v.QEMU.Minor, v.QEMU.Micro)
}

// Event is something that happened in QEMU without having been asked for.
type Event struct {
	Name string
	Data json.RawMessage // one JSON object, or nil
	Time time.Time       // QEMU's clock; zero when it did not say
	// Coalesced counts the earlier events of the same kind that this one
	// stands for as nobody took them in time.
	Coalesced int
}

// message is any line that QEMU may send.
type message struct {
	Greeting *struct {
		Version      Version  `json:"version"`
		Capabilities []string `json:"capabilities"`
	} `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID        json.RawMessage `json:"id"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp *struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

const (
	maxEventName = 64
	maxErrorText = 1024
	// maxEventData bounds what is kept of one event. QEMU's longest, a panicked
	// guest's, are below 4 KiB.
	maxEventData = 16 << 10
	maxCaps      = 32
)

// lineReader splits the stream into lines of a bounded length.
type lineReader struct {
	r   *bufio.Reader
	max int
	buf []byte
}

func newLineReader(r io.Reader, max int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, min(4<<10, max+1)), max: max}
}

// next returns the next non-empty line without its end. The slice is valid
// until the next call.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		for len(line) > 0 && (line[len(line)-1] == '\r' || line[len(line)-1] == ' ') {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lineReader) line() ([]byte, error) {
	if cap(l.buf) > 64<<10 {
		l.buf = nil // a rare long reply must not be paid for ever after
	}
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > l.max {
			return nil, &ProtocolError{What: fmt.Sprintf("a line is longer than %d bytes", l.max)}
		}
		if err == nil && len(l.buf) == 0 {
			return part[:len(part)-1], nil
		}
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			// A last line without its end is not a message.
			return nil, err
		}
	}
}

// parse turns one line into a message and checks its shape. The result shares
// no memory with the line.
func parse(line []byte) (*message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, &ProtocolError{What: fmt.Sprintf("line %q is no QMP message", clip(string(line), 80)), Err: err}
	}
	kinds := 0
	if m.Greeting != nil {
		kinds++
		if len(m.Greeting.Capabilities) > maxCaps {
			return nil, &ProtocolError{What: fmt.Sprintf("the greeting has more than %d capabilities", maxCaps)}
		}
		m.Greeting.Version.Package = clip(m.Greeting.Version.Package, maxEventName)
	}
	if m.Return != nil {
		kinds++
	}
	if m.Error != nil {
		kinds++
		m.Error.Class = clip(m.Error.Class, maxEventName)
		m.Error.Desc = clip(m.Error.Desc, maxErrorText)
	}
	if m.Event != "" {
		kinds++
		if len(m.Event) > maxEventName {
			return nil, &ProtocolError{What: fmt.Sprintf("event name %q is longer than %d bytes", clip(m.Event, 80), maxEventName)}
		}
		if len(m.Data) > maxEventData {
			return nil, &ProtocolError{What: fmt.Sprintf("event %s has %d bytes of data, more than %d", clip(m.Event, 80), len(m.Data), maxEventData)}
		}
	}
	if kinds != 1 {
		return nil, &ProtocolError{What: fmt.Sprintf("line %q is neither a greeting, a reply nor an event", clip(string(line), 80))}
	}
	return &m, nil
}

func (m *message) event() Event {
	e := Event{Name: m.Event, Data: m.Data}
	// QEMU sends -1 when it could not read the clock.
	if t := m.Timestamp; t != nil && t.Seconds > 0 && t.Microseconds >= 0 && t.Microseconds < 1e6 {
		e.Time = time.Unix(t.Seconds, t.Microseconds*1000)
	}
	return e
}
