// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sink is an output that can be stalled, broken or slow to open.
type sink struct {
	mu      sync.Mutex
	cond    *sync.Cond
	buf     bytes.Buffer
	room    int // how many bytes it takes; -1 any
	err     error
	closed  int
	changed chan struct{}
}

func newSink(room int) *sink {
	s := &sink{room: room, changed: make(chan struct{}, 1)}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}()
	if s.err != nil {
		return 0, s.err
	}
	n := len(b)
	if s.room >= 0 && n > s.room {
		n = s.room
	}
	if s.room >= 0 {
		s.room -= n
	}
	s.buf.Write(b[:n])
	if n < len(b) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *sink) set(room int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room, s.err = room, err
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// until waits for the sink to hold what ok wants.
func (s *sink) until(t *testing.T, ok func(string) bool) {
	t.Helper()
	for !ok(s.String()) {
		select {
		case <-s.changed:
		case <-t.Context().Done():
			t.Fatal("the test was cancelled")
		}
	}
}

type fixture struct {
	w      *os.File
	log    *Log
	out    *sink
	exited chan struct{}
	grown  chan struct{}
	errs   chan error
	first  chan time.Time
}

func logFile(t *testing.T) string {
	t.Helper()
	// The real one is on tmpfs.
	dir, err := os.MkdirTemp("/dev/shm", "skerry-console-")
	if err != nil {
		dir = t.TempDir()
	} else {
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	return filepath.Join(dir, "console.log")
}

func openBoth(t *testing.T, path string) (w, rw *os.File) {
	t.Helper()
	w, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	rw, err = os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rw.Close() })
	return w, rw
}

func start(t *testing.T, path string, out *sink) *fixture {
	t.Helper()
	f := &fixture{out: out, exited: make(chan struct{}), grown: make(chan struct{}, 1), errs: make(chan error, 1), first: make(chan time.Time, 4)}
	var rw *os.File
	f.w, rw = openBoth(t, path)
	f.log = &Log{
		File: rw, Open: func() (Output, error) { return out, nil }, Grown: f.grown, Exited: f.exited,
		FirstByte: func(at time.Time) { f.first <- at },
		Poll:      5 * time.Millisecond, Pause: time.Millisecond, FlushLimit: 10 * time.Second,
	}
	return f
}

func (f *fixture) run(t *testing.T, ctx context.Context) { go func() { f.errs <- f.log.Copy(ctx) }() }

func (f *fixture) print(t *testing.T, s string) {
	t.Helper()
	if _, err := f.w.WriteString(s); err != nil {
		t.Fatal(err)
	}
	select {
	case f.grown <- struct{}{}:
	default:
	}
}

func (f *fixture) end(t *testing.T) error {
	t.Helper()
	close(f.exited)
	return <-f.errs
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestCopyAndFree(t *testing.T) {
	t.Parallel()
	path := logFile(t)
	f := start(t, path, newSink(-1))
	f.run(t, t.Context())
	var want strings.Builder
	for i := range 2000 {
		line := fmt.Sprintf("[    0.%06d] line %d\n", i, i)
		want.WriteString(line)
		f.print(t, line)
	}
	f.out.until(t, func(s string) bool { return len(s) >= want.Len() })
	f.print(t, "reboot: Power down\n")
	want.WriteString("reboot: Power down\n")
	if err := f.end(t); err != nil {
		t.Fatal(err)
	}
	if f.out.String() != want.String() {
		t.Errorf("copied %d bytes, want %d", len(f.out.String()), want.Len())
	}
	if b := blocks(t, path); b > 2*int64(os.Getpagesize()) {
		t.Errorf("%d bytes are still held by the file", b)
	}
	if f.out.closed != 1 {
		t.Errorf("the pipe was closed %d times", f.out.closed)
	}
	if len(f.first) != 1 {
		t.Errorf("the first byte was reported %d times", len(f.first))
	}
	if got, all := string(f.log.Last), want.String(); got != all[len(all)-TailSize:] {
		t.Errorf("its end is remembered as %d bytes %q", len(got), got)
	}
}

// While QEMU appends with all its might, nothing is lost, doubled or zeroed.
func TestNoRaceWithAppends(t *testing.T) {
	t.Parallel()
	path := logFile(t)
	f := start(t, path, newSink(-1))
	f.log.Pause = time.Microsecond
	f.log.MaxBacklog = 1 << 30
	f.run(t, t.Context())
	const n = 30000
	for i := range n {
		if _, err := fmt.Fprintf(f.w, "%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.end(t); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(f.out.String(), "\n"), "\n")
	if len(lines) != n {
		t.Fatalf("%d lines, want %d", len(lines), n)
	}
	for i, l := range lines {
		if l != fmt.Sprint(i) {
			t.Fatalf("line %d is %.40q", i, l)
		}
	}
}

// Another copier goes on exactly where the first one stopped.
func TestRestart(t *testing.T) {
	t.Parallel()
	path := logFile(t)
	out := newSink(-1)
	var want strings.Builder
	for round := range 5 {
		f := start(t, path, out)
		ctx, cancel := context.WithCancel(t.Context())
		f.run(t, ctx)
		for i := range 300 {
			line := fmt.Sprintf("round %d line %d\n", round, i)
			want.WriteString(line)
			f.print(t, line)
		}
		out.until(t, func(s string) bool { return len(s) >= want.Len() })
		cancel()
		if err := <-f.errs; err != nil {
			t.Fatal(err)
		}
		if wantFirst := round == 0; (len(f.first) == 1) != wantFirst {
			t.Errorf("round %d: first byte reported %d times", round, len(f.first))
		}
	}
	if out.String() != want.String() {
		t.Errorf("copied %d bytes, want %d", len(out.String()), want.Len())
	}
}

// A stalled pipe keeps the newest output and says how much is missing.
func TestStalledPipeKeepsTheTail(t *testing.T) {
	t.Parallel()
	path := logFile(t)
	out := newSink(100)
	f := start(t, path, out)
	f.log.MaxBacklog = 16 << 10
	f.run(t, t.Context())
	for i := range 20000 {
		f.print(t, fmt.Sprintf("line %d\n", i))
	}
	f.print(t, "newest\n")
	out.until(t, func(s string) bool { return len(s) == 100 })
	// The backlog shrinks without anybody reading.
	for blocks(t, path) > 32<<10 {
		<-out.changed
	}
	out.set(-1, nil)
	if err := f.end(t); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.HasSuffix(got, "newest\n") || !strings.Contains(got, "bytes of the console's output are missing here") || len(got) > 32<<10 { // a chunk that was kept, and a backlog that may wait
		t.Errorf("%d bytes, %.300q … %q", len(got), got, got[max(0, len(got)-30):])
	}
	after := got[strings.Index(got, "in time]\n")+len("in time]\n"):]
	if !strings.HasPrefix(after, "line ") {
		t.Errorf("goes on in the middle of a line: %.40q", after)
	}
}

// A pipe that is never read must not hold up the container's end.
func TestFlushGivesUp(t *testing.T) {
	t.Parallel()
	f := start(t, logFile(t), newSink(0))
	f.log.FlushLimit = time.Millisecond
	f.print(t, "x\n")
	f.run(t, t.Context())
	if err := f.end(t); err != nil {
		t.Fatal(err)
	}
	if f.out.closed != 1 {
		t.Error("the pipe stays open")
	}
}

func TestReaderGone(t *testing.T) {
	t.Parallel()
	path := logFile(t)
	out := newSink(-1)
	out.set(-1, unix.EPIPE)
	f := start(t, path, out)
	f.run(t, t.Context())
	f.print(t, strings.Repeat("x", 20000))
	// The file is emptied all the same.
	for blocks(t, path) > int64(os.Getpagesize()) {
		select {
		case <-out.changed:
		case <-time.After(time.Millisecond):
		}
	}
	if err := f.end(t); !errors.Is(err, ErrNoOutput) || !errors.Is(err, unix.EPIPE) {
		t.Errorf("err = %v", err)
	}
}

func TestOutputCannotBeOpened(t *testing.T) {
	t.Parallel()
	f := start(t, logFile(t), newSink(-1))
	boom := errors.New("not a pipe")
	f.log.Open = func() (Output, error) { return nil, boom }
	f.print(t, "x\n")
	f.run(t, t.Context())
	if err := f.end(t); !errors.Is(err, boom) || !errors.Is(err, ErrNoOutput) {
		t.Errorf("err = %v", err)
	}
}

// A pod can make its log a file of a terabyte without a byte in it, or cut it.
func TestHostileFile(t *testing.T) {
	t.Parallel()
	path := logFile(t)
	out := newSink(-1)
	f := start(t, path, out)
	f.print(t, "before\n")
	f.run(t, t.Context())
	out.until(t, func(s string) bool { return s == "before\n" })
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	f.print(t, "after\n")
	out.until(t, func(s string) bool { return strings.HasSuffix(s, "after\n") })
	if n := len(out.String()); n > 2*os.Getpagesize() {
		t.Errorf("%d bytes came out of a hole", n)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	f.print(t, "cut\n")
	out.until(t, func(s string) bool { return strings.HasSuffix(s, "cut\n") })
	if err := f.end(t); err != nil {
		t.Fatal(err)
	}
}

// With the real thing: a pipe opened without blocking that nobody reads for a while.
func TestRealPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := logFile(t)
	f := start(t, path, nil)
	f.log.Open = func() (Output, error) { return w, nil }
	f.log.Patience = time.Millisecond
	f.log.MaxBacklog = 1 << 30
	f.run(t, t.Context())
	var want strings.Builder
	for i := range 20000 { // more than the pipe holds
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		f.print(t, line)
	}
	done := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		done <- string(b)
	}()
	if err := f.end(t); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != want.String() {
		t.Errorf("read %d bytes, want %d", len(got), want.Len())
	}
}
