// SPDX-License-Identifier: Apache-2.0

package nodeapi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/nodeapi/nodeapitest"
)

const node = "n1.example"

var vmi = nodeapi.VMIRef{Namespace: "default", Name: "vm1", UID: "11111111-2222-3333-4444-555555555555"}

// backend is a machine whose channels are the guest's ends of pipes.
type backend struct {
	mu      sync.Mutex
	calls   []string
	err     error
	png     []byte
	connect func(ctx context.Context) (io.ReadWriteCloser, error)
	guests  chan net.Conn // the guest's end of each stream
}

func newBackend() *backend { return &backend{guests: make(chan net.Conn, 300)} }

func (b *backend) called(what string, ref nodeapi.VMIRef) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, what+" "+ref.String()+" "+string(ref.UID))
	return b.err
}

func (b *backend) open(ctx context.Context, what string, ref nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	if err := b.called(what, ref); err != nil {
		return nil, err
	}
	if b.connect != nil {
		return b.connect(ctx)
	}
	mine, guest, err := socketPair()
	if err != nil {
		return nil, err
	}
	b.guests <- guest
	return mine, nil
}

// socketPair returns two connected TCP ends: unlike net.Pipe they know half-close.
func socketPair() (net.Conn, net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	b, err := ln.Accept()
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

func (b *backend) Console(ctx context.Context, r nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	return b.open(ctx, "console", r)
}
func (b *backend) VNC(ctx context.Context, r nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	return b.open(ctx, "vnc", r)
}
func (b *backend) Screenshot(_ context.Context, r nodeapi.VMIRef, move bool) ([]byte, error) {
	what := "screenshot"
	if move {
		what += " moved"
	}
	return b.png, b.called(what, r)
}
func (b *backend) Pause(_ context.Context, r nodeapi.VMIRef) error   { return b.called("pause", r) }
func (b *backend) Unpause(_ context.Context, r nodeapi.VMIRef) error { return b.called("unpause", r) }
func (b *backend) SoftReboot(_ context.Context, r nodeapi.VMIRef) error {
	return b.called("softreboot", r)
}
func (b *backend) Reset(_ context.Context, r nodeapi.VMIRef) error { return b.called("reset", r) }
func (b *backend) Renew(_ context.Context, r nodeapi.VMIRef) error { return b.called("renew", r) }

// agent is a served backend and what reaches it.
type agent struct {
	*backend
	client  *nodeapi.Client
	address string
	server  nodeapi.TLSFiles
	stop    func() error // ends the server and returns Serve's result
}

var quiet = slog.New(slog.DiscardHandler)

func serve(t *testing.T, serverFiles, clientFiles nodeapi.TLSFiles) *agent {
	t.Helper()
	b := newBackend()
	s, err := nodeapi.NewServer(nodeapi.ServerConfig{TLS: serverFiles, Backend: b, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	a := &agent{backend: b, address: ln.Addr().String(), server: serverFiles, stop: stop}
	a.client = newClient(t, clientFiles, a.address)
	return a
}

func newClient(t *testing.T, files nodeapi.TLSFiles, address string) *nodeapi.Client {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nodeapi.NewClient(nodeapi.ClientConfig{
		TLS:     files,
		Address: func(context.Context, string) (string, error) { return host, nil },
		Port:    n,
		Log:     quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	s, c := nodeapitest.Pair(t, node)
	return serve(t, s, c)
}

func (a *agent) stream(t *testing.T, ch nodeapi.Channel, o nodeapi.StreamOptions) (nodeapi.Stream, net.Conn) {
	t.Helper()
	s, err := a.client.Stream(t.Context(), node, vmi, ch, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	guest := <-a.guests
	t.Cleanup(func() { guest.Close() })
	return s, guest
}

// goroutinesOf returns the stacks of this package's goroutines that match.
func goroutinesOf(substring string) []string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, substring) {
			found = append(found, g)
		}
	}
	return found
}

// eventually polls until ok; the test's own deadline is the limit.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit:
			t.Fatalf("%s: not within 30 s", what)
		case <-tick.C:
		}
	}
}

var errBoom = errors.New("boom")
