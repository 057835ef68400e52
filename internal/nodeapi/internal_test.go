// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestConnectWithin(t *testing.T) {
	t.Parallel()
	_, err := connectWithin(t.Context(), time.Millisecond, func(ctx context.Context) (io.ReadWriteCloser, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	if err == nil {
		t.Fatal("no error after the limit")
	}
	// A connection that came too late is closed.
	mine, other := net.Pipe()
	_, err = connectWithin(t.Context(), time.Millisecond, func(ctx context.Context) (io.ReadWriteCloser, error) {
		<-ctx.Done()
		return mine, nil
	})
	if err == nil {
		t.Fatal("no error after the limit")
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("not closed: %v", err)
	}
}

// A second direction that stays silent does not keep the session for ever.
func TestLinger(t *testing.T) {
	t.Parallel()
	a, client := net.Pipe()
	b, guest := net.Pipe()
	done := make(chan error, 1)
	quit := make(chan struct{})
	half := &halfClosed{Conn: a, eof: quit}
	go func() { done <- splice(t.Context(), half, canHalf{b}, 10*time.Millisecond) }()
	close(quit) // the client sends no more, but keeps its end open
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, guest} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("left open")
		}
	}
}

// canHalf is told of the half-close, and does nothing about it.
type canHalf struct{ net.Conn }

func (canHalf) CloseWrite() error { return nil }

// halfClosed reads EOF once told so.
type halfClosed struct {
	net.Conn
	eof chan struct{}
}

func (h *halfClosed) Read([]byte) (int, error) {
	<-h.eof
	return 0, io.EOF
}

func FuzzServer(f *testing.F) {
	f.Add("PUT", "/v1/vmis/default/vm1/u/pause", "", "")
	f.Add("GET", "/v1/vmis/default/vm1/u/vnc/screenshot", "moveCursor=true", "")
	f.Add("GET", "/v1/vmis/default/vm1/u/console", "preserveSession=x", "skerry-stream")
	f.Add("GET", "/v1/vmis/%2e%2e/a/b/vnc", "", "Skerry-Stream")
	s := &Server{cfg: ServerConfig{Backend: refusing{}}, sessions: newSessions()}
	s.cfg.Log = slog.New(slog.DiscardHandler)
	h := s.handler()
	f.Fuzz(func(t *testing.T, method, path, query, upgrade string) {
		r, err := http.NewRequest(method, "http://x/", nil)
		if err != nil {
			return
		}
		r.URL.Path, r.URL.RawQuery, r.RequestURI = path, query, "/"
		r.Header.Set("Upgrade", upgrade)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK || w.Code == http.StatusSwitchingProtocols {
			t.Fatalf("%s %q: %d", method, path, w.Code)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(404, []byte(`{"kind":"Status","status":"Failure","code":200,"message":"x","details":{"causes":[{}]}}`))
	f.Add(101, []byte("\xff"))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		var s apierrors.APIStatus
		err := fromResponse(code, body)
		if !errors.As(err, &s) || s.Status().Code < 400 || s.Status().Code > 599 || len(s.Status().Message) > maxMessage+10 {
			t.Fatalf("%#v", err)
		}
	})
}

// refusing is a backend that has no machines, and checks what it is asked for.
type refusing struct{}

var errNone = apierrors.NewBadRequest("no machine")

func (refusing) none(r VMIRef) error {
	if r.Validate() != nil {
		panic("an invalid name reached the backend: " + r.String())
	}
	return errNone
}
func (b refusing) Console(_ context.Context, r VMIRef) (io.ReadWriteCloser, error) {
	return nil, b.none(r)
}
func (b refusing) VNC(_ context.Context, r VMIRef) (io.ReadWriteCloser, error) { return nil, b.none(r) }
func (b refusing) Screenshot(_ context.Context, r VMIRef, _ bool) ([]byte, error) {
	return nil, b.none(r)
}
func (b refusing) Pause(_ context.Context, r VMIRef) error      { return b.none(r) }
func (b refusing) Unpause(_ context.Context, r VMIRef) error    { return b.none(r) }
func (b refusing) SoftReboot(_ context.Context, r VMIRef) error { return b.none(r) }
func (b refusing) Reset(_ context.Context, r VMIRef) error      { return b.none(r) }
func (b refusing) Renew(_ context.Context, r VMIRef) error      { return b.none(r) }
