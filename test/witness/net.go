// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ports in the guest.
const (
	port     = "7000"
	echoPort = "7"
)

// Ask sends one command over TCP to the guest at the address and returns the answer.
func Ask(ctx context.Context, ip, command string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(ip, port))
	if err != nil {
		return "", fmt.Errorf("ask the witness at %s: %w", ip, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", fmt.Errorf("ask the witness at %s to %s: %w", ip, command, err)
	}
	b, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", fmt.Errorf("ask the witness at %s to %s: %w", ip, command, err)
	}
	return string(b), nil
}

// Listener hears the heartbeats that guests send as datagrams, and keeps the
// longest gap between two arrivals of each by this machine's clock.
type Listener struct {
	conn net.PacketConn
	mu   sync.Mutex
	by   map[uint64]*Heard
}

// Heard is what a Listener heard of one guest since the last Reset.
type Heard struct {
	// Count is how many beats arrived, Lost how many between them did not.
	Count, Lost uint64
	// Gap is the longest time between two arrivals.
	Gap          time.Duration
	last         time.Time
	lastSequence uint64
}

// Listen opens a port on the address, which the guests must be able to reach.
func Listen(ip string) (*Listener, error) {
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(ip, "0"))
	if err != nil {
		return nil, err
	}
	l := &Listener{conn: conn, by: map[uint64]*Heard{}}
	go l.run()
	return l, nil
}

// Command is what has the guest's beats sent to this Listener, as the given guest.
func (l *Listener) Command(guest uint64) string {
	host, port, _ := net.SplitHostPort(l.conn.LocalAddr().String())
	return fmt.Sprintf("beats %s %s %d", host, port, guest)
}

func (l *Listener) run() {
	b := make([]byte, 256)
	for {
		n, _, err := l.conn.ReadFrom(b)
		if err != nil {
			return // closed
		}
		now := time.Now()
		f := strings.Fields(string(b[:n]))
		if len(f) != 4 || f[0] != "beat" {
			continue
		}
		guest, err1 := strconv.ParseUint(f[1], 10, 64)
		sequence, err2 := strconv.ParseUint(f[2], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		l.mu.Lock()
		h := l.by[guest]
		if h == nil {
			h = &Heard{}
			l.by[guest] = h
		}
		if !h.last.IsZero() {
			h.Gap = max(h.Gap, now.Sub(h.last))
			if sequence > h.lastSequence+1 {
				h.Lost += sequence - h.lastSequence - 1
			}
		}
		h.Count++
		h.last, h.lastSequence = now, sequence
		l.mu.Unlock()
	}
}

// Heard returns what was heard of a guest; a silence that lasts still counts.
func (l *Listener) Heard(guest uint64) Heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.by[guest]
	if h == nil {
		return Heard{}
	}
	out := *h
	if !h.last.IsZero() {
		out.Gap = max(out.Gap, time.Since(h.last))
	}
	return out
}

// Reset forgets the gaps and counts of all guests.
func (l *Listener) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g, h := range l.by {
		l.by[g] = &Heard{last: h.last, lastSequence: h.lastSequence}
	}
}

// Close ends it.
func (l *Listener) Close() error { return l.conn.Close() }

// Traffic exchanges datagrams and one TCP stream with a guest's echo ports.
type Traffic struct {
	stop context.CancelFunc
	done chan struct{}
	mu   sync.Mutex
	n    Exchanged
	err  error
}

// Exchanged counts what went to the guest and came back.
type Exchanged struct {
	DatagramsOut, DatagramsIn uint64
	// StreamIn is the bytes that came back over TCP, each checked.
	StreamIn uint64
}

// StartTraffic begins; one connection is kept until Stop.
func StartTraffic(ctx context.Context, ip string) (*Traffic, error) {
	d := net.Dialer{}
	tcp, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip, echoPort))
	if err != nil {
		return nil, err
	}
	udp, err := d.DialContext(ctx, "udp", net.JoinHostPort(ip, echoPort))
	if err != nil {
		tcp.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &Traffic{stop: cancel, done: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() { t.stream(ctx, tcp) })
	wg.Go(func() { t.datagrams(ctx, udp) })
	go func() {
		wg.Wait()
		close(t.done)
	}()
	return t, nil
}

// pace is the time between two messages.
const pace = 20 * time.Millisecond

// stream sends numbered messages and reads each back before the next.
func (t *Traffic) stream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	in := bufio.NewReader(conn)
	out, back := make([]byte, 1024), make([]byte, 1024)
	for i := uint64(0); ctx.Err() == nil; i++ {
		for j := 0; j < len(out); j += 8 {
			binary.LittleEndian.PutUint64(out[j:], i*1024+uint64(j))
		}
		_, err := conn.Write(out)
		if err == nil {
			_, err = io.ReadFull(in, back)
		}
		if err == nil && !bytes.Equal(out, back) {
			err = errors.New("something else came back")
		}
		if err != nil {
			if ctx.Err() == nil {
				t.fail(fmt.Errorf("TCP stream to %s, message %d: %w", conn.RemoteAddr(), i, err))
			}
			return
		}
		t.count(func(n *Exchanged) { n.StreamIn += uint64(len(back)) })
		wait(ctx)
	}
}

func (t *Traffic) datagrams(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	go func() {
		b := make([]byte, 2048)
		for {
			if _, err := conn.Read(b); err == nil {
				t.count(func(n *Exchanged) { n.DatagramsIn++ })
			} else if errors.Is(err, net.ErrClosed) {
				return
			} else {
				wait(ctx) // refused while nobody listens; the next may be taken
			}
		}
	}()
	for i := 0; ctx.Err() == nil; i++ {
		// What cannot be sent is not counted; the stream tells of a broken network.
		if _, err := fmt.Fprintf(conn, "datagram %d", i); err == nil {
			t.count(func(n *Exchanged) { n.DatagramsOut++ })
		}
		wait(ctx)
	}
}

func wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(pace):
	}
}

func (t *Traffic) count(f func(*Exchanged)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.n)
}

func (t *Traffic) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
}

// Counts tells how much was exchanged so far.
func (t *Traffic) Counts() Exchanged {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// Stop ends it. The error says how the TCP stream broke, if it did.
func (t *Traffic) Stop() (Exchanged, error) {
	t.stop()
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n, t.err
}
