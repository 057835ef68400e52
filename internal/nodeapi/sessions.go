// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxStreams bounds the streams of the whole node.
	maxStreams = 256
	// maxViewers bounds the VNC streams of one machine.
	maxViewers = 8
	// handoverLimit is how long a console that was taken over may take to end.
	handoverLimit = 10 * time.Second
)

// errTakenOver ends a console that another client has taken over.
var errTakenOver = errors.New("another client has opened this console")

// sessions knows the open streams. A machine has one console: the newest client
// gets it. It may have several VNC viewers.
type sessions struct {
	mu    sync.Mutex
	open  map[sessionKey][]*session
	total int
}

type sessionKey struct {
	uid     types.UID
	channel Channel
}

type session struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

func newSessions() *sessions { return &sessions{open: map[sessionKey][]*session{}} }

// begin makes room for a stream and returns its context and what ends it. The
// release function must be called once the stream is closed.
func (s *sessions) begin(ctx context.Context, ref VMIRef, ch Channel, opts StreamOptions) (context.Context, func(), error) {
	key := sessionKey{ref.UID, ch}
	ctx, cancel := context.WithCancelCause(ctx)
	me := &session{cancel: cancel, done: make(chan struct{})}

	s.mu.Lock()
	others := append([]*session(nil), s.open[key]...)
	err := s.admit(ref, ch, opts, len(others))
	if err == nil {
		s.open[key] = append(s.open[key], me)
		s.total++
	}
	s.mu.Unlock()
	if err != nil {
		cancel(err)
		return nil, nil, err
	}
	release := func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, o := range s.open[key] {
			if o == me {
				s.open[key] = append(s.open[key][:i:i], s.open[key][i+1:]...)
				break
			}
		}
		if len(s.open[key]) == 0 {
			delete(s.open, key)
		}
		s.total--
		close(me.done)
	}
	if ch != Console {
		return ctx, release, nil
	}
	for _, o := range others {
		o.cancel(errTakenOver)
	}
	limit := time.NewTimer(handoverLimit)
	defer limit.Stop()
	for _, o := range others {
		select {
		case <-o.done:
		case <-ctx.Done():
			err = unavailable(fmt.Sprintf("console of %s: %v", ref, context.Cause(ctx)))
		case <-limit.C:
			err = unavailable(fmt.Sprintf("console of %s: the previous client's connection does not end", ref))
		}
		if err != nil {
			release()
			return nil, nil, err
		}
	}
	return ctx, release, nil
}

// admit applies the limits. s.mu is held.
func (s *sessions) admit(ref VMIRef, ch Channel, opts StreamOptions, others int) error {
	switch {
	case opts.PreserveSession && others > 0:
		return unavailable(fmt.Sprintf("%s of %s is in use, and the request asks not to disturb that session", ch, ref))
	case ch == VNC && others >= maxViewers:
		return unavailable(fmt.Sprintf("vnc of %s has %d viewers, which is the limit: close one first", ref, others))
	case s.total >= maxStreams:
		return unavailable(fmt.Sprintf("the node has %d open consoles and VNC viewers, which is the limit: close some first", s.total))
	}
	return nil
}

func unavailable(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusServiceUnavailable,
		Reason:  metav1.StatusReasonServiceUnavailable,
		Message: message,
	}}
}
