// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Why a session ended.
var (
	ErrTakenOver = errors.New("another client has opened this console")
	ErrEnded     = errors.New("the machine has ended")
	ErrFull      = errors.New("too many sessions are open")
)

// Port is one socket of a machine to which clients are connected: the serial
// console or VNC.
type Port struct {
	// Dial connects to QEMU.
	Dial func(ctx context.Context) (net.Conn, error)
	// Exclusive is for a socket that serves one client: a new session takes the
	// place of the old one. Otherwise up to Max sessions stand side by side.
	Exclusive bool
	Max       int
	// Lossy takes everything from QEMU at once and drops what the client does
	// not take in time: the guest waits for a serial port's reader. Without it
	// the bytes wait in the socket; QEMU bounds what it queues for VNC by itself.
	Lossy bool
	// Patience is how long a session of a Lossy port outlives QEMU's end of the
	// connection: QEMU may be replaced under its guest, and serves the socket anew
	// then. What the guest writes meanwhile is in its log only. 0: not at all.
	Patience time.Duration

	mu       sync.Mutex
	ended    error
	sessions map[*Session]struct{}
}

// Session is one client's connection to a port. Read and Write may be used at
// the same time; Close ends both.
type Session struct {
	port  *Port
	in    *ring // nil: read from conn
	gone  chan struct{}
	once  sync.Once
	cause error

	mu   sync.Mutex
	conn net.Conn
	// back is closed when there is a connection again; nil while there is one.
	back chan struct{}
}

// Open connects a new client. With an Exclusive port the previous session is
// ended with ErrTakenOver first.
func (p *Port) Open(ctx context.Context) (*Session, error) {
	old, err := p.admit()
	if err != nil {
		return nil, err
	}
	for _, s := range old {
		s.end(ErrTakenOver)
	}
	conn, err := p.Dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &Session{port: p, conn: conn, gone: make(chan struct{})}
	if p.Lossy {
		s.in = newRing(backlog)
	}
	p.mu.Lock()
	if p.ended != nil || (p.Exclusive && len(p.sessions) > 0) || (!p.Exclusive && len(p.sessions) >= p.Max) {
		// Somebody was quicker, or the machine has ended meanwhile.
		err := p.ended
		if err == nil && p.Exclusive {
			err = ErrTakenOver
		} else if err == nil {
			err = fmt.Errorf("%w (%d)", ErrFull, p.Max)
		}
		p.mu.Unlock()
		conn.Close()
		return nil, err
	}
	if p.sessions == nil {
		p.sessions = map[*Session]struct{}{}
	}
	p.sessions[s] = struct{}{}
	p.mu.Unlock()
	if s.in != nil {
		go s.fill()
	}
	return s, nil
}

func (p *Port) admit() (old []*Session, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended != nil:
		return nil, p.ended
	case p.Exclusive:
		for s := range p.sessions {
			old = append(old, s)
		}
	case len(p.sessions) >= p.Max:
		return nil, fmt.Errorf("%w (%d)", ErrFull, p.Max)
	}
	return old, nil
}

// End ends all sessions and refuses new ones.
func (p *Port) End(cause error) {
	p.mu.Lock()
	if p.ended == nil {
		p.ended = cause
	}
	open := make([]*Session, 0, len(p.sessions))
	for s := range p.sessions {
		open = append(open, s)
	}
	p.mu.Unlock()
	for _, s := range open {
		s.end(cause)
	}
}

// Sessions is the number of open sessions.
func (p *Port) Sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions)
}

func (s *Session) end(cause error) {
	s.once.Do(func() {
		s.mu.Lock()
		conn := s.conn
		if s.back != nil && errors.Is(cause, ErrEnded) {
			cause = io.EOF // it was QEMU's end that was waited on
		}
		s.mu.Unlock()
		s.cause = cause
		s.port.mu.Lock()
		delete(s.port.sessions, s)
		s.port.mu.Unlock()
		conn.Close()
		if s.in != nil {
			s.in.close(cause)
		}
		close(s.gone)
	})
}

// Close ends the session.
func (s *Session) Close() error {
	s.end(net.ErrClosed)
	return nil
}

// Done is closed when the session has ended; Cause then says why.
func (s *Session) Done() <-chan struct{} { return s.gone }

// Cause is why the session ended: io.EOF when QEMU ended it.
func (s *Session) Cause() error {
	select {
	case <-s.gone:
		return s.cause
	default:
		return nil
	}
}

// Read reads what QEMU sent. After the end it returns what is left and then
// io.EOF, or the reason why the session was ended from this side.
func (s *Session) Read(b []byte) (int, error) {
	if s.in != nil {
		return s.in.read(b)
	}
	n, err := s.conn.Read(b)
	if err != nil {
		s.end(err)
		err = s.cause
	}
	return n, err
}

// Write sends to QEMU. It waits while the guest does not take its input, until
// the session ends.
func (s *Session) Write(b []byte) (int, error) {
	written := 0
	for {
		s.mu.Lock()
		conn, back := s.conn, s.back
		s.mu.Unlock()
		if back != nil {
			select {
			case <-back:
				continue
			case <-s.gone:
				return written, s.cause
			}
		}
		n, err := conn.Write(b[written:])
		written += n
		if err == nil {
			return written, nil
		}
		if s.in == nil || s.port.Patience == 0 || !s.leave(conn) {
			s.end(err)
			return written, s.cause
		}
	}
}

// fill takes everything that QEMU sends.
func (s *Session) fill() {
	buf := make([]byte, 4096)
	conn := s.conn
	wait := redialEvery[0]
	for {
		n, err := conn.Read(buf)
		s.in.write(buf[:n])
		if n > 0 {
			wait = redialEvery[0]
		}
		if err != nil {
			if s.port.Patience == 0 || !s.leave(conn) {
				s.end(err)
				return
			}
			if conn = s.redial(&wait); conn == nil {
				s.end(err)
				return
			}
		}
	}
}

// redialEvery is how long to wait before a connection is tried again: at first,
// and at most.
var redialEvery = [2]time.Duration{20 * time.Millisecond, time.Second}

// leave gives a connection up that QEMU has ended; false when the session has ended.
func (s *Session) leave(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.gone:
		return false
	default:
	}
	if s.conn == conn && s.back == nil {
		s.back = make(chan struct{})
		conn.Close()
	}
	return true
}

// redial connects anew; nil when the session has ended or nobody answered. The
// wait grows from call to call, for a QEMU that only hangs up.
func (s *Session) redial(wait *time.Duration) net.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), s.port.Patience)
	defer cancel()
	for {
		select {
		case <-s.gone:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(*wait):
		}
		*wait = min(2**wait, redialEvery[1])
		conn, err := s.port.Dial(ctx)
		if err != nil {
			continue
		}
		s.mu.Lock()
		select {
		case <-s.gone:
			s.mu.Unlock()
			conn.Close()
			return nil
		default:
		}
		s.conn = conn
		close(s.back)
		s.back = nil
		s.mu.Unlock()
		return conn
	}
}

// backlog is how many bytes of a serial console wait for a slow client.
const backlog = 256 << 10

// ring holds the latest bytes of a stream.
type ring struct {
	max int

	mu    sync.Mutex
	cond  *sync.Cond
	buf   []byte
	lost  int
	cause error
}

func newRing(max int) *ring {
	r := &ring{max: max}
	r.cond = sync.NewCond(&r.mu)
	return r
}

func (r *ring) write(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause != nil {
		return
	}
	r.buf = append(r.buf, b...)
	if over := len(r.buf) - r.max; over > 0 {
		// Drop a quarter at once, so that a flood does not move the whole
		// buffer for every few bytes.
		over = min(over+r.max/4, len(r.buf))
		r.lost += over
		r.buf = append(r.buf[:0], r.buf[over:]...)
	}
	r.cond.Broadcast()
}

func (r *ring) close(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause == nil {
		r.cause = cause
	}
	r.cond.Broadcast()
}

func (r *ring) read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) == 0 && r.lost == 0 && r.cause == nil {
		r.cond.Wait()
	}
	if r.lost > 0 {
		note := fmt.Appendf(nil, "\r\n[skerry: %d bytes are missing here: this connection is too slow]\r\n", r.lost)
		r.lost = 0
		r.buf = append(note, r.buf...)
	}
	if len(r.buf) == 0 {
		if errors.Is(r.cause, io.EOF) {
			return 0, io.EOF
		}
		return 0, r.cause
	}
	n := copy(b, r.buf)
	r.buf = r.buf[n:]
	if len(r.buf) == 0 {
		r.buf = nil
	}
	return n, nil
}
