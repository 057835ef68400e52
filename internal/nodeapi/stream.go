// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// stallLimit is how long a client may take none of the bytes that are sent
	// to it before it is given up.
	stallLimit = time.Minute
	// lingerLimit is how long the second direction may be silent once the first
	// has ended.
	lingerLimit = 10 * time.Second
	copyBuffer  = 16 << 10
)

// halfCloser is a stream whose writing end can be closed alone.
type halfCloser interface{ CloseWrite() error }

// writeDeadliner is a stream whose writes can be bounded.
type writeDeadliner interface{ SetWriteDeadline(time.Time) error }

// splice copies both ways between a and b until both directions have ended, one
// has failed, or ctx is done. It closes both. The end of one direction is passed
// on as a half-close; the second direction then ends with its own end of file or
// after linger without data. A stream that knows no half-close is closed. The
// error is the one that ended the session; nil for an orderly end.
func splice(ctx context.Context, a, b io.ReadWriteCloser, linger time.Duration) error {
	var once sync.Once
	closeBoth := func() {
		once.Do(func() {
			a.Close()
			b.Close()
		})
	}
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	defer closeBoth()

	var (
		mu       sync.Mutex
		timer    *time.Timer // running since one direction has ended
		lingered bool
	)
	alive := func() {
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Reset(linger)
		}
	}
	type ended struct {
		err     error
		closing bool // the other direction was cut off by it
	}
	ends := make(chan ended, 2)
	direction := func(dst, src io.ReadWriteCloser) {
		err := copyStream(dst, src, alive)
		h, half := dst.(halfCloser)
		if err == nil && half {
			err = h.CloseWrite()
		}
		if err != nil || !half {
			closeBoth()
		} else {
			mu.Lock()
			if timer == nil {
				timer = time.AfterFunc(linger, func() {
					mu.Lock()
					lingered = true
					mu.Unlock()
					closeBoth()
				})
			}
			mu.Unlock()
		}
		ends <- ended{err, err == nil && !half}
	}
	go direction(b, a)
	go direction(a, b)
	first, second := <-ends, <-ends
	mu.Lock()
	if timer != nil {
		timer.Stop()
	}
	wasLingering := lingered
	mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case first.err != nil:
		return first.err
	case wasLingering || first.closing:
		return nil
	}
	return second.err
}

// copyStream copies until src ends; that is not an error.
func copyStream(dst io.Writer, src io.Reader, alive func()) error {
	buf := make([]byte, copyBuffer)
	bounded, _ := dst.(writeDeadliner)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			alive()
			if bounded != nil {
				if err := bounded.SetWriteDeadline(time.Now().Add(stallLimit)); err != nil {
					return err
				}
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// stream is a connection after its upgrade: first what the HTTP reader had read
// ahead, then the rest.
type stream struct {
	net.Conn
	ahead *bytes.Reader
}

func newStream(conn net.Conn, r *bufio.Reader) (*stream, error) {
	ahead := make([]byte, r.Buffered())
	if _, err := io.ReadFull(r, ahead); err != nil {
		return nil, err
	}
	return &stream{conn, bytes.NewReader(ahead)}, nil
}

func (s *stream) Read(b []byte) (int, error) {
	if s.ahead.Len() > 0 {
		return s.ahead.Read(b)
	}
	return s.Conn.Read(b)
}

// CloseWrite tells the other end that no more will be sent.
func (s *stream) CloseWrite() error {
	if h, ok := s.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return nil
}
