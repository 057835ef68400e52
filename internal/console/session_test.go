// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// qemu hands out connections and keeps their other ends.
type qemu struct {
	conns chan net.Conn
	mute  atomic.Bool // nobody answers
}

func newQEMU() *qemu { return &qemu{conns: make(chan net.Conn, 16)} }

func (q *qemu) dial(context.Context) (net.Conn, error) {
	if q.mute.Load() {
		return nil, errors.New("nobody listens")
	}
	a, b := net.Pipe()
	q.conns <- b
	return a, nil
}

// say writes; whoever reads sees whether it arrived.
func say(w io.Writer, s string) { _, _ = io.WriteString(w, s) }

func TestNewerSessionTakesOver(t *testing.T) {
	t.Parallel()
	q := newQEMU()
	p := &Port{Dial: q.dial, Exclusive: true, Lossy: true}
	first, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	go say(<-q.conns, "boot\n")
	if n, err := first.Read(b); err != nil || string(b[:n]) != "boot\n" {
		t.Fatalf("read %q, %v", b[:n], err)
	}
	second, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(b); !errors.Is(err, ErrTakenOver) {
		t.Errorf("first session: %v", err)
	}
	if _, err := first.Write(b); !errors.Is(err, ErrTakenOver) {
		t.Errorf("first session: %v", err)
	}
	<-first.Done()
	if !errors.Is(first.Cause(), ErrTakenOver) {
		t.Errorf("cause = %v", first.Cause())
	}
	peer := <-q.conns
	go say(second, "ls\n")
	if n, err := peer.Read(b); err != nil || string(b[:n]) != "ls\n" {
		t.Errorf("QEMU read %q, %v", b[:n], err)
	}
	if second.Cause() != nil || p.Sessions() != 1 {
		t.Errorf("second session: %v, %d open", second.Cause(), p.Sessions())
	}
	p.End(ErrEnded)
	if _, err := second.Read(b); !errors.Is(err, ErrEnded) {
		t.Errorf("second session: %v", err)
	}
	if _, err := p.Open(t.Context()); !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
	if p.Sessions() != 0 {
		t.Errorf("%d open", p.Sessions())
	}
}

func TestSharedPort(t *testing.T) {
	t.Parallel()
	q := newQEMU()
	p := &Port{Dial: q.dial, Max: 2}
	a, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("third: %v", err)
	}
	a.Close()
	a.Close()
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("read after Close")
	}
	if _, err := p.Open(t.Context()); err != nil {
		t.Errorf("after one closed: %v", err)
	}
}

func TestQEMUEnds(t *testing.T) {
	t.Parallel()
	for _, lossy := range []bool{true, false} {
		q := newQEMU()
		p := &Port{Dial: q.dial, Exclusive: true, Lossy: lossy}
		s, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		peer := <-q.conns
		go func() { say(peer, "last words"); peer.Close() }()
		b, err := io.ReadAll(s)
		if err != nil || string(b) != "last words" {
			t.Errorf("lossy %v: read %q, %v", lossy, b, err)
		}
		<-s.Done()
		if p.Sessions() != 0 {
			t.Error("still open")
		}
	}
}

// A client that reads nothing must not keep QEMU from writing: the guest would wait.
func TestSlowClientLosesOutput(t *testing.T) {
	t.Parallel()
	q := newQEMU()
	p := &Port{Dial: q.dial, Exclusive: true, Lossy: true}
	s, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peer := <-q.conns
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 4 * backlog / len(line) {
		if _, err := peer.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = peer.Write([]byte("newest"))
	peer.Close()
	b, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > backlog+200 || !strings.HasSuffix(string(b), "newest") || !strings.Contains(string(b), "bytes are missing here") {
		t.Errorf("%d bytes, start %.90q, end %.20q", len(b), b, b[len(b)-20:])
	}
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	p := &Port{Dial: func(context.Context) (net.Conn, error) { return nil, boom }, Exclusive: true}
	if _, err := p.Open(t.Context()); !errors.Is(err, boom) {
		t.Errorf("err = %v", err)
	}
}

// QEMU was replaced: the console's client sees a pause, and nothing else.
func TestSessionOutlivesConnection(t *testing.T) {
	t.Parallel()
	q := newQEMU()
	p := &Port{Dial: q.dial, Exclusive: true, Lossy: true, Patience: time.Minute}
	s, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	read := func(want string) {
		t.Helper()
		if n, err := s.Read(b); err != nil || string(b[:n]) != want {
			t.Fatalf("read %q, %v; want %q", b[:n], err, want)
		}
	}
	peer := <-q.conns
	go say(peer, "old")
	read("old")
	for _, what := range []string{"new", "newer"} {
		peer.Close()
		// What is typed in the pause arrives.
		typed := make(chan error, 1)
		go func() {
			_, err := io.WriteString(s, what+"\n")
			typed <- err
		}()
		peer = <-q.conns
		if n, err := io.ReadFull(peer, b[:len(what)+1]); err != nil || string(b[:n]) != what+"\n" {
			t.Fatalf("QEMU read %q, %v", b[:n], err)
		}
		if err := <-typed; err != nil {
			t.Fatal(err)
		}
		go say(peer, what)
		read(what)
	}
	if p.Sessions() != 1 {
		t.Errorf("%d sessions", p.Sessions())
	}
	// The machine ends: first its connection, then the word of it.
	q.mute.Store(true)
	peer.Close()
	for {
		s.mu.Lock()
		away := s.back != nil
		s.mu.Unlock()
		if away {
			break
		}
	}
	p.End(ErrEnded)
	if n, err := s.Read(b); err != io.EOF {
		t.Errorf("read %q, %v; want the end", b[:n], err)
	}
	if _, err := s.Write(b); err != io.EOF {
		t.Errorf("write: %v", err)
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	q := newQEMU()
	p := &Port{Dial: q.dial, Exclusive: true, Lossy: true, Patience: time.Millisecond}
	s, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q.mute.Store(true)
	peer := <-q.conns
	peer.Close()
	if b, err := io.ReadAll(s); err != nil || len(b) > 0 {
		t.Errorf("read %q, %v", b, err)
	}
	<-s.Done()
}
