// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
)

type events []string

func (e *events) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	*e = append(*e, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

// world is an API server with a scheduler, a kubelet and a node agent that are
// as fast as can be: each does its next step when asked.
type world struct {
	t      *testing.T
	api    client.WithWatch
	r      *Reconciler
	events events
	clock  time.Time
	pods   int // ever created
	// What becomes of a pod once its machine runs; nil runs on.
	finish podOpt
	// reject refuses this many pods at first.
	reject int
}

const kubelet = "test/kubelet" // a finalizer: what the kubelet has started goes away through it only

func newWorld(t *testing.T, w *crashtest.Writer, vmi *v1.VirtualMachineInstance) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a", Labels: map[string]string{v1.SchedulableLabel: "true"}}}
	vmi.CreationTimestamp = metav1.NewTime(now)
	out := &world{t: t, clock: now}
	fakeAPI := fake.NewClientBuilder().WithScheme(scheme).WithObjects(node, vmi).WithStatusSubresource(&corev1.Pod{}).Build()
	out.api = interceptor.NewClient(fakeAPI, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if p, ok := obj.(*corev1.Pod); ok { // what the API server fills in
				p.UID = types.UID(fmt.Sprintf("uid-pod-%d", out.pods+1))
				p.CreationTimestamp = metav1.NewTime(out.clock)
				p.Status.QOSClass = corev1.PodQOSBurstable
			}
			if err := c.Create(ctx, obj, opts...); err != nil {
				return err
			}
			if _, ok := obj.(*corev1.Pod); ok {
				out.pods++
			}
			return nil
		},
	})
	cl := w.Client(out.api)
	out.r = &Reconciler{
		Client: cl, Live: out.api, Events: &out.events, Log: slog.New(slog.DiscardHandler),
		Now:           func() time.Time { return out.clock },
		LauncherImage: "launcher:1",
		Overhead:      func(*v1.VirtualMachineInstance, bool) resource.Quantity { return resource.MustParse("64Mi") },
	}
	return out
}

var key = client.ObjectKey{Namespace: "ns", Name: "web"}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}

// vmi is the instance now, nil when it is gone.
func (w *world) vmi() *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{}
	if err := w.api.Get(w.t.Context(), key, vmi); err != nil {
		w.must(err)
		return nil
	}
	return vmi
}

func (w *world) podList() []corev1.Pod {
	list := &corev1.PodList{}
	w.must(w.api.List(w.t.Context(), list))
	return list.Items
}

// others lets the scheduler, the kubelet and the agent do a step each. It
// returns whether anything changed.
func (w *world) others() bool {
	ctx, changed := w.t.Context(), false
	pods := w.podList()
	live := 0
	for i := range pods {
		p := &pods[i]
		if !ended(p) {
			live++
		}
		switch {
		case p.DeletionTimestamp != nil:
			p.Finalizers = nil
			w.must(w.api.Update(ctx, p))
			changed = true
			continue
		case p.Spec.NodeName == "":
			p.Spec.NodeName, p.Finalizers = "node-a", []string{kubelet}
			w.must(w.api.Update(ctx, p))
			changed = true
			continue
		}
		status := p.Status.DeepCopy()
		switch {
		case w.reject > 0 && p.Status.Phase == "":
			w.reject--
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "UnexpectedAdmissionError", "no device"
		case p.Status.Phase == "":
			p.Status.Phase = corev1.PodRunning
			state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(w.clock)}})(p)
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady"}}
		case p.Status.Phase == corev1.PodRunning:
			gate, ready := podCondition(p, v1.UnpausedReadinessGate), podCondition(p, corev1.PodReady)
			if gate != nil && gate.Status != ready.Status {
				ready.Status, ready.Reason = gate.Status, ""
			} else if gate != nil && w.finish != nil {
				w.finish(p)
			}
		}
		if !cmp.Equal(status, &p.Status) {
			w.must(w.api.Status().Update(ctx, p))
			changed = true
		}
	}
	if live > 1 {
		w.t.Fatalf("%d pods live at once", live)
	}
	// The agent: the machine of the active pod runs once the container does.
	if vmi := w.vmi(); vmi != nil && vmi.Status.Phase == v1.Scheduled && vmi.Labels[v1.NodeNameLabel] == "node-a" {
		for i := range pods {
			if vmi.Status.ActivePods[string(pods[i].UID)] == "node-a" && pods[i].Status.Phase == corev1.PodRunning {
				base := client.MergeFromWithOptions(vmi.DeepCopy(), client.MergeFromWithOptimisticLock{})
				setPhase(&vmi.Status, v1.Running, w.clock)
				w.must(w.api.Patch(ctx, vmi, base))
				changed = true
			}
		}
	}
	return changed
}

// settle runs everything until nothing changes any more. Errors other than the
// crash fail the test.
func (w *world) settle() {
	w.t.Helper()
	quiet := 0
	for range 200 {
		before := w.snapshot()
		_, err := w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
		if err != nil && !errors.Is(err, crashtest.ErrCrash) {
			w.t.Fatalf("reconcile: %v", err)
		}
		w.others()
		w.clock = w.clock.Add(time.Second)
		if err == nil && cmp.Equal(before, w.snapshot()) {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 5 { // also for what waits a second or four
			return
		}
	}
	w.t.Fatal("does not settle")
}

func (w *world) snapshot() []string {
	var out []string
	if vmi := w.vmi(); vmi != nil {
		out = append(out, "vmi "+vmi.ResourceVersion)
	}
	for _, p := range w.podList() {
		out = append(out, p.Name+" "+string(p.UID)+" "+p.ResourceVersion)
	}
	return out
}

func (w *world) deleteVMI() {
	w.must(w.api.Delete(w.t.Context(), &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}))
}
