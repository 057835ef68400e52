// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podtemplate"
	"github.com/skerry-dev/skerry/internal/resize"
)

// PodChange is a change of one resource of the pod's container.
type PodChange struct {
	Resource resize.Resource
	Step     resize.Step
	// To is what the container is to have. No limit is 0.
	To resize.Amounts
}

const (
	// reclaimPatience is how long the agent may take to bring a pod's charged
	// memory below a smaller limit before the kubelet is asked without.
	reclaimPatience = 10 * time.Second
	// What the API server refused is tried again when it has been refused for half
	// as long again, within these bounds.
	minRefused = 5 * time.Second
	maxRefused = 2 * time.Minute
	// What the node can never grant is tried again this much later: its size may
	// have changed.
	retryInfeasible = 5 * time.Minute
)

// resize brings the pod of a running machine and the guest's wishes together.
func (d *decision) resize(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil || d.in.Overhead == nil {
		return
	}
	origin, ok, err := resize.ParseOrigin(d.vmi)
	if err != nil {
		d.st.SetCondition(v1.VMIHotMemoryChange, corev1.ConditionFalse, ReasonResizeUnknown, printable(err.Error()), d.in.Now)
		return
	}
	if !ok || origin.Live == nil {
		return // nobody has changed it
	}
	for _, r := range []resize.Resource{resize.CPU, resize.Memory} {
		d.resizeOne(pod, origin, r)
	}
}

func (d *decision) resizeOne(pod *corev1.Pod, origin resize.Origin, r resize.Resource) {
	boot := origin.Boot.VCPUs
	if r == resize.Memory {
		boot = origin.Boot.Memory
	}
	m := resize.Reported(d.vmi, r, boot)
	want, err := d.want(pod, origin, r, m)
	if err != nil {
		d.st.SetCondition(resizeCondition(r), corev1.ConditionFalse, ReasonResizeUnknown, printable(err.Error()), d.in.Now)
		return
	}
	p := d.podSide(pod, r, want)
	step := resize.Next(want, p, resize.Cgroup{}, m, d.guestSide(r, want.Guest))
	if resize.PodPart(d.vmi, r) == nil && (step.Action == resize.Done || !d.touched(origin, r, want.Guest, boot)) {
		return
	}
	reason, message := "", ""
	if step.Action == resize.AwaitKubelet || step.Action == resize.RevertPod {
		reason, message = kubeletSays(pod, r, p)
	}
	d.publish(r, step, resize.Say(step, p), reason, message)
	switch step.Action {
	case resize.GrowPod, resize.CutPod, resize.RevertPod:
		// A cached pod may lack what was changed a moment ago, the other resource's
		// size for one, and the dry run's answer would be compared with that.
		if !d.sure() {
			return
		}
		d.plan.Resize = append(d.plan.Resize, PodChange{Resource: r, Step: step, To: step.Pod})
		d.plan.ResizePod = pod
	}
	setResizeCondition(d.vmi, r, d.in.Now)
	d.wakeForResize(r, step)
}

// want is what the spec asks for and what the pod needs for that.
func (d *decision) want(pod *corev1.Pod, origin resize.Origin, r resize.Resource, m resize.Machine) (resize.Want, error) {
	w := resize.Want{Guest: resize.SpecSize(d.vmi, r)}
	var err error
	if w.Pod, err = d.needs(pod, origin, r, w.Guest); err != nil {
		return w, err
	}
	w.Floor, err = d.needs(pod, origin, r, m.Most())
	return w, err
}

// needs is what the pod needs of the resource for a guest of that size.
func (d *decision) needs(pod *corev1.Pod, origin resize.Origin, r resize.Resource, size int64) (resize.Amounts, error) {
	vmi := sized(d.vmi, r, size)
	if r == resize.Memory {
		// Each vCPU needs some memory of QEMU's, until the guest has given it back.
		cpus := resize.Reported(d.vmi, resize.CPU, origin.Boot.VCPUs).Most()
		vmi = sized(vmi, resize.CPU, max(resize.SpecSize(vmi, resize.CPU), cpus))
	}
	kvm := hasKVM(pod)
	atBoot := sized(sized(d.vmi, resize.CPU, origin.Boot.VCPUs), resize.Memory, origin.Boot.Memory)
	// The pod has the overhead that a controller of its time worked out; only the
	// difference is of today.
	overhead := d.in.Overhead(vmi, kvm)
	if recorded, err := strconv.ParseInt(pod.Annotations[v1.MemoryOverheadAnnotation], 10, 64); err == nil && recorded > 0 {
		overhead.Sub(d.in.Overhead(atBoot, kvm))
		overhead.Add(*resource.NewQuantity(recorded, resource.BinarySI))
	}
	need, err := podtemplate.Needs(vmi, overhead)
	if err != nil {
		return resize.Amounts{}, err
	}
	return amounts(need, r), nil
}

// sized is vmi with one size changed, and what it asks for in proportion.
func sized(vmi *v1.VirtualMachineInstance, r resize.Resource, size int64) *v1.VirtualMachineInstance {
	from := resize.SpecSize(vmi, r)
	if from == size || size <= 0 {
		return vmi
	}
	out := vmi.DeepCopy()
	dom := &out.Spec.Domain
	name := corev1.ResourceMemory
	if r == resize.CPU {
		name = corev1.ResourceCPU
		if dom.CPU == nil {
			dom.CPU = &v1.CPU{}
		}
		dom.CPU.Sockets = size / resize.VCPUsPerSocket(vmi)
	} else {
		if dom.Memory == nil {
			dom.Memory = &v1.Memory{}
		}
		dom.Memory.Guest = resource.NewQuantity(size, resource.BinarySI)
	}
	if dom.Resources != nil {
		for _, l := range []corev1.ResourceList{dom.Resources.Requests, dom.Resources.Limits} {
			if q, ok := l[name]; ok {
				l[name] = resize.Scale(q, r, size, from)
			}
		}
	}
	return out
}

func hasKVM(pod *corev1.Pod) bool {
	_, ok := pod.Spec.Containers[0].Resources.Limits[v1.KVMResource]
	return ok
}

func amounts(have corev1.ResourceRequirements, r resize.Resource) resize.Amounts {
	name, value := corev1.ResourceMemory, func(q resource.Quantity) int64 { return q.Value() }
	if r == resize.CPU {
		name, value = corev1.ResourceCPU, func(q resource.Quantity) int64 { return q.MilliValue() }
	}
	var out resize.Amounts
	if q, ok := have.Requests[name]; ok {
		out.Request = value(q)
	}
	if q, ok := have.Limits[name]; ok {
		out.Limit = value(q)
	}
	return out
}

// podSide is what the pod and its kubelet say.
func (d *decision) podSide(pod *corev1.Pod, r resize.Resource, want resize.Want) resize.Pod {
	p := resize.Pod{Known: true, Have: amounts(pod.Spec.Containers[0].Resources, r), Said: resize.Published(d.vmi, r)}
	p.Actual = p.Have
	if c := compute(pod); c != nil && c.Resources != nil {
		p.Actual = amounts(*c.Resources, r)
		// A share of CPU time has not been in thousandths all the way.
		if r == resize.CPU && p.Actual.Request != p.Have.Request && abs(p.Actual.Request-p.Have.Request) <= 2 {
			p.Actual.Request = p.Have.Request
		}
	}
	pending, progress := podCondition(pod, corev1.PodResizePending), podCondition(pod, corev1.PodResizeInProgress)
	current := func(c *corev1.PodCondition) bool {
		return c != nil && c.Status == corev1.ConditionTrue && (c.ObservedGeneration == 0 || c.ObservedGeneration >= pod.Generation)
	}
	if current(pending) && p.Have != p.Actual && concerns(pending.Message, r) {
		switch pending.Reason {
		case corev1.PodReasonInfeasible:
			p.Pending = resize.Infeasible
		case corev1.PodReasonDeferred:
			p.Pending = resize.Deferred
		}
	}
	waits := pending != nil && pending.Status == corev1.ConditionTrue || progress != nil && progress.Status == corev1.ConditionTrue
	p.Settled = pod.Status.ObservedGeneration >= pod.Generation && p.Have == p.Actual && !waits
	if p.Said.Refuses(want) {
		p.Held = d.in.Now.Before(d.retryAt(r, p.Said.Stage))
	}
	if r == resize.CPU {
		p.Hurry = true // there is nothing to reclaim
	} else if p.Said.Stage == resize.Reclaiming {
		if at, ok := stamp(resize.PodPart(d.vmi, r), string(resize.Reclaiming)); ok {
			g := resize.GuestPart(d.vmi, r)
			p.Hurry = (g == nil || g.PodUsage == nil) && !d.in.Now.Before(at.Add(reclaimPatience))
		}
	}
	return p
}

// concerns tells whether what the kubelet says may be about the resource: its
// condition is about the whole pod, its text about one resource.
func concerns(message string, r resize.Resource) bool {
	other := string(resize.CPU)
	if r == resize.CPU {
		other = string(resize.Memory)
	}
	m := strings.ToLower(message)
	return strings.Contains(m, string(r)) || !strings.Contains(m, other)
}

func abs(n int64) int64 { return max(n, -n) }

// guestSide is what the guest says. A guest that the agent has seen through counts
// as having the whole size, of which its kernel may keep some for itself.
func (d *decision) guestSide(r resize.Resource, want int64) resize.Guest {
	g := resize.GuestPart(d.vmi, r)
	if g == nil || g.Target == nil {
		return resize.Guest{Size: want} // never told anything: it has what it booted with
	}
	out := resize.Guest{Size: resize.Used(d.vmi, r)}
	if n := len(g.Times); n > 0 && g.Times[n-1].Step == v1.GuestResizeDone && g.Target.Value() == want {
		out.Size = want
	}
	if g.PodUsage != nil {
		out.Usage = g.PodUsage.Value()
	}
	return out
}

// touched tells whether the resource was changed since the machine was started.
func (d *decision) touched(origin resize.Origin, r resize.Resource, size, boot int64) bool {
	if size != boot {
		return true
	}
	// vCPUs cost QEMU memory.
	if r == resize.Memory && resize.SpecSize(d.vmi, resize.CPU) != origin.Boot.VCPUs {
		return true
	}
	now := v1.ResourceRequirements{}
	if res := d.vmi.Spec.Domain.Resources; res != nil {
		now = *res
	}
	then := resize.NewOrigin(origin.Boot).Resources(origin.Boot.VCPUs, origin.Boot.Memory)
	return amounts(corev1.ResourceRequirements{Requests: now.Requests, Limits: now.Limits}, r) !=
		amounts(corev1.ResourceRequirements{Requests: then.Requests, Limits: then.Limits}, r)
}

// publish writes the controller's part.
func (d *decision) publish(r resize.Resource, step resize.Step, said resize.Said, reason, message string) {
	old := resize.PodPart(d.vmi, r)
	if step.Action == resize.Hold && old != nil {
		return
	}
	part := partOf(r, said, old, d.in.Now)
	part.Reason, part.Message = reason, message
	if equality.Semantic.DeepEqual(part, old) {
		return
	}
	resize.SetPodPart(d.st, r, part)
	if old == nil || old.Step != part.Step || !sameQuantity(old.Target, part.Target) {
		d.tell(r, part)
	}
}

// partOf is the published form of what the controller says.
func partOf(r resize.Resource, said resize.Said, old *v1.PodResourceResize, now time.Time) *v1.PodResourceResize {
	part := &v1.PodResourceResize{
		Step:    said.Stage,
		Target:  resize.Size(r, said.Target),
		Request: resize.Quantity(r, said.Request),
		Limit:   resize.Quantity(r, said.Limit),
	}
	if old != nil && sameQuantity(old.Target, part.Target) && old.Step != v1.PodResizeDone {
		part.Times = slices.Clone(old.Times)
	}
	if old != nil && old.Step == part.Step && sameQuantity(old.Target, part.Target) {
		part.Times = slices.Clone(old.Times)
		return part
	}
	part.Times = append(part.Times, v1.ResizeTime{Step: string(part.Step), Time: metav1.NewMicroTime(now.Truncate(time.Microsecond))})
	if len(part.Times) > maxTimes { // somebody goes back and forth
		part.Times = part.Times[len(part.Times)-maxTimes:]
	}
	return part
}

const maxTimes = 12

func sameQuantity(a, b *resource.Quantity) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Cmp(*b) == 0
}

// stamp is when the step was reached last.
func stamp(p *v1.PodResourceResize, step string) (time.Time, bool) {
	if p == nil {
		return time.Time{}, false
	}
	for _, t := range slices.Backward(p.Times) {
		if t.Step == step {
			return t.Time.Time, true
		}
	}
	return time.Time{}, false
}

// retryAt is when a refusal is asked about again.
func (d *decision) retryAt(r resize.Resource, stage resize.Stage) time.Time {
	part := resize.PodPart(d.vmi, r)
	last, ok := stamp(part, string(stage))
	if !ok {
		return time.Time{}
	}
	if stage == resize.NoWay {
		return last.Add(retryInfeasible)
	}
	first := last
	for _, t := range part.Times {
		if t.Step == string(stage) {
			first = t.Time.Time
			break
		}
	}
	return last.Add(min(max(last.Sub(first)/2, minRefused), maxRefused))
}

// wakeForResize asks for another pass where nothing else brings one.
func (d *decision) wakeForResize(r resize.Resource, step resize.Step) {
	var at time.Time
	switch step.Action {
	case resize.Hold:
		at = d.retryAt(r, resize.Published(d.vmi, r).Stage)
	case resize.Reclaim:
		if g := resize.GuestPart(d.vmi, r); g != nil && g.PodUsage != nil {
			return // it answered; its next word brings a pass
		}
		t, _ := stamp(resize.PodPart(d.vmi, r), string(resize.Reclaiming))
		at = t.Add(reclaimPatience)
	default:
		return
	}
	wait := max(at.Sub(d.in.Now), time.Second)
	if d.plan.After == 0 || wait < d.plan.After {
		d.plan.After = wait
	}
}

func (d *decision) tell(r resize.Resource, part *v1.PodResourceResize) {
	note, size := "", sizeText(r, part.Target)
	switch part.Step {
	case v1.PodResizeAsked:
		note = fmt.Sprintf("the kubelet is asked for what a guest with %s needs: request %s%s", size, part.Request, limitText(part))
	case v1.PodResizeGranted:
		note = fmt.Sprintf("the pod has what a guest with %s needs; the node agent's turn", size)
	case v1.PodResizeGuestFirst:
		note = fmt.Sprintf("the guest is to give back down to %s before the pod is cut", size)
	case v1.PodResizeShrinking:
		note = fmt.Sprintf("the guest has %s; the pod is cut to match: request %s%s", size, part.Request, limitText(part))
	case v1.PodResizeDone:
		note = fmt.Sprintf("guest and pod have %s", size)
	case v1.PodResizeDeferred, v1.PodResizeInfeasible:
		d.event(corev1.EventTypeWarning, EventResizeRefused, fmt.Sprintf("%s: %s: %s", r, or(part.Reason, string(part.Step)), part.Message))
		return
	default:
		return
	}
	d.event(corev1.EventTypeNormal, EventResize, fmt.Sprintf("%s: %s", r, note))
}

func limitText(p *v1.PodResourceResize) string {
	if p.Limit == nil {
		return ""
	}
	return ", limit " + p.Limit.String()
}

func sizeText(r resize.Resource, q *resource.Quantity) string {
	if q == nil {
		return "?"
	}
	if r == resize.CPU {
		return q.String() + " vCPUs"
	}
	return q.String()
}
