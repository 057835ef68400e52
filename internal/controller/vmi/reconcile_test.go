// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
	"github.com/skerry-dev/skerry/internal/podtemplate"
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
			out.pods++
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

// scenarios are whole lives. Each is run without a crash and with one at every write.
var scenarios = map[string]struct {
	run    func(*world)
	writes int // at most, of this controller
	pods   int // ever created
}{
	"runs": {run: func(w *world) { w.settle() }, writes: 4, pods: 1},
	"powers off": {run: func(w *world) {
		w.finish = exited(0, "Completed", "")
		w.settle()
	}, writes: 5, pods: 1},
	"runs and is deleted": {run: func(w *world) {
		w.settle()
		w.deleteVMI()
		w.settle()
	}, writes: 6, pods: 1},
	"powers off and is deleted": {run: func(w *world) {
		w.finish = exited(0, "Completed", "")
		w.settle()
		w.deleteVMI()
		w.settle()
	}, writes: 7, pods: 1},
	"is deleted at once": {run: func(w *world) {
		w.deleteVMI()
		w.settle()
	}, writes: 1, pods: 0},
	"is refused twice, then runs": {run: func(w *world) {
		w.reject = 2
		w.settle()
	}, writes: 14, pods: 3},
	"is paused": {run: func(w *world) {
		w.settle()
		vmi := w.vmi()
		set(&vmi.Status, v1.VMIPaused, corev1.ConditionTrue, "PausedByUser", "", w.clock)
		w.must(w.api.Update(w.t.Context(), vmi))
		w.settle()
	}, writes: 6, pods: 1},
}

func TestLives(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(t *testing.T, w *crashtest.Writer) (*v1.VirtualMachineInstance, []corev1.Pod, *world) {
				world := newWorld(t, w, instance(v1.Pending, grace(2)))
				s.run(world)
				return world.vmi(), world.podList(), world
			}
			quiet := &crashtest.Writer{}
			wantVMI, wantPods, base := run(t, quiet)
			if got := quiet.Log(); len(got) > s.writes {
				t.Errorf("%d writes, at most %d wanted:\n%s", len(got), s.writes, strings.Join(got, "\n"))
			}
			if base.pods != s.pods {
				t.Errorf("%d pods were created, want %d", base.pods, s.pods)
			}
			for i := range len(quiet.Log()) {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("crash at %d, after=%v", i+1, after), func(t *testing.T) {
						vmi, pods, world := run(t, &crashtest.Writer{FailAt: i + 1, After: after})
						ignore := cmp.Options{
							cmpopts.IgnoreTypes(metav1.Time{}, metav1.MicroTime{}, &metav1.Time{}),
							cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion", "UID"),
							cmpopts.IgnoreFields(v1.VirtualMachineInstanceStatus{}, "ActivePods"),
						}
						if diff := cmp.Diff(wantVMI, vmi, ignore); diff != "" {
							t.Errorf("the instance ends differently:\n%s", diff)
						}
						if diff := cmp.Diff(wantPods, pods, ignore); diff != "" {
							t.Errorf("the pods end differently:\n%s", diff)
						}
						if world.pods != s.pods {
							t.Errorf("%d pods were created, want %d", world.pods, s.pods)
						}
					})
				}
			}
		})
	}
}

func TestEndStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, instance(v1.Pending))
	w.settle()
	vmi := w.vmi()
	if got := cond(&vmi.Status, v1.VMIReady); got != "True/" || vmi.Status.Phase != v1.Running {
		t.Errorf("phase %s, ready %s", vmi.Status.Phase, got)
	}
	p := w.podList()[0]
	if g := podCondition(&p, v1.UnpausedReadinessGate); g == nil || g.Status != corev1.ConditionTrue || podCondition(&p, corev1.PodReady) == nil {
		t.Errorf("pod conditions %v", p.Status.Conditions)
	}
	if !slices.Equal([]string(w.events), []string{"Normal SuccessfulCreate Created virtual machine pod " + p.Name}) {
		t.Errorf("events %v", w.events)
	}
	w.deleteVMI()
	w.settle()
	if w.vmi() != nil || len(w.podList()) > 0 {
		t.Errorf("left over: %v %v", w.vmi(), w.podList())
	}
	if n := len(w.events); n != 2 || !strings.HasPrefix(w.events[1], "Normal SuccessfulDelete") {
		t.Errorf("events %v", w.events)
	}
}

// pass makes one pass and returns its error.
func (w *world) pass() error {
	_, err := w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
	return err
}

func TestCreationFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, instance(v1.Pending))
	quota := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("exceeded quota: compute"))
	w.r.Client = interceptor.NewClient(w.api, interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return quota },
	})
	for range 3 {
		if err := w.pass(); !errors.Is(err, quota) {
			t.Fatalf("error %v, want one to be tried again", err)
		}
	}
	vmi := w.vmi()
	if c := find(&vmi.Status, v1.VMISynchronized); c == nil || c.Reason != ReasonFailedCreate || !strings.Contains(c.Message, "exceeded quota") {
		t.Errorf("condition %v", c)
	}
	if len(w.events) != 1 {
		t.Errorf("events %v, want one", w.events)
	}
	w.r.Client = w.api
	w.settle()
	if vmi := w.vmi(); vmi.Status.Phase != v1.Running || find(&vmi.Status, v1.VMISynchronized) != nil {
		t.Errorf("after the quota was raised: phase %s, conditions %v", vmi.Status.Phase, vmi.Status.Conditions)
	}
}

func TestSpecThatCannotBeRendered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, instance(v1.Pending, func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Volumes = []v1.Volume{{Name: "x", HostDisk: &v1.HostDisk{Path: "/x", Type: "Disk"}}}
	}))
	for range 3 {
		if err := w.pass(); err != nil { // trying again would not help
			t.Fatal(err)
		}
	}
	vmi := w.vmi()
	if c := find(&vmi.Status, v1.VMISynchronized); c == nil || !strings.Contains(c.Message, "spec.volumes[0]") || len(w.events) != 1 {
		t.Errorf("condition %v, events %v", c, w.events)
	}
}

// A tenant who guesses the pod's name gets no agent sent to its pod.
func TestForeignPodInTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, instance(v1.Pending))
	vmi := w.vmi()
	foreign := pod(running, func(p *corev1.Pod) {
		p.Name = podtemplate.PodName(vmi.Name, vmi.UID)
		p.Labels = map[string]string{v1.AppLabel: v1.AppLauncher, v1.CreatedByLabel: string(vmi.UID)}
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceKind)}
		p.Spec.HostNetwork = true
	})
	w.must(w.api.Create(t.Context(), &foreign))
	if err := w.pass(); err == nil || !strings.Contains(err.Error(), "not this instance's") {
		t.Fatalf("error %v", err)
	}
	if vmi := w.vmi(); len(vmi.Status.ActivePods) != 0 || cond(&vmi.Status, v1.VMISynchronized) != "False/FailedCreate" {
		t.Errorf("status %+v", vmi.Status)
	}
}

// A cache that does not have the pod yet must not make the controller let go
// of the instance, or take the machine for lost.
func TestCacheBehind(t *testing.T) {
	t.Parallel()
	for _, phase := range []v1.VirtualMachineInstancePhase{v1.Pending, v1.Running} {
		w := newWorld(t, &crashtest.Writer{}, instance(v1.Pending, grace(2)))
		w.settle()
		w.r.Client = interceptor.NewClient(w.api, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, ok := list.(*corev1.PodList); ok {
					return nil
				}
				return c.List(ctx, list, opts...)
			},
		})
		if phase == v1.Pending {
			w.deleteVMI()
		}
		w.must(w.pass())
		vmi := w.vmi()
		if vmi == nil || vmi.Status.Phase != v1.Running {
			t.Errorf("the instance became %+v", vmi)
		}
	}
}

func TestNewerInstanceWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, instance(v1.Pending))
	stale := w.vmi()
	newer := w.vmi()
	newer.Annotations = map[string]string{"somebody": "wrote"}
	w.must(w.api.Update(t.Context(), newer))
	stale.Status.Phase = "" // makes this pass write
	w.r.Client = interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if vmi, ok := obj.(*v1.VirtualMachineInstance); ok {
				stale.DeepCopyInto(vmi)
				return nil
			}
			return c.Get(ctx, k, obj, opts...)
		},
	})
	res, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
	if err != nil || res.RequeueAfter == 0 {
		t.Errorf("result %v, error %v; want another pass", res, err)
	}
	if vmi := w.vmi(); vmi.Annotations["somebody"] != "wrote" {
		t.Error("the newer instance was overwritten")
	}
}
