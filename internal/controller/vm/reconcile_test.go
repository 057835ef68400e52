// SPDX-License-Identifier: Apache-2.0

package vm

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

// world is an API server with a controller of instances that is as fast as can be.
type world struct {
	t      *testing.T
	api    client.WithWatch
	r      *Reconciler
	events events
	clock  time.Time
	made   int // instances ever created
	// ends says how the nth instance (from 1) ends by itself; absent runs on.
	ends map[int]ending
}

type ending struct {
	ran   bool
	phase v1.VirtualMachineInstancePhase
}

func newWorld(t *testing.T, w *crashtest.Writer, vm *v1.VirtualMachine) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	out := &world{t: t, clock: now}
	vm.Status = v1.VirtualMachineStatus{}
	fakeAPI := fake.NewClientBuilder().WithScheme(scheme).WithObjects(vm).WithStatusSubresource(&v1.VirtualMachine{}).Build()
	out.api = interceptor.NewClient(fakeAPI, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			obj.SetUID(types.UID(fmt.Sprintf("uid-vmi-%d", out.made+1)))
			obj.SetCreationTimestamp(metav1.NewTime(out.clock))
			if err := c.Create(ctx, obj, opts...); err != nil {
				return err
			}
			out.made++
			return nil
		},
	})
	out.r = &Reconciler{Client: w.Client(out.api), Live: out.api, Events: &out.events,
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return out.clock }}
	return out
}

var key = client.ObjectKey{Namespace: "ns", Name: "web"}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}

func (w *world) vm() *v1.VirtualMachine {
	vm := &v1.VirtualMachine{}
	if err := w.api.Get(w.t.Context(), key, vm); err != nil {
		w.must(err)
		return nil
	}
	return vm
}

func (w *world) vmi() *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{}
	if err := w.api.Get(w.t.Context(), key, vmi); err != nil {
		w.must(err)
		return nil
	}
	return vmi
}

// others lets the instance take its next step.
func (w *world) others() {
	vmi := w.vmi()
	if vmi == nil {
		return
	}
	before := vmi.DeepCopy()
	end, ends := w.ends[w.made]
	switch p := vmi.Status.Phase; {
	case vmi.DeletionTimestamp != nil:
		vmi.Finalizers = nil
	case p == "":
		vmi.Status.Phase = v1.Scheduled
	case p == v1.Scheduled && ends && !end.ran, p == v1.Running && ends:
		vmi.Status.Phase = end.phase
	case p == v1.Scheduled:
		ran(vmi)
		vmi.Status.Phase = v1.Running
		vmiCond(v1.VMIReady, corev1.ConditionTrue, "")(vmi)
	}
	if !cmp.Equal(before, vmi) {
		w.must(w.api.Update(w.t.Context(), vmi))
	}
}

// settle runs everything until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	quiet := 0
	for range 300 {
		before := w.snapshot()
		res, err := w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
		if err != nil && !errors.Is(err, crashtest.ErrCrash) {
			w.t.Fatalf("reconcile: %v", err)
		}
		w.others()
		w.clock = w.clock.Add(time.Second)
		if res.RequeueAfter > 0 {
			w.clock = w.clock.Add(res.RequeueAfter)
			quiet = 0
		}
		if err == nil && before == w.snapshot() {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 3 {
			return
		}
	}
	w.t.Fatal("does not settle")
}

func (w *world) snapshot() string {
	var b strings.Builder
	if vm := w.vm(); vm != nil {
		b.WriteString(vm.ResourceVersion)
	}
	b.WriteString(" ")
	if vmi := w.vmi(); vmi != nil {
		b.WriteString(vmi.ResourceVersion)
	}
	return b.String()
}

// ask adds requests as the power verbs do.
func (w *world) ask(rs ...v1.VirtualMachineStateChangeRequest) {
	vm := w.vm()
	vm.Status.StateChangeRequests = append(vm.Status.StateChangeRequests, rs...)
	w.must(w.api.Status().Update(w.t.Context(), vm))
}

func (w *world) strategy(s v1.VirtualMachineRunStrategy) {
	vm := w.vm()
	vm.Spec.RunStrategy = &s
	w.must(w.api.Update(w.t.Context(), vm))
}

// scenarios are whole lives. Each is run without a crash and with one at every write.
var scenarios = map[string]struct {
	strategy v1.VirtualMachineRunStrategy
	ends     map[int]ending
	run      func(*world)
	made     int // instances ever created
	writes   int // at most
	status   v1.VirtualMachinePrintableStatus
}{
	"runs": {strategy: v1.RunStrategyAlways, run: (*world).settle, made: 1, writes: 3, status: v1.StatusRunning},
	"is deleted": {strategy: v1.RunStrategyAlways, run: func(w *world) {
		w.settle()
		w.must(w.api.Delete(w.t.Context(), w.vm()))
		w.settle()
	}, made: 1, writes: 6},
	"is deleted at once": {strategy: v1.RunStrategyAlways, run: func(w *world) {
		w.must(w.api.Delete(w.t.Context(), w.vm()))
		w.settle()
	}, made: 0, writes: 1},
	"powers off twice": {strategy: v1.RunStrategyAlways, ends: map[int]ending{1: {true, v1.Succeeded}, 2: {true, v1.Succeeded}}, run: (*world).settle,
		made: 3, writes: 17, status: v1.StatusRunning},
	"fails to start twice": {strategy: v1.RunStrategyAlways, ends: map[int]ending{1: {false, v1.Failed}, 2: {false, v1.Failed}}, run: (*world).settle,
		made: 3, writes: 17, status: v1.StatusRunning},
	"reruns on failure alone": {strategy: v1.RunStrategyRerunOnFailure, ends: map[int]ending{1: {true, v1.Failed}, 2: {true, v1.Succeeded}}, run: (*world).settle,
		made: 2, writes: 17, status: v1.StatusStopped},
	"is started and stopped by hand": {strategy: v1.RunStrategyManual, run: func(w *world) {
		w.settle()
		w.ask(startReq)
		w.settle()
		w.ask(stopReq(w.vmi().UID))
		w.settle()
	}, made: 1, writes: 8, status: v1.StatusStopped},
	"is restarted": {strategy: v1.RunStrategyManual, run: func(w *world) {
		w.ask(startReq)
		w.settle()
		w.ask(stopReq(w.vmi().UID), startReq)
		w.settle()
	}, made: 2, writes: 10, status: v1.StatusRunning},
	"is halted and started paused": {strategy: v1.RunStrategyAlways, run: func(w *world) {
		w.settle()
		w.strategy(v1.RunStrategyHalted)
		w.settle()
		w.ask(pausedReq)
		w.settle()
		if vmi := w.vmi(); vmi == nil || vmi.Spec.StartStrategy == nil {
			w.t.Errorf("not started paused: %v", vmi)
		}
	}, made: 2, writes: 11, status: v1.StatusRunning},
}

func TestLives(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(t *testing.T, w *crashtest.Writer) (*v1.VirtualMachine, *v1.VirtualMachineInstance, *world) {
				world := newWorld(t, w, machine(s.strategy))
				world.ends = s.ends
				s.run(world)
				return world.vm(), world.vmi(), world
			}
			quiet := &crashtest.Writer{}
			wantVM, wantVMI, base := run(t, quiet)
			if got := quiet.Log(); len(got) > s.writes {
				t.Errorf("%d writes, at most %d wanted:\n%s", len(got), s.writes, strings.Join(got, "\n"))
			}
			if base.made != s.made {
				t.Errorf("%d instances were created, want %d", base.made, s.made)
			}
			if s.status == "" {
				if wantVM != nil || wantVMI != nil {
					t.Errorf("left over: %v %v", wantVM, wantVMI)
				}
			} else if wantVM == nil || wantVM.Status.PrintableStatus != s.status || wantVM.Status.StartFailure != nil || len(wantVM.Status.StateChangeRequests) > 0 {
				t.Errorf("ends as %+v, want %s", wantVM.Status, s.status)
			}
			for i := range len(quiet.Log()) {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("crash at %d, after=%v", i+1, after), func(t *testing.T) {
						vm, vmi, world := run(t, &crashtest.Writer{FailAt: i + 1, After: after})
						ignore := cmp.Options{
							cmpopts.IgnoreTypes(metav1.Time{}, metav1.MicroTime{}),
							cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion"),
						}
						if diff := cmp.Diff(wantVM, vm, ignore); diff != "" {
							t.Errorf("the machine ends differently:\n%s", diff)
						}
						if diff := cmp.Diff(wantVMI, vmi, ignore); diff != "" {
							t.Errorf("the instance ends differently:\n%s", diff)
						}
						if world.made != s.made {
							t.Errorf("%d instances were created, want %d", world.made, s.made)
						}
					})
				}
			}
		})
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, machine(v1.RunStrategyAlways))
	w.settle()
	w.strategy(v1.RunStrategyHalted)
	w.settle()
	want := []string{
		"Normal SuccessfulCreate Started the virtual machine by creating the new virtual machine instance web",
		"Normal SuccessfulDelete Stopped the virtual machine by deleting the virtual machine instance web",
	}
	if !slices.Equal([]string(w.events), want) {
		t.Errorf("events %q", w.events)
	}
}

func TestInstanceRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, machine(v1.RunStrategyAlways))
	refused := apierrors.NewBadRequest("spec.domain: not like this")
	w.r.Client = interceptor.NewClient(w.api, interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return refused },
	})
	for range 3 {
		if _, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); !errors.Is(err, refused) {
			t.Fatalf("error %v, want one to be tried again", err)
		}
	}
	st := w.vm().Status
	if c := find(&st, v1.VMFailure); c == nil || !strings.Contains(c.Message, "not like this") || len(w.events) != 1 || st.PrintableStatus != v1.StatusStarting {
		t.Errorf("status %+v, events %v", st, w.events)
	}
	w.r.Client = w.api
	w.settle()
	if st := w.vm().Status; st.PrintableStatus != v1.StatusRunning || find(&st, v1.VMFailure) != nil {
		t.Errorf("status %+v", st)
	}
}

// A cache that is behind must not start a machine that somebody halted, nor
// answer one request twice.
func TestCacheBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, machine(v1.RunStrategyManual))
	w.ask(startReq)
	stale := w.vm()
	w.settle()
	uid := w.vmi().UID
	w.ask(stopReq(uid))
	w.settle()
	w.r.Client = interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if vm, ok := obj.(*v1.VirtualMachine); ok {
				stale.DeepCopyInto(vm)
				return nil
			}
			return c.Get(ctx, k, obj, opts...)
		},
	})
	if _, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	if w.made != 1 {
		t.Errorf("%d instances were made from one request", w.made)
	}
}
