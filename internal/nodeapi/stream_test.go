// SPDX-License-Identifier: Apache-2.0

package nodeapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skerry-dev/skerry/internal/nodeapi"
)

func TestStreamCarriesBytesBothWays(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, ch := range []nodeapi.Channel{nodeapi.Console, nodeapi.VNC} {
		s, guest := a.stream(t, ch, nodeapi.StreamOptions{})
		up, down := make([]byte, 3<<20), make([]byte, 2<<20)
		fill(up)
		fill(down)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Write(up); err != nil {
				t.Error(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			got, err := io.ReadAll(guest) // ends by the half-close
			if err != nil || !bytes.Equal(got, up) {
				t.Errorf("%s: guest got %d bytes, %v", ch, len(got), err)
			}
			// Only now does the guest answer.
			if _, err := guest.Write(down); err != nil {
				t.Error(err)
			}
			guest.Close()
		})
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, down) {
			t.Errorf("%s: client got %d bytes, %v", ch, len(got), err)
		}
		wg.Wait()
	}
}

func fill(b []byte) {
	r := rand.New(rand.NewPCG(1, uint64(len(b))))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func TestGuestEndsStream(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	s, guest := a.stream(t, nodeapi.Console, nodeapi.StreamOptions{})
	guest.Close()
	if b, err := io.ReadAll(s); err != nil || len(b) > 0 {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestClientEndsStream(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	s, guest := a.stream(t, nodeapi.VNC, nodeapi.StreamOptions{})
	s.Close()
	if b, err := io.ReadAll(guest); err != nil || len(b) > 0 {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestSecondConsoleTakesOver(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	first, guest := a.stream(t, nodeapi.Console, nodeapi.StreamOptions{})
	second, guest2 := a.stream(t, nodeapi.Console, nodeapi.StreamOptions{})
	if _, err := io.ReadAll(first); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Logf("the first console ended with %v", err)
	}
	if _, err := io.ReadAll(guest); err != nil {
		t.Logf("the first guest end ended with %v", err)
	}
	if _, err := guest2.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(second, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestPreserveSession(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	preserve := nodeapi.StreamOptions{PreserveSession: true}
	s, guest := a.stream(t, nodeapi.VNC, preserve)
	_, err := a.client.Stream(t.Context(), node, vmi, nodeapi.VNC, preserve)
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != http.StatusServiceUnavailable {
		t.Fatalf("got %v", err)
	}
	// Without it the second viewer joins, and the first stays.
	a.stream(t, nodeapi.VNC, nodeapi.StreamOptions{})
	if _, err := guest.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestViewerLimit(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var open []nodeapi.Stream
	var err error
	for range 100 {
		var s nodeapi.Stream
		if s, err = a.client.Stream(t.Context(), node, vmi, nodeapi.VNC, nodeapi.StreamOptions{}); err != nil {
			break
		}
		open = append(open, s)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != http.StatusServiceUnavailable {
		t.Fatalf("after %d: %v", len(open), err)
	}
	for _, s := range open {
		s.Close()
		(<-a.guests).Close()
	}
	eventually(t, "room again", func() bool {
		s, err := a.client.Stream(t.Context(), node, vmi, nodeapi.VNC, nodeapi.StreamOptions{})
		if err == nil {
			s.Close()
		}
		return err == nil
	})
}

func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	s, guest := a.stream(t, nodeapi.Console, nodeapi.StreamOptions{})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(s)
	_, _ = io.ReadAll(guest)
}

func TestStuckBackendIsLeftWhenTheClientGoes(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	entered, left := make(chan struct{}), make(chan struct{})
	a.connect = func(ctx context.Context) (io.ReadWriteCloser, error) {
		close(entered)
		<-ctx.Done()
		close(left)
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.client.Stream(ctx, node, vmi, nodeapi.Console, nodeapi.StreamOptions{})
		done <- err
	}()
	<-entered
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-left
}

// noHalfClose hides CloseWrite, as a stream that knows no half-close.
type noHalfClose struct{ io.ReadWriteCloser }

func TestNoGoroutineIsLeft(t *testing.T) {
	// Not parallel: it counts goroutines.
	a := newAgent(t)
	for i := range 30 {
		if i%3 == 0 {
			a.connect = func(context.Context) (io.ReadWriteCloser, error) {
				mine, guest := net.Pipe()
				a.guests <- guest
				return noHalfClose{mine}, nil
			}
		} else {
			a.connect = nil
		}
		s, err := a.client.Stream(t.Context(), node, vmi, nodeapi.VNC, nodeapi.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		guest := <-a.guests
		if i%2 == 0 {
			guest.Close()
			_, _ = io.ReadAll(s)
			s.Close()
		} else {
			s.Close()
			_, _ = io.ReadAll(guest)
			guest.Close()
		}
	}
	eventually(t, "streams gone", func() bool {
		return len(goroutinesOf("nodeapi.splice")) == 0 && len(goroutinesOf("nodeapi.(*Server).stream")) == 0
	})
}
