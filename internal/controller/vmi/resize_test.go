// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
	"github.com/skerry-dev/skerry/internal/resize"
	"github.com/skerry-dev/skerry/internal/resize/resizedoc"
)

var update = flag.Bool("update", false, "write the tables in docs")

// resizing is a world with a machine that runs and can be resized: its API server
// has the pods' resize subresource, and kubelet and agent follow it.
type resizing struct {
	*world
	// admit is the API server's admission of a resize; nil lets everything pass.
	admit func(*corev1.Pod) error
	// The node's capacity for the pod, 0 for no bound, and what the kubelet says
	// beyond it.
	cpu, memory int64 // thousandths, bytes
	beyond      string
	text        string
	told        map[resize.Resource]int64
	silent      bool // the agent does nothing
	unreclaimed bool // the agent does not answer calls to reclaim
	patched     int
}

// sizesOf are the reference machine's: 4 vCPUs and 8 GiB, of which its pod asks
// for a part.
func newResizing(t *testing.T, w *crashtest.Writer, limits corev1.ResourceList) *resizing {
	t.Helper()
	requests := corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("2Gi")}
	vmi := instance(v1.Pending, func(vmi *v1.VirtualMachineInstance) {
		d := &vmi.Spec.Domain
		d.CPU = &v1.CPU{Sockets: 4, Cores: 1, Threads: 1, MaxSockets: 16}
		d.Memory = &v1.Memory{Guest: new(resource.MustParse("8Gi"))}
		d.Resources = &v1.ResourceRequirements{Requests: requests, Limits: limits}
		origin, err := resize.NewOrigin(resize.Sizes{VCPUs: 4, Memory: 8 << 30, Requests: requests, Limits: limits}).String()
		if err != nil {
			t.Fatal(err)
		}
		vmi.Annotations = map[string]string{resize.SizesAnnotation: origin}
	})
	r := &resizing{world: newWorld(t, w, vmi), told: map[resize.Resource]int64{resize.CPU: 4, resize.Memory: 8 << 30}}
	api := interceptor.NewClient(r.api, interceptor.Funcs{SubResourcePatch: r.resizePod})
	r.r.Client = w.Client(api)
	r.run(t)
	return r
}

// resizePod is PATCH pods/…/resize.
func (w *resizing) resizePod(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
	if sub != "resize" {
		return c.SubResource(sub).Patch(ctx, obj, p, opts...)
	}
	pod := &corev1.Pod{}
	if err := w.api.Get(ctx, client.ObjectKeyFromObject(obj), pod); err != nil {
		return err
	}
	was, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	patch, err := p.Data(obj)
	if err != nil {
		return err
	}
	is, err := strategicpatch.StrategicMergePatch(was, patch, &corev1.Pod{})
	if err != nil {
		return err
	}
	next := &corev1.Pod{}
	if err := json.Unmarshal(is, next); err != nil {
		return err
	}
	if w.admit != nil {
		if err := w.admit(next); err != nil {
			return err
		}
	}
	o := (&client.SubResourcePatchOptions{}).ApplyOptions(opts)
	if !slices.Contains(o.DryRun, metav1.DryRunAll) {
		w.patched++
		next.Generation++
		if err := w.api.Update(ctx, next); err != nil {
			return err
		}
	}
	next.DeepCopyInto(obj.(*corev1.Pod))
	return nil
}

// kubeletResizes acts on a changed pod.
func (w *resizing) kubeletResizes() {
	for _, p := range w.podList() {
		if len(p.Status.ContainerStatuses) == 0 || ended(&p) {
			continue
		}
		c := &p.Status.ContainerStatuses[0]
		have := p.Spec.Containers[0].Resources
		p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
		over := w.cpu > 0 && amounts(have, resize.CPU).Request > w.cpu || w.memory > 0 && amounts(have, resize.Memory).Request > w.memory
		if over && c.Resources != nil {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue,
				Reason: w.beyond, Message: w.text, ObservedGeneration: p.Generation})
		} else {
			c.Resources = have.DeepCopy()
		}
		p.Status.ObservedGeneration = p.Generation
		w.must(w.api.Status().Update(w.t.Context(), &p))
	}
}

// agentResizes makes the agent's next step for each resource.
func (w *resizing) agentResizes() {
	vmi := w.vmi()
	if w.silent || vmi == nil || vmi.Status.Phase != v1.Running || len(w.podList()) == 0 {
		return
	}
	pod := w.podList()[0]
	for _, r := range []resize.Resource{resize.CPU, resize.Memory} {
		g := resize.GuestPart(vmi, r)
		m := resize.Machine{Announced: w.told[r], Told: w.told[r], Held: w.told[r]}
		if g != nil {
			m.Announced = g.Target.Value()
		}
		cgroup := resize.Cgroup{Known: true}
		if res := pod.Status.ContainerStatuses[0].Resources; res != nil {
			cgroup.Limit = amounts(*res, r).Limit
		}
		guest := resize.Guest{Size: w.told[r]}
		step := resize.Next(resize.Want{Guest: resize.SpecSize(vmi, r)}, resize.Pod{Said: resize.Published(vmi, r)}, cgroup, m, guest)
		part := &v1.GuestResourceResize{Target: resize.Size(r, m.Announced), Machine: resize.Size(r, w.told[r]), Times: []v1.ResizeTime{{Step: v1.GuestResizeDone}}}
		switch step.Action {
		case resize.Announce:
			part.Target, part.Times = resize.Size(r, step.Guest), nil
		case resize.Plug, resize.Unplug:
			w.told[r] = step.Guest
			part.Machine = resize.Size(r, step.Guest)
		case resize.Reclaim:
			if w.unreclaimed {
				continue
			}
			part.PodUsage = resource.NewQuantity(step.Pod.Limit-1, resource.BinarySI)
		default:
			continue
		}
		resize.SetGuestPart(&vmi.Status, r, part)
		w.must(w.api.Update(w.t.Context(), vmi))
	}
}

// run lets everybody go on until nothing changes.
func (w *resizing) run(t *testing.T) {
	t.Helper()
	quiet := 0
	for range 400 {
		before := w.state()
		if _, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil && err.Error() != crashtest.ErrCrash.Error() &&
			!strings.Contains(err.Error(), crashtest.ErrCrash.Error()) {
			t.Fatalf("reconcile: %v", err)
		}
		w.others()
		w.kubeletResizes()
		w.agentResizes()
		w.clock = w.clock.Add(4 * time.Second)
		if before == w.state() {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 4 {
			return
		}
	}
	t.Fatalf("does not settle: %s", w.state())
}

// state is what is compared to see whether anything changes: not the times at
// which a refusal was told again.
func (w *resizing) state() string {
	vmi := w.vmi()
	out := fmt.Sprintf("%v %v %v", w.told, vmi.Status.Phase, vmi.Spec.Domain.CPU.Sockets)
	for _, r := range []resize.Resource{resize.CPU, resize.Memory} {
		if p := resize.PodPart(vmi, r); p != nil {
			out += fmt.Sprintf(" %s %s %s %s", r, p.Step, p.Target, p.Reason)
		}
		if c := vmi.Status.Condition(resizeCondition(r)); c != nil {
			out += " " + c.Reason
		}
	}
	for _, p := range w.podList() {
		out += " " + text(p)
	}
	return out
}

func text(p corev1.Pod) string {
	c, m := amounts(p.Spec.Containers[0].Resources, resize.CPU), amounts(p.Spec.Containers[0].Resources, resize.Memory)
	return fmt.Sprintf("cpu %s/%s memory %s/%s", orNone(resize.CPU, c.Request), orNone(resize.CPU, c.Limit), orNone(resize.Memory, m.Request), orNone(resize.Memory, m.Limit))
}

// ask changes the instance as the controller of machines does.
func (w *resizing) ask(now resize.Sizes) {
	vmi := w.vmi()
	origin, _, err := resize.ParseOrigin(vmi)
	if err != nil {
		w.t.Fatal(err)
	}
	next := origin.Follow(now)
	next.Live = &now
	if vmi.Annotations[resize.SizesAnnotation], err = next.String(); err != nil {
		w.t.Fatal(err)
	}
	res := next.Resources(now.VCPUs, now.Memory)
	vmi.Spec.Domain.CPU.Sockets = now.VCPUs
	vmi.Spec.Domain.Memory.Guest = resource.NewQuantity(now.Memory, resource.BinarySI)
	vmi.Spec.Domain.Resources = &res
	w.must(w.api.Update(w.t.Context(), vmi))
}

func sizes(vcpus, gib int64, limits corev1.ResourceList) resize.Sizes {
	return resize.Sizes{VCPUs: vcpus, Memory: gib << 30, Limits: limits,
		Requests: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("2Gi")}}
}

// CPU and memory up and down, together and apart, with limits and without: the
// pod is right in the end, whatever write the controller dies at.
func TestResizeLives(t *testing.T) {
	t.Parallel()
	limits := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}
	for name, c := range map[string]struct {
		limits corev1.ResourceList
		want   []string // the pod after each
	}{
		"without limits": {nil, []string{
			"cpu 3/none memory 2368Mi/none", "cpu 2500m/none memory 2112Mi/none",
		}},
		"with limits": {limits, []string{
			"cpu 3/6 memory 2368Mi/9280Mi", "cpu 2500m/5 memory 2112Mi/8256Mi",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			life := func(t *testing.T, w *crashtest.Writer) {
				r := newResizing(t, w, c.limits)
				for i, s := range []resize.Sizes{sizes(6, 9, c.limits), sizes(5, 8, c.limits)} {
					r.ask(s)
					r.run(t)
					pods := r.podList()
					if len(pods) != 1 || text(pods[0]) != c.want[i] {
						t.Fatalf("change %d: the pods are %s, want %s\n%s", i, text(pods[0]), c.want[i], r.state())
					}
					if r.told[resize.CPU] != s.VCPUs || r.told[resize.Memory] != s.Memory {
						t.Errorf("change %d: the machine has %v, want %+v", i, r.told, s)
					}
					st := r.vmi().Status
					if st.Condition(v1.VMIHotVCPUChange) != nil || st.Condition(v1.VMIHotMemoryChange) != nil || st.Resize.Pod.CPU.Step != v1.PodResizeDone {
						t.Errorf("change %d: not told as done: %+v", i, st.Conditions)
					}
				}
			}
			quiet := &crashtest.Writer{}
			life(t, quiet)
			// The first writes are those of a start.
			for i := 4; i < len(quiet.Log()); i++ {
				// Before it took effect and after, by turns, and the other way round in the
				// other case: each write is one of the two.
				life(t, &crashtest.Writer{FailAt: i + 1, After: (c.limits == nil) == (i%2 == 0)})
			}
		})
	}
}

// CPU and memory change in one edit, or one right after the other, while the cache
// shows the pod as it was before the first change of it: the dry run's answer must
// be compared with the pod as it is, and nothing be taken for admission's doing.
func TestResizeWithStaleCache(t *testing.T) {
	t.Parallel()
	limits := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}
	for name, asked := range map[string][]resize.Sizes{
		"one edit":  {sizes(6, 9, limits)},
		"two edits": {sizes(6, 8, limits), sizes(6, 9, limits)},
		"and back":  {sizes(6, 9, limits), sizes(5, 8, limits)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newResizing(t, &crashtest.Writer{}, limits)
			old, stale := r.podList()[0], 0
			cached := func() *corev1.Pod {
				if stale++; stale%3 == 0 { // it catches up now and then
					old = r.podList()[0]
				}
				return &old
			}
			r.r.Client = interceptor.NewClient(r.r.Client.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
					if p, ok := obj.(*corev1.Pod); ok && key.Name == old.Name {
						cached().DeepCopyInto(p)
						return nil
					}
					return c.Get(ctx, key, obj, opts...)
				},
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if pods, ok := list.(*corev1.PodList); ok {
						pods.Items = []corev1.Pod{*cached().DeepCopy()}
						return nil
					}
					return c.List(ctx, list, opts...)
				},
			})
			for _, s := range asked {
				r.ask(s)
				r.run(t)
			}
			if stale == 0 {
				t.Error("the pod was never read from the cache")
			}
			// Each change is made once, though the cache goes on asking for it.
			if len(asked) > 1 && asked[1].VCPUs < asked[0].VCPUs {
				t.Logf("%d changes of the pod", r.patched) // two resources are cut when each guest gave back
			} else if r.patched != len(asked) {
				t.Errorf("the pod was changed %d times for %d edits", r.patched, len(asked))
			}
			last := asked[len(asked)-1]
			if r.told[resize.CPU] != last.VCPUs || r.told[resize.Memory] != last.Memory {
				t.Errorf("the machine has %v, want %+v", r.told, last)
			}
			for _, e := range r.events {
				if strings.Contains(e, EventResizeRefused) {
					t.Errorf("told of a refusal that was none: %s", e)
				}
			}
		})
	}
}

// vCPUs cost QEMU memory, so the pod's memory grows with its CPUs alone, too.
func TestResizeMemoryOfVCPUs(t *testing.T) {
	t.Parallel()
	limits := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}
	r := newResizing(t, &crashtest.Writer{}, limits)
	r.r.Overhead = func(vmi *v1.VirtualMachineInstance, _ bool) resource.Quantity {
		return *resource.NewQuantity((64-4*3+vmi.Spec.Domain.CPU.Sockets*3)<<20, resource.BinarySI)
	}
	for _, c := range []struct {
		ask  resize.Sizes
		want string
	}{
		{sizes(6, 8, limits), "cpu 3/6 memory 2118Mi/8262Mi"},
		{sizes(4, 8, limits), "cpu 2/4 memory 2112Mi/8256Mi"},
	} {
		r.ask(c.ask)
		r.run(t)
		if got := text(r.podList()[0]); got != c.want || r.told[resize.CPU] != c.ask.VCPUs {
			t.Errorf("%d vCPUs: the pod has %s, want %s; %s", c.ask.VCPUs, got, c.want, r.state())
		}
	}
}

// Nobody who has not asked for it has a pod changed, and nothing is written.
func TestNoResizeUnasked(t *testing.T) {
	t.Parallel()
	r := newResizing(t, &crashtest.Writer{}, nil)
	if r.patched != 0 || r.vmi().Status.Resize != nil {
		t.Errorf("the pod was changed %d times, status %+v", r.patched, r.vmi().Status.Resize)
	}
	// Another version's idea of the overhead is no reason either, and only what the
	// change adds to it counts.
	r.r.Overhead = func(vmi *v1.VirtualMachineInstance, _ bool) resource.Quantity {
		return *resource.NewQuantity(100<<20+vmi.Spec.Domain.Memory.Guest.Value()/512, resource.BinarySI)
	}
	r.run(t)
	if r.patched != 0 {
		t.Errorf("the pod was changed %d times", r.patched)
	}
	r.ask(sizes(4, 16, nil))
	r.run(t)
	if got, want := text(r.podList()[0]), "cpu 2/none memory 4176Mi/none"; got != want { // 4096 + 64 as recorded + 16
		t.Errorf("the pod has %s, want %s", got, want)
	}
}

// refusals are what can stand in the way of more, with the words that it comes in.
var refusals = []struct {
	what string
	set  func(*resizing)
	ask  resize.Sizes
	// lift takes it away; the change then goes through by itself.
	lift func(*resizing)

	condition v1.VirtualMachineInstanceConditionType
	status    corev1.ConditionStatus
	reason    string
	message   string
	advice    string // in the docs
}{
	{
		what: "the namespace's quota is full",
		set: func(w *resizing) {
			w.admit = func(p *corev1.Pod) error {
				if amounts(p.Spec.Containers[0].Resources, resize.CPU).Request > 2000 {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, p.Name, fmt.Errorf("exceeded quota: full, requested: requests.cpu=1, used: requests.cpu=2, limited: requests.cpu=2"))
				}
				return nil
			}
		},
		ask: sizes(6, 8, nil), lift: func(w *resizing) { w.admit = nil },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionFalse, reason: "Forbidden", message: "exceeded quota: full",
		advice: "raise the quota or stop something",
	},
	{
		what: "a LimitRange adds a limit to the pod",
		set: func(w *resizing) {
			w.admit = func(p *corev1.Pod) error {
				p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("500m")}
				return nil
			}
		},
		ask: sizes(6, 8, nil), lift: func(w *resizing) { w.admit = nil },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionFalse, reason: ReasonAdmissionChanged, message: "resources.limits.cpu 500m instead of none",
		advice: "take the LimitRange away, or give the machine limits of its own and restart it",
	},
	{
		what: "the pod has a limit that the machine has not (a LimitRange filled it in at the start)",
		set: func(w *resizing) {
			p := w.podList()[0]
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("9Gi")}
			p.Generation++
			w.must(w.api.Update(w.t.Context(), &p))
		},
		ask:       sizes(4, 16, nil),
		condition: v1.VMIHotMemoryChange, status: corev1.ConditionFalse, reason: ReasonForeignLimit, message: "a limit of 9Gi for memory that is not in the machine's spec",
		advice: "give the machine limits of its own and restart it",
	},
	{
		what: "a LimitRange's maximum",
		set: func(w *resizing) {
			w.admit = func(p *corev1.Pod) error {
				if amounts(p.Spec.Containers[0].Resources, resize.Memory).Request > 3<<30 {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, p.Name, fmt.Errorf("maximum memory usage per Container is 3Gi, but request is 4160Mi"))
				}
				return nil
			}
		},
		ask: sizes(4, 16, nil), lift: func(w *resizing) { w.admit = nil },
		condition: v1.VMIHotMemoryChange, status: corev1.ConditionFalse, reason: "Forbidden", message: "maximum memory usage per Container is 3Gi",
		advice: "stay within the LimitRange",
	},
	{
		what: "the pod's QoS class would change",
		set: func(w *resizing) {
			w.admit = func(p *corev1.Pod) error {
				return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, p.Name, nil)
			}
		},
		ask: sizes(6, 8, nil), lift: func(w *resizing) { w.admit = nil },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionFalse, reason: "Invalid", message: "is invalid",
		advice: "keep requests equal to limits where they are, and apart where they are not",
	},
	{
		what: "the node is too small, and the API server knows",
		set: func(w *resizing) {
			w.admit = func(p *corev1.Pod) error {
				if amounts(p.Spec.Containers[0].Resources, resize.CPU).Request > 2000 {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, p.Name, fmt.Errorf("node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000"))
				}
				return nil
			}
		},
		ask: sizes(6, 8, nil), lift: func(w *resizing) { w.admit = nil },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionFalse, reason: "Forbidden", message: "node node-a is too small for it",
		advice: "ask for less, or move the machine",
	},
	{
		what: "the node has no room now",
		set: func(w *resizing) {
			w.memory, w.beyond, w.text = 3<<30, corev1.PodReasonDeferred, "Node didn't have enough resource: memory, requested: 4362076160, used: 0, capacity: 4294967296"
		},
		ask: sizes(4, 16, nil), lift: func(w *resizing) { w.memory = 0 },
		condition: v1.VMIHotMemoryChange, status: corev1.ConditionTrue, reason: "Deferred", message: "goes through as soon as node node-a has room",
		advice: "waits: it goes through when there is room, or ask for less",
	},
	{
		what: "the node is too small, as only its kubelet knows",
		set: func(w *resizing) {
			w.cpu, w.beyond, w.text = 2500, corev1.PodReasonInfeasible, "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2500"
		},
		ask: sizes(6, 8, nil), lift: func(w *resizing) { w.cpu, w.clock = 0, w.clock.Add(retryInfeasible) },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionFalse, reason: "Infeasible", message: "node node-a is too small for it",
		advice: "ask for less, or move the machine; the pod was put back",
	},
	{
		what: "a Guaranteed pod on a node with static CPU manager",
		set: func(w *resizing) {
			w.cpu, w.beyond, w.text = 2500, corev1.PodReasonInfeasible, `Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"`
		},
		ask: sizes(6, 8, nil), lift: func(w *resizing) { w.cpu, w.clock = 0, w.clock.Add(retryInfeasible) },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionFalse, reason: "Infeasible", message: "or run its kubelet with the policy none",
		advice: "restart the machine, or run that kubelet with the policy none",
	},
	{
		what: "the node agent does not answer",
		set:  func(w *resizing) { w.silent = true },
		ask:  sizes(6, 8, nil), lift: func(w *resizing) { w.silent = false },
		condition: v1.VMIHotVCPUChange, status: corev1.ConditionTrue, reason: ReasonGuestResizing, message: "the agent of node node-a has not begun",
		advice: "waits for the agent; see that skerry-node runs on the node",
	},
}

func TestResizeRefusals(t *testing.T) {
	t.Parallel()
	var rows []resizedoc.Row
	for _, c := range refusals {
		t.Run(c.what, func(t *testing.T) {
			r := newResizing(t, &crashtest.Writer{}, nil)
			c.set(r)
			before := text(r.podList()[0])
			r.ask(c.ask)
			r.run(t)
			got := r.vmi().Status.Condition(c.condition)
			if got == nil || got.Status != c.status || got.Reason != c.reason || !strings.Contains(got.Message, c.message) {
				t.Fatalf("condition %+v, want %s %s …%s…", got, c.status, c.reason, c.message)
			}
			if c.status == corev1.ConditionFalse && text(r.podList()[0]) != before {
				t.Errorf("the pod was left with %s, it had %s", text(r.podList()[0]), before)
			}
			if r.told[resize.CPU] != 4 || r.told[resize.Memory] != 8<<30 {
				t.Errorf("the machine was changed to %v", r.told)
			}
			outcome := "refused"
			if c.status == corev1.ConditionTrue {
				outcome = "waits"
			}
			rows = append(rows, resizedoc.Row{c.what, outcome, "`" + c.reason + "`", c.advice})
			if c.lift == nil {
				return
			}
			refused := slices.DeleteFunc(slices.Clone([]string(r.events)), func(e string) bool { return !strings.Contains(e, EventResizeRefused) })
			if c.reason != ReasonGuestResizing && len(refused) != 1 {
				t.Errorf("told %d times: %q", len(refused), refused)
			}
			writes := len(r.events)
			c.lift(r)
			for range 40 { // it is asked about again by and by
				r.run(t)
				if r.told[resize.CPU] == c.ask.VCPUs && r.told[resize.Memory] == c.ask.Memory {
					break
				}
				r.clock = r.clock.Add(maxRefused)
			}
			if r.told[resize.CPU] != c.ask.VCPUs || r.told[resize.Memory] != c.ask.Memory || r.vmi().Status.Condition(c.condition) != nil {
				t.Errorf("it does not go through when it could: machine %v, %s", r.told, r.state())
			}
			if n := len(r.events) - writes; n > 8 {
				t.Errorf("%d Events for one change: %q", n, r.events[writes:])
			}
		})
	}
	if err := resizedoc.Check("../../..", "refusals", resizedoc.Row{"what stands in the way", "", "reason", "way out"}, rows, *update); err != nil {
		t.Error(err)
	}
}

// A change that is taken back while it waits leaves nothing.
func TestResizeTakenBack(t *testing.T) {
	t.Parallel()
	for _, beyond := range []string{corev1.PodReasonDeferred, corev1.PodReasonInfeasible} {
		r := newResizing(t, &crashtest.Writer{}, nil)
		r.memory, r.beyond, r.text = 3<<30, beyond, "Node didn't have enough resource: memory"
		before := text(r.podList()[0])
		r.ask(sizes(4, 16, nil))
		r.run(t)
		r.ask(sizes(4, 8, nil))
		r.run(t)
		if got := text(r.podList()[0]); got != before || r.vmi().Status.Condition(v1.VMIHotMemoryChange) != nil {
			t.Errorf("%s, taken back: the pod has %s and had %s; %+v", beyond, got, before, r.vmi().Status.Conditions)
		}
		// A smaller wish that fits goes through at once.
		r.ask(sizes(4, 16, nil))
		r.run(t)
		r.ask(sizes(4, 10, nil))
		r.run(t)
		if r.told[resize.Memory] != 10<<30 || r.vmi().Status.Condition(v1.VMIHotMemoryChange) != nil {
			t.Errorf("%s, then less: the machine has %v, %s", beyond, r.told, r.state())
		}
	}
}

// One resource's refusal does not hold the other up.
func TestResizeOneRefused(t *testing.T) {
	t.Parallel()
	r := newResizing(t, &crashtest.Writer{}, nil)
	r.memory, r.beyond, r.text = 3<<30, corev1.PodReasonInfeasible, "Node didn't have enough capacity: memory, requested: 1, capacity: 0"
	r.ask(sizes(6, 16, nil))
	r.run(t)
	st := r.vmi().Status
	if c := st.Condition(v1.VMIHotMemoryChange); c == nil || c.Reason != "Infeasible" || st.Condition(v1.VMIHotVCPUChange) != nil || r.told[resize.CPU] != 6 {
		t.Errorf("machine %v, conditions %+v", r.told, st.Conditions)
	}
	if got, want := text(r.podList()[0]), "cpu 3/none memory 2112Mi/none"; got != want {
		t.Errorf("the pod has %s, want %s", got, want)
	}
}

// A memory limit is cut only after the agent has answered, or has not for long.
func TestResizeLimitCut(t *testing.T) {
	t.Parallel()
	limits := func(memory string) corev1.ResourceList {
		return corev1.ResourceList{"memory": resource.MustParse(memory)}
	}
	for _, unreclaimed := range []bool{false, true} {
		r := newResizing(t, &crashtest.Writer{}, limits("10Gi"))
		r.unreclaimed = unreclaimed
		r.ask(sizes(4, 8, limits("9Gi")))
		r.run(t)
		steps := ""
		for _, at := range r.vmi().Status.Resize.Pod.Memory.Times {
			steps += at.Step + " "
		}
		if steps != "Reclaim Shrinking Done " {
			t.Errorf("steps %s", steps)
		}
		if got, want := text(r.podList()[0]), "cpu 2/none memory 2112Mi/9280Mi"; got != want {
			t.Errorf("the pod has %s, want %s", got, want)
		}
	}
}

// Whatever is in the annotation, the controller goes on.
func FuzzSizesAnnotation(f *testing.F) {
	f.Add(`{"boot":{"vcpus":4,"memory":8589934592},"base":{"vcpus":4,"memory":1},"live":{"vcpus":4096,"memory":17592186044416}}`)
	f.Add(`{"boot":{"vcpus":1,"memory":1},"base":{"vcpus":1,"memory":1,"requests":{"memory":"8Ei","cpu":"9e99"}},"live":{"vcpus":1,"memory":1}}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		vmi := instance(v1.Running)
		vmi.Annotations = map[string]string{resize.SizesAnnotation: text}
		p := pod(running)
		p.Annotations = map[string]string{v1.MemoryOverheadAnnotation: strconv.Itoa(64 << 20)}
		Next(Input{VMI: vmi, Pods: []corev1.Pod{p}, Live: true, Now: now,
			Overhead: func(*v1.VirtualMachineInstance, bool) resource.Quantity { return resource.MustParse("64Mi") }})
	})
}
