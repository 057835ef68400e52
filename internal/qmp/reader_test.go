// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 40000)
	in := "\r\n\n{\"a\":1}\r\n" + long + "\nlast without end"
	l := newLineReader(strings.NewReader(in), 50000)
	for _, want := range []string{`{"a":1}`, long} {
		got, err := l.next()
		if err != nil || string(got) != want {
			t.Fatalf("got %.20q, %v, want %.20q", got, err, want)
		}
	}
	if got, err := l.next(); !errors.Is(err, io.EOF) {
		t.Errorf("an unfinished line was returned: %q, %v", got, err)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	l := newLimiter(10)
	now := time.Unix(100, 0)
	for i := range 10 {
		if w := l.take(now, 200); w != 0 {
			t.Fatalf("line %d of the burst waits %v", i, w)
		}
	}
	if w := l.take(now, 200); w != 100*time.Millisecond {
		t.Errorf("the line after the burst waits %v", w)
	}
	if w := l.take(now.Add(time.Hour), 200); w != 0 {
		t.Errorf("after a quiet hour: %v", w)
	}
	// Long lines count for several: 1 MiB/s is not 10 MiB/s.
	if w := l.take(now.Add(2*time.Hour), 1<<20); w < 20*time.Second {
		t.Errorf("a line of a mebibyte waits %v", w)
	}
}

// Whatever comes, the reader ends or returns something within its limits.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		`{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": ""}, "capabilities": ["oob"]}}` + "\r\n",
		`{"return": {}, "id": 1}` + "\n", `{"return": null}` + "\n",
		`{"error": {"class": "GenericError", "desc": "x"}, "id": 2}` + "\n",
		`{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\n",
		`{"event": "VSERPORT_CHANGE", "data": {"id": [1], "open": true}, "timestamp": {"seconds": -1, "microseconds": -1}}` + "\n",
		"\n\n\r\n", "null\n", strings.Repeat("[", 2000) + "\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 4096
		l := newLineReader(bytes.NewReader(in), limit)
		q := newEventQueue(4)
		for {
			line, err := l.next()
			if err != nil {
				break
			}
			if len(line) > limit || len(line) == 0 || bytes.IndexByte(line, '\n') >= 0 {
				t.Fatalf("line of %d bytes", len(line))
			}
			m, err := parse(line)
			if err != nil {
				var pe *ProtocolError
				if !errors.As(err, &pe) {
					t.Fatalf("untyped error %v", err)
				}
				continue
			}
			if m.Event != "" {
				q.push(m.event())
			}
			if m.Error != nil && (len(m.Error.Desc) > maxErrorText+8 || len(m.Error.Class) > maxEventName+8) {
				t.Fatal("unbounded error text")
			}
		}
		if len(q.items) > 4 {
			t.Fatalf("queue of %d", len(q.items))
		}
	})
}
