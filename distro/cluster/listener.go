// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"net"
	"sync"
)

// mergedListener accepts on several listeners as if they were one. Its address
// is the first one's.
type mergedListener struct {
	parts []net.Listener
	conns chan accepted
	done  chan struct{}
	close sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

func merge(parts ...net.Listener) net.Listener {
	m := &mergedListener{parts: parts, conns: make(chan accepted), done: make(chan struct{})}
	for _, l := range parts {
		go m.accept(l)
	}
	return m
}

func (m *mergedListener) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case m.conns <- accepted{conn, err}:
			// The server stops at the first permanent error, and waits itself
			// after a temporary one.
			if errors.Is(err, net.ErrClosed) {
				return
			}
		case <-m.done:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// Accept returns the next connection of any part.
func (m *mergedListener) Accept() (net.Conn, error) {
	select {
	case <-m.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-m.conns:
		return a.conn, a.err
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// Close closes all parts.
func (m *mergedListener) Close() error {
	var errs []error
	m.close.Do(func() {
		close(m.done)
		for _, l := range m.parts {
			errs = append(errs, l.Close())
		}
	})
	return errors.Join(errs...)
}

// Addr is the address of the first part.
func (m *mergedListener) Addr() net.Addr { return m.parts[0].Addr() }
