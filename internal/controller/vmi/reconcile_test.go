// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

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
		vmi.Status.SetCondition(v1.VMIPaused, corev1.ConditionTrue, "PausedByUser", "", w.clock)
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
	if c := vmi.Status.Condition(v1.VMISynchronized); c == nil || c.Reason != ReasonFailedCreate || !strings.Contains(c.Message, "exceeded quota") {
		t.Errorf("condition %v", c)
	}
	if len(w.events) != 1 {
		t.Errorf("events %v, want one", w.events)
	}
	w.r.Client = w.api
	w.settle()
	if vmi := w.vmi(); vmi.Status.Phase != v1.Running || vmi.Status.Condition(v1.VMISynchronized) != nil {
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
	if c := vmi.Status.Condition(v1.VMISynchronized); c == nil || !strings.Contains(c.Message, "spec.volumes[0]") || len(w.events) != 1 {
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
