// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	scheme, _, err := knownTypes()
	if err != nil {
		t.Fatal(err)
	}
	failures := 1 // the first try fails
	api := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if failures > 0 {
				failures--
				return errors.New("busy")
			}
			return c.Create(ctx, o, opts...)
		},
	})
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	r := newRecorder(api, scheme, "box", slog.New(slog.DiscardHandler))
	r.now = func() time.Time { return now }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()

	// As they come out of a cache: without their kinds.
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid-vmi"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-pod", UID: "uid-pod"}}
	r.Eventf(vmi, pod, corev1.EventTypeNormal, "SuccessfulCreate", "CreatePod", "Created pod %s", strings.Repeat("x", 2*maxEventNote))

	list := &eventsv1.EventList{}
	eventually(t, "the Event", func() bool { return api.List(t.Context(), list) == nil && len(list.Items) == 1 })
	got := list.Items[0]
	if len(got.Note) != maxEventNote || got.ResourceVersion == "" {
		t.Errorf("note of %d bytes, version %q", len(got.Note), got.ResourceVersion)
	}
	got.Note, got.ResourceVersion = "", ""
	want := eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: got.Name},
		EventTime:  got.EventTime, ReportingController: name, ReportingInstance: "box", Action: "CreatePod", Reason: "SuccessfulCreate", Type: "Normal",
		Regarding: corev1.ObjectReference{Kind: "VirtualMachineInstance", APIVersion: "kubevirt.io/v1", Namespace: "ns", Name: "web", UID: "uid-vmi"},
		Related:   &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "ns", Name: "web-pod", UID: "uid-pod"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got.Name, "web.") || !got.EventTime.Time.Equal(now) {
		t.Errorf("name %q, time %v", got.Name, got.EventTime)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// With nobody to write them, nobody waits, and there is room for warnings still.
	for kind, want := range map[string]int{corev1.EventTypeNormal: eventRoom, corev1.EventTypeWarning: eventQueue} {
		r := newRecorder(api, scheme, "box", slog.New(slog.DiscardHandler))
		for range 2 * eventQueue {
			r.Eventf(vmi, nil, kind, "x", "x", "x")
		}
		if len(r.queue) != want {
			t.Errorf("%d %s Events wait, want %d", len(r.queue), kind, want)
		}
	}
}
