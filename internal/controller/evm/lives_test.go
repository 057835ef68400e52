// SPDX-License-Identifier: Apache-2.0

package evm

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
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/config"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
)

type events []string

func (e *events) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	*e = append(*e, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

type fixed struct{ c config.Config }

func (f fixed) Current(context.Context) (config.Config, error) { return f.c, nil }

// world is an API server with volumes, snapshots, importers and machines that are as
// fast as can be.
type world struct {
	t        *testing.T
	api      client.WithWatch
	r        *Reconciler
	b        *BaseReconciler
	events   events
	clock    time.Time
	made     map[string]int // objects ever created, by kind
	tags     map[string]string
	asked    int
	failures []string // termination messages of the first importers
	changes  int      // writes that took effect
	writes   *crashtest.Writer
	covered  int // writes of which other lives have crashes
}

func newWorld(t *testing.T, w *crashtest.Writer, evms ...*mecs.EnhancedVirtualMachine) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, mecs.AddToScheme, corev1.AddToScheme, storagev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"VolumeSnapshot", "VolumeSnapshotContent", "VolumeSnapshotClass"} {
		scheme.AddKnownTypeWithName(snapshotGroup.WithKind(k), &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(snapshotGroup.WithKind(k+"List"), &unstructured.UnstructuredList{})
	}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local", Annotations: map[string]string{defaultClass: "true"}}, Provisioner: "driver"}
	snapshots := plain(SnapshotClassKind, "", "snaps")
	snapshots.Object["driver"] = "driver"
	objs := []client.Object{class, snapshots}
	for _, e := range evms {
		e.Finalizers = nil
		objs = append(objs, e)
	}
	out := &world{t: t, writes: w, clock: now, made: map[string]int{}, tags: map[string]string{}}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...).WithStatusSubresource(&mecs.EnhancedVirtualMachine{}, &v1.VirtualMachine{}).Build()
	out.api = interceptor.NewClient(api, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			kind := strings.TrimPrefix(fmt.Sprintf("%T", obj), "*v1.")
			if u, ok := obj.(*unstructured.Unstructured); ok {
				kind = u.GetKind()
			}
			obj.SetUID(types.UID(fmt.Sprintf("uid-%s-%d", kind, out.made[kind]+1)))
			obj.SetCreationTimestamp(metav1.NewTime(out.clock))
			if err := c.Create(ctx, obj, opts...); err != nil {
				return err
			}
			out.made[kind]++
			out.changes++
			return nil
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			out.changes++
			return c.Update(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			out.changes++
			return c.Patch(ctx, obj, p, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			out.changes++
			return c.SubResource(sub).Update(ctx, obj, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			out.changes++
			return c.SubResource(sub).Patch(ctx, obj, p, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			err := c.Delete(ctx, obj, opts...)
			if err == nil {
				out.changes++
			}
			return err
		},
	})
	log, clock := slog.New(slog.DiscardHandler), func() time.Time { return out.clock }
	c := settings()
	out.r = &Reconciler{Client: w.Client(out.api), Live: out.api, Events: &out.events, Settings: fixed{c}, Resolver: out, Log: log, Now: clock}
	out.b = &BaseReconciler{Client: w.Client(out.api), Live: out.api, Settings: fixed{c}, Log: log, Now: clock, Importer: "importer:1"}
	return out
}

// Resolve is the registry.
func (w *world) Resolve(_ context.Context, ref string, _ config.Config) (string, error) {
	w.asked++
	if d, ok := w.tags[ref]; ok {
		if d == "" {
			return "", refusal{"NotFound", "no such tag"}
		}
		return d, nil
	}
	return digest, nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}

func (w *world) evms() []mecs.EnhancedVirtualMachine {
	l := &mecs.EnhancedVirtualMachineList{}
	w.must(w.api.List(w.t.Context(), l))
	return l.Items
}

func (w *world) claims() []corev1.PersistentVolumeClaim {
	l := &corev1.PersistentVolumeClaimList{}
	w.must(w.api.List(w.t.Context(), l))
	return l.Items
}

func (w *world) machines() []v1.VirtualMachine {
	l := &v1.VirtualMachineList{}
	w.must(w.api.List(w.t.Context(), l))
	return l.Items
}

func (w *world) plain(kind string) []unstructured.Unstructured {
	l := &unstructured.UnstructuredList{}
	l.SetGroupVersionKind(snapshotGroup.WithKind(kind + "List"))
	w.must(w.api.List(w.t.Context(), l))
	return l.Items
}

// others lets everything else take its next step.
func (w *world) others() {
	ctx := w.t.Context()
	pods := &corev1.PodList{}
	w.must(w.api.List(ctx, pods))
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Status.Phase != "" {
			continue
		}
		p.Status.Phase = corev1.PodSucceeded
		message := `{"digest":"` + digest + `","size":1073741824}`
		if len(w.failures) > 0 {
			p.Status.Phase, message, w.failures = corev1.PodFailed, w.failures[0], w.failures[1:]
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: message}}}}
		w.must(w.api.Status().Update(ctx, p))
	}
	for _, c := range w.claims() {
		if c.DeletionTimestamp == nil && c.Status.Phase == "" && w.source(&c) {
			c.Status.Phase = corev1.ClaimBound
			w.must(w.api.Status().Update(ctx, &c))
		}
	}
	for _, s := range w.plain("VolumeSnapshot") {
		if s.Object["status"] != nil {
			continue
		}
		name, _, _ := unstructured.NestedString(s.Object, "spec", "source", "volumeSnapshotContentName")
		if name == "" {
			name = "content-" + s.GetName()
			content := plain(SnapshotContentKind, "", name)
			content.Object["spec"] = map[string]any{"driver": "driver"}
			content.Object["status"] = map[string]any{"snapshotHandle": "handle-" + s.GetName()}
			if err := w.api.Create(ctx, content); !apierrors.IsAlreadyExists(err) {
				w.must(err)
			}
		}
		s.Object["status"] = map[string]any{"readyToUse": true, "boundVolumeSnapshotContentName": name}
		w.must(w.api.Update(ctx, &s))
	}
	// A dynamic content ends with its snapshot.
	for _, c := range w.plain("VolumeSnapshotContent") {
		name, dynamic := strings.CutPrefix(c.GetName(), "content-")
		if dynamic && !slices.ContainsFunc(w.plain("VolumeSnapshot"), func(s unstructured.Unstructured) bool { return s.GetName() == name }) {
			w.must(w.api.Delete(ctx, &c))
		}
	}
	for _, vm := range w.machines() {
		if vm.Status.PrintableStatus == "" {
			vm.Status.PrintableStatus = v1.StatusRunning
			vm.Status.Conditions = []v1.VirtualMachineCondition{{Type: v1.VMReady, Status: corev1.ConditionTrue}}
			w.must(w.api.Status().Update(ctx, &vm))
		}
	}
}

// source tells whether what a claim is made from is there.
func (w *world) source(c *corev1.PersistentVolumeClaim) bool {
	if c.Spec.DataSource == nil || c.Spec.DataSource.Kind != "VolumeSnapshot" {
		return true
	}
	return slices.ContainsFunc(w.plain("VolumeSnapshot"), func(s unstructured.Unstructured) bool {
		return s.GetNamespace() == c.Namespace && s.GetName() == c.Spec.DataSource.Name && s.Object["status"] != nil
	})
}

// settle runs everything until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	ctx := w.t.Context()
	quiet := 0
	for range 400 {
		before := w.changes
		failed := false
		pass := func(r reconcile.Reconciler, o client.Object) {
			if _, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)}); err != nil {
				failed = true
				if !errors.Is(err, crashtest.ErrCrash) {
					w.t.Fatalf("reconcile: %v", err)
				}
			}
		}
		for _, e := range w.evms() {
			pass(w.r, &e)
		}
		for _, c := range w.claims() {
			pass(w.b, &c)
		}
		w.others()
		w.clock = w.clock.Add(30 * time.Second)
		if !failed && before == w.changes {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 3 {
			return
		}
	}
	w.t.Fatalf("does not settle: %q", w.summary())
}

// begins runs the machine up; its crashes are another life's.
func (w *world) begins() {
	w.settle()
	w.covered = len(w.writes.Log())
}

func (w *world) delete(name string) {
	w.must(w.api.Delete(w.t.Context(), &mecs.EnhancedVirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}))
}

func (w *world) create(evm *mecs.EnhancedVirtualMachine) {
	evm.Finalizers = nil
	w.must(w.api.Create(w.t.Context(), evm))
}

// summary is all that is there in the end, in words.
func (w *world) summary() []string {
	var out []string
	for _, e := range w.evms() {
		out = append(out, fmt.Sprintf("evm %s %s %s %s", e.Name, e.Status.Phase, e.Status.BootVolume, e.Status.VirtualMachine))
	}
	for _, c := range w.claims() {
		s := stateOf(&c)
		name := c.Name
		if c.Labels[VolumeLabel] == BaseVolume {
			name = "base"
		}
		out = append(out, fmt.Sprintf("claim %s %s %s released=%v owned=%v imported=%v handle=%v", name, c.Labels[VolumeLabel], c.Status.Phase,
			c.Annotations[ReleasedAnnotation] != "", c.Annotations[OwnerAnnotation] != "", s.Imported, s.Handle != ""))
	}
	for _, k := range []string{"VolumeSnapshot", "VolumeSnapshotContent"} {
		for _, s := range w.plain(k) {
			out = append(out, k+" "+strings.Split(s.GetName(), "-")[0])
		}
	}
	for _, m := range w.machines() {
		out = append(out, "vm "+m.Name)
	}
	pods := &corev1.PodList{}
	w.must(w.api.List(w.t.Context(), pods))
	for _, p := range pods.Items {
		out = append(out, "pod "+p.Name)
	}
	slices.Sort(out)
	return out
}

const (
	theBase  = "claim base base Bound released=false owned=false imported=true handle=true"
	aBoot    = "claim a-boot boot Bound released=false owned=true imported=false handle=false"
	aLeft    = "claim a-boot boot Bound released=true owned=false imported=false handle=false"
	aRuns    = "evm a Running a-boot a"
	snapshot = "VolumeSnapshot base"
	content  = "VolumeSnapshotContent content"
)

// lives are whole lives. Each is run without a crash and with one at every write.
var lives = map[string]struct {
	evms     []string
	failures []string
	run      func(*world)
	pods     int // importers ever made
	writes   int // at most
	end      []string
}{
	"from the registry": {evms: []string{"a"}, run: (*world).settle, pods: 1, writes: 24, end: []string{aRuns, theBase, aBoot, snapshot, content, "vm a"}},
	"three at once": {evms: []string{"a", "b", "c"}, run: (*world).settle, pods: 1, writes: 54, end: []string{
		aRuns, "evm b Running b-boot b", "evm c Running c-boot c", theBase, aBoot, strings.ReplaceAll(aBoot, "a-boot", "b-boot"), strings.ReplaceAll(aBoot, "a-boot", "c-boot"),
		snapshot, content, "vm a", "vm b", "vm c"}},
	"is deleted": {evms: []string{"a"}, run: func(w *world) { w.begins(); w.delete("a"); w.settle() }, pods: 1, writes: 36, end: []string{theBase, aLeft, snapshot, content}},
	"is deleted early": {evms: []string{"a"}, run: func(w *world) {
		for range 20 {
			if len(w.claims()) > 0 {
				break
			}
			for _, e := range w.evms() {
				_, _ = w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&e)})
			}
		}
		w.delete("a")
		w.settle()
	}, pods: 1, writes: 26, end: []string{theBase, snapshot, content}},
	"comes again": {evms: []string{"a"}, run: func(w *world) {
		w.settle()
		w.delete("a")
		w.begins()
		again := machine("a")
		again.UID = "uid-again"
		w.create(again)
		w.settle()
	}, pods: 1, writes: 50, end: []string{aRuns, theBase, aBoot, snapshot, content, "vm a"}},
	"leaves its disk to another": {evms: []string{"a"}, run: func(w *world) {
		w.settle()
		w.delete("a")
		w.begins()
		b := machine("b")
		b.Spec.BootVolume.ClaimName = "a-boot"
		w.create(b)
		w.settle()
	}, pods: 1, writes: 50, end: []string{"evm b Running a-boot b", theBase, aBoot, snapshot, content, "vm b"}},
	"takes its disk along": {evms: []string{"a"}, run: func(w *world) {
		e := w.evms()[0]
		e.Spec.BootVolume.Retain = mecs.DeleteVolume
		w.must(w.api.Update(w.t.Context(), &e))
		w.begins()
		w.delete("a")
		w.settle()
	}, pods: 1, writes: 36, end: []string{theBase, snapshot, content}},
	"fetched at the third try": {evms: []string{"a"}, failures: []string{`{"reason":"Unreachable","message":"no answer"}`, "nonsense"},
		run: (*world).settle, pods: 3, writes: 36, end: []string{aRuns, theBase, aBoot, snapshot, content, "vm a"}},
	"base is collected": {evms: []string{"a"}, run: func(w *world) {
		w.settle()
		w.delete("a")
		w.begins()
		w.clock = w.clock.Add(8 * 24 * time.Hour)
		w.settle()
	}, pods: 1, writes: 46, end: []string{aLeft}},
}

func TestLives(t *testing.T) {
	t.Parallel()
	for name, l := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(t *testing.T, w *crashtest.Writer) *world {
				var evms []*mecs.EnhancedVirtualMachine
				for _, n := range l.evms {
					evms = append(evms, machine(n))
				}
				world := newWorld(t, w, evms...)
				world.failures = slices.Clone(l.failures)
				l.run(world)
				return world
			}
			quiet := &crashtest.Writer{}
			base := run(t, quiet)
			if got := quiet.Log(); len(got) > l.writes {
				t.Errorf("%d writes, at most %d wanted:\n%s", len(got), l.writes, strings.Join(got, "\n"))
			}
			want := slices.Sorted(slices.Values(l.end))
			if diff := cmp.Diff(want, base.summary(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if base.made["Pod"] != l.pods {
				t.Errorf("%d importers, want %d", base.made["Pod"], l.pods)
			}
			every := 1
			if len(l.evms) > 1 {
				every = 5 // each step is taken by several machines
			}
			for i := base.covered; i < len(quiet.Log()); i += every {
				for _, after := range []bool{false, true} {
					if !after && i > 0 && name != "from the registry" {
						continue // nearly the same as after the write before
					}
					t.Run(fmt.Sprintf("crash at %d, after=%v", i+1, after), func(t *testing.T) {
						w := run(t, &crashtest.Writer{FailAt: i + 1, After: after})
						if diff := cmp.Diff(want, w.summary(), cmpopts.EquateEmpty()); diff != "" {
							t.Errorf("ends differently (-want +got):\n%s", diff)
						}
						if w.made["Pod"] != l.pods {
							t.Errorf("%d importers, want %d", w.made["Pod"], l.pods)
						}
					})
				}
			}
		})
	}
}

// TestManyAtOnce: one question to the registry, one fetch.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var evms []*mecs.EnhancedVirtualMachine
	for i := range 12 {
		evms = append(evms, machine(fmt.Sprintf("m%d", i)))
	}
	w := newWorld(t, &crashtest.Writer{}, evms...)
	w.settle()
	if w.asked != 1 || w.made["Pod"] != 1 || len(w.machines()) != 12 || len(w.claims()) != 13 {
		t.Errorf("%d questions, %d importers, %d machines, %d claims", w.asked, w.made["Pod"], len(w.machines()), len(w.claims()))
	}
}

// TestMovedTag: a new base, and the old machine is left alone.
func TestMovedTag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, machine("a"))
	w.settle()
	w.tags["harbor.example/kubevirt/fedora36:latest"] = "sha256:" + strings.Repeat("f", 64)
	w.create(machine("b"))
	w.settle()
	bases := map[string]string{}
	for _, e := range w.evms() {
		bases[e.Name] = e.Status.BaseVolume.Name
	}
	if w.made["Pod"] != 2 || bases["a"] == bases["b"] || len(w.machines()) != 2 {
		t.Errorf("%d importers, bases %v", w.made["Pod"], bases)
	}
}

// TestCauses: what is in the way is said, and all goes on by itself when it is gone.
func TestCauses(t *testing.T) {
	t.Parallel()
	evm := machine("a")
	w := newWorld(t, &crashtest.Writer{}, evm)
	ref := "harbor.example/kubevirt/fedora36:latest"
	w.tags[ref] = ""
	image := func() *metav1.Condition {
		return meta.FindStatusCondition(w.evms()[0].Status.Conditions, mecs.ConditionImageReady)
	}
	w.settle()
	if c := image(); c == nil || c.Reason != "NotFound" || c.Message != "no such tag" {
		t.Errorf("unknown tag: %+v", c)
	}
	delete(w.tags, ref)
	w.failures = []string{`{"reason":"TooLarge","message":"ask for more"}`}
	w.settle()
	if c := image(); c == nil || c.Reason != "TooLarge" {
		t.Errorf("too large: %+v", c)
	}
	e := w.evms()[0]
	e.Spec.BootVolume.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("20Gi")
	w.must(w.api.Update(t.Context(), &e))
	w.settle()
	if e := w.evms()[0]; e.Status.Phase != mecs.PhaseRunning {
		t.Errorf("with a larger volume: %+v", e.Status)
	}
}

// TestExpiry: a boot volume that was left goes after its retention, and not before.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, machine("a"))
	c := settings()
	c.ReleasedVolumeRetention = 24 * time.Hour
	w.b.Settings = fixed{c}
	w.settle()
	w.delete("a")
	w.settle()
	if n := len(w.claims()); n != 2 {
		t.Fatalf("%d claims", n)
	}
	w.clock = w.clock.Add(25 * time.Hour)
	w.settle()
	if n := len(w.claims()); n != 1 {
		t.Errorf("%d claims after its retention", n)
	}
}
