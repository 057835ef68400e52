// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/reference"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// eventQueue bounds the Events that wait for a slow API server (about 6 MB); more
	// are lost, Normal ones from eventRoom on.
	eventQueue = 4096
	eventRoom  = eventQueue * 3 / 4
	// eventWriters write them. One alone falls behind when hundreds of machines start.
	eventWriters = 4
	// eventLoss is how long losses are counted before they are told once.
	eventLoss = 10 * time.Second
	// eventTries and eventPause bound the tries to write one.
	eventTries = 5
	eventPause = time.Second
	// maxEventNote is what the API takes, in bytes.
	maxEventNote = 1024
)

// recorder tells Events as client-go's does, but keeps none of them. That one keeps
// each for some minutes to join repetitions, which costs more memory than the
// machines that they are about; the controllers tell only what is news.
type recorder struct {
	client   client.Client
	scheme   *runtime.Scheme
	instance string // of the controller
	now      func() time.Time
	log      *slog.Logger
	queue    chan *eventsv1.Event

	mu     sync.Mutex
	lost   int // since toldAt
	toldAt time.Time
}

func newRecorder(c client.Client, scheme *runtime.Scheme, instance string, log *slog.Logger) *recorder {
	return &recorder{client: c, scheme: scheme, instance: instance, now: time.Now, log: log, queue: make(chan *eventsv1.Event, eventQueue)}
}

// Eventf tells an Event (k8s.io/client-go/tools/events). It never waits.
func (r *recorder) Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any) {
	about, err := reference.GetReference(r.scheme, regarding)
	if err != nil {
		r.log.Error("an Event about something unknown", "reason", reason, "error", err)
		return
	}
	now := r.now()
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: about.Namespace, Name: fmt.Sprintf("%s.%x", about.Name, now.UnixNano())},
		EventTime:  metav1.NewMicroTime(now), ReportingController: name, ReportingInstance: r.instance,
		Action: action, Reason: reason, Regarding: *about, Type: eventtype, Note: fmt.Sprintf(note, args...),
	}
	if e.Namespace == "" {
		e.Namespace = metav1.NamespaceDefault
	}
	if len(e.Note) > maxEventNote {
		e.Note = strings.ToValidUTF8(e.Note[:maxEventNote], "")
	}
	if related != nil {
		// Something that has no reference, as it was not made yet, is left out.
		e.Related, _ = reference.GetReference(r.scheme, related)
	}
	if eventtype == corev1.EventTypeNormal && len(r.queue) >= eventRoom {
		r.lose(now, e)
		return
	}
	select {
	case r.queue <- e:
	default:
		r.lose(now, e)
	}
}

// lose counts an Event that is lost, as too many wait.
func (r *recorder) lose(now time.Time, e *eventsv1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost++
	if !r.toldAt.IsZero() && now.Sub(r.toldAt) < eventLoss {
		return
	}
	r.log.Warn("Events are lost, as too many wait", "count", r.lost, "namespace", e.Namespace, "reason", e.Reason)
	r.lost, r.toldAt = 0, now
}

// Start writes them until ctx ends.
func (r *recorder) Start(ctx context.Context) error {
	var wg sync.WaitGroup
	for range eventWriters {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-r.queue:
					r.write(ctx, e)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

func (r *recorder) write(ctx context.Context, e *eventsv1.Event) {
	for try := 1; ; try++ {
		err := r.client.Create(ctx, e)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case apierrors.IsAlreadyExists(err): // an earlier try got through
			return
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err):
			return // nobody would read it
		case try == eventTries || apierrors.IsInvalid(err) || apierrors.IsForbidden(err):
			r.log.Warn("an Event is lost", "namespace", e.Namespace, "reason", e.Reason, "error", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(eventPause):
		}
	}
}
