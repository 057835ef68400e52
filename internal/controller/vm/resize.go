// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mach "github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/resize"
)

// FixedAnnotation is on an instance and has the hash of the template's spec that
// it was made from, without what can change while it runs.
const FixedAnnotation = "skerry.dev/template-fixed-hash"

// LiveChange is a change of the running instance's sizes.
type LiveChange struct {
	// Was is the annotation with the sizes that the change starts from. It is not
	// made when another has been made since.
	Was, Is string
	Sockets int64
	Guest   string // a quantity
	// Resources has everything that domain.resources is to have.
	Resources *v1.ResourceRequirements
	Note      string
}

// Patch is the change as a JSON patch (RFC 6902): a test, then replacements.
func (c *LiveChange) Patch() ([]byte, error) {
	annotation := "/metadata/annotations/" + strings.ReplaceAll(resize.SizesAnnotation, "/", "~1")
	ops := []map[string]any{
		{"op": "test", "path": annotation, "value": c.Was},
		{"op": "replace", "path": annotation, "value": c.Is},
		{"op": "replace", "path": "/spec/domain/cpu/sockets", "value": c.Sockets},
		{"op": "replace", "path": "/spec/domain/memory/guest", "value": c.Guest},
	}
	if c.Resources != nil {
		ops = append(ops, map[string]any{"op": "add", "path": "/spec/domain/resources", "value": c.Resources})
	}
	b, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encode the instance's new sizes: %w", err)
	}
	return b, nil
}

// sizes are what of a template can change while the machine runs.
func sizes(spec *v1.VirtualMachineInstanceSpec) (resize.Sizes, error) {
	vmi := &v1.VirtualMachineInstance{Spec: *spec}
	t, err := mach.GuestTopology(vmi)
	if err != nil {
		return resize.Sizes{}, err
	}
	s := resize.Sizes{VCPUs: int64(t.VCPUs()), Memory: (mach.GuestMemory(vmi) + mebibyte - 1) / mebibyte * mebibyte}
	if r := spec.Domain.Resources; r != nil {
		s.Requests, s.Limits = live(r.Requests), live(r.Limits)
	}
	return s, nil
}

var liveResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// live are those of the resources that can change while the machine runs, nil for none.
func live(l corev1.ResourceList) corev1.ResourceList {
	var out corev1.ResourceList
	for _, name := range liveResources {
		if q, ok := l[name]; ok {
			if out == nil {
				out = corev1.ResourceList{}
			}
			out[name] = q
		}
	}
	return out
}

// fixed is the template's spec without what can change while the machine runs.
func fixed(spec *v1.VirtualMachineInstanceSpec) *v1.VirtualMachineInstanceSpec {
	out := spec.DeepCopy()
	d := &out.Domain
	if d.CPU != nil {
		d.CPU.Sockets = 0
		if equality.Semantic.DeepEqual(d.CPU, &v1.CPU{}) {
			d.CPU = nil
		}
	}
	if d.Memory != nil {
		d.Memory.Guest = nil
		if *d.Memory == (v1.Memory{}) {
			d.Memory = nil
		}
	}
	if r := d.Resources; r != nil {
		for _, name := range liveResources {
			delete(r.Requests, name)
			delete(r.Limits, name)
		}
		if len(r.Requests) == 0 {
			r.Requests = nil
		}
		if len(r.Limits) == 0 {
			r.Limits = nil
		}
		if r.Requests == nil && r.Limits == nil && r.OvercommitGuestOverhead == nil {
			d.Resources = nil
		}
	}
	return out
}

// policy is what the machine, or else the cluster, wants of changes while it runs.
func policy(vm *v1.VirtualMachine, cluster v1.ResizePolicy) v1.ResizePolicy {
	for _, a := range []map[string]string{vm.Annotations, vm.Spec.Template.Annotations} {
		if p, ok := a[v1.ResizePolicyAnnotation]; ok {
			return v1.ResizePolicy(p)
		}
	}
	if cluster == "" {
		return v1.ResizeInPlace
	}
	return cluster
}

// restart is why a change of the template waits for a restart.
type restart struct{ reason, message string }

// resize compares the machine's template with the running instance: what can
// change while it runs is carried over, anything else waits for a restart.
func (d *decision) resize() (*LiveChange, *restart) {
	vmi := d.vmi
	if vmi == nil || vmi.Status.Phase.IsFinal() || vmi.DeletionTimestamp != nil || d.stopping {
		return nil, nil
	}
	origin, ok, err := resize.ParseOrigin(vmi)
	if !ok || err != nil || vmi.Annotations[FixedAnnotation] == "" {
		return nil, d.changedSinceOldStart()
	}
	template := d.vm.Spec.Template.Spec.DeepCopy()
	resize.ApplyLiveUpdateFeatures(template, d.vm.Spec.LiveUpdateFeatures)
	now, err := sizes(template)
	if err != nil {
		return nil, &restart{ReasonTemplateChanged, "spec.template.spec.domain.cpu: " + err.Error()}
	}
	hash, err := templateHash(fixed(template))
	if err != nil {
		return nil, nil
	}
	if hash != vmi.Annotations[FixedAnnotation] {
		return nil, &restart{ReasonTemplateChanged, changedField(template, &vmi.Spec) + " cannot change while the machine runs" +
			"; until it is restarted, or that is taken back, its CPUs and memory are not changed either"}
	}
	has := origin.Boot
	if origin.Live != nil {
		has = *origin.Live
	}
	if now.Same(has) {
		return nil, nil
	}
	if why := notLive(now, origin, vmi, policy(d.vm, d.in.ResizePolicy)); why != nil {
		return nil, why
	}
	if vmi.Status.Phase != v1.Running {
		return nil, nil // it is carried over when the machine is there
	}
	return d.carryOver(origin, has, now, vmi)
}

// carryOver makes the change.
func (d *decision) carryOver(origin resize.Origin, has, now resize.Sizes, vmi *v1.VirtualMachineInstance) (*LiveChange, *restart) {
	next := origin.Follow(now)
	next.Live = &now
	text, err := next.String()
	if err != nil {
		return nil, &restart{ReasonResizeNotPossible, err.Error()}
	}
	c := &LiveChange{
		Was: vmi.Annotations[resize.SizesAnnotation], Is: text,
		Sockets: now.VCPUs / resize.VCPUsPerSocket(vmi),
		Guest:   resize.Size(resize.Memory, now.Memory).String(),
	}
	follow := next.Resources(now.VCPUs, now.Memory)
	res := vmi.Spec.Domain.Resources.DeepCopy()
	if res == nil {
		res = &v1.ResourceRequirements{}
	}
	res.Requests, res.Limits = replaced(res.Requests, follow.Requests), replaced(res.Limits, follow.Limits)
	if vmi.Spec.Domain.Resources != nil || res.Requests != nil || res.Limits != nil {
		c.Resources = res
	}
	var parts []string
	if has.VCPUs != now.VCPUs {
		parts = append(parts, fmt.Sprintf("%d → %d vCPUs", has.VCPUs, now.VCPUs))
	}
	if has.Memory != now.Memory {
		parts = append(parts, fmt.Sprintf("memory %s → %s", resize.Size(resize.Memory, has.Memory), c.Guest))
	}
	if len(parts) == 0 {
		parts = append(parts, "requests and limits")
	}
	c.Note = "Carried over to the running machine: " + strings.Join(parts, ", ")
	if policy(d.vm, d.in.ResizePolicy) == v1.ResizeInPlaceOrMigrate {
		c.Note += " (in place; there is no migration yet to fall back to)"
	}
	return c, nil
}

// replaced is a list with the live resources of another.
func replaced(old, with corev1.ResourceList) corev1.ResourceList {
	out := old.DeepCopy()
	for _, name := range liveResources {
		delete(out, name)
		if q, ok := with[name]; ok {
			if out == nil {
				out = corev1.ResourceList{}
			}
			out[name] = q
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// notLive is why sizes cannot be had without a restart, nil when they can.
func notLive(now resize.Sizes, origin resize.Origin, vmi *v1.VirtualMachineInstance, p v1.ResizePolicy) *restart {
	switch p {
	case v1.ResizeInPlace, v1.ResizeInPlaceOrMigrate:
	case v1.ResizeRestartOnly:
		return &restart{ReasonResizePolicy, fmt.Sprintf("the machine's sizes were changed and its resize policy (annotation %s) is %s", v1.ResizePolicyAnnotation, p)}
	default:
		return &restart{ReasonResizePolicy, fmt.Sprintf("metadata.annotations[%s]: %q is not a policy; use %s, %s or %s", v1.ResizePolicyAnnotation, p,
			v1.ResizeInPlace, v1.ResizeInPlaceOrMigrate, v1.ResizeRestartOnly)}
	}
	no := func(format string, args ...any) *restart {
		return &restart{ReasonResizeNotPossible, "spec.template.spec.domain." + fmt.Sprintf(format, args...)}
	}
	per := resize.VCPUsPerSocket(vmi)
	bootSockets := origin.Boot.VCPUs / per
	maxSockets, given := bootSockets, int64(0)
	if c := vmi.Spec.Domain.CPU; c != nil {
		maxSockets = max(maxSockets, c.MaxSockets)
	}
	if g := resize.GuestPart(vmi, resize.CPU); g != nil && g.Max != nil {
		given = g.Max.Value() / per
		maxSockets = min(maxSockets, max(given, bootSockets))
	}
	switch sockets := now.VCPUs / per; {
	case now.VCPUs%per != 0:
		return no("cpu: %d vCPUs are not whole sockets of %d", now.VCPUs, per)
	case sockets > maxSockets:
		return no("cpu.sockets: %d is more than the %d that the running machine has room for; set cpu.maxSockets to %d or more before the restart to have more room", sockets, maxSockets, sockets)
	case sockets < bootSockets:
		return no("cpu.sockets: %d is less than the %d that the machine was started with, which cannot be taken out of it", sockets, bootSockets)
	}
	if why := memoryNotLive(no, now, origin, vmi); why != nil {
		return why
	}
	for _, l := range []struct {
		name     string
		has, now corev1.ResourceList
	}{{"requests", origin.Base.Requests, now.Requests}, {"limits", origin.Base.Limits, now.Limits}} {
		for _, name := range liveResources {
			_, had := l.has[name]
			if _, has := l.now[name]; had && !has && !(l.name == "requests" && name == corev1.ResourceMemory) {
				return no("resources.%s.%s: was taken out, and a running pod keeps what limits it has; change its value instead", l.name, name)
			}
		}
	}
	return nil
}

// In bytes: what a machine's memory grows and shrinks by, and what it is a multiple of.
const (
	memoryStep = 2 << 20
	mebibyte   = 1 << 20
)

func memoryNotLive(no func(string, ...any) *restart, now resize.Sizes, origin resize.Origin, vmi *v1.VirtualMachineInstance) *restart {
	boot := origin.Boot.Memory
	if now.Memory == boot {
		return nil
	}
	q := func(n int64) string { return resize.Size(resize.Memory, n).String() }
	limit := boot
	if m := vmi.Spec.Domain.Memory; m != nil && m.MaxGuest != nil {
		limit = max(limit, m.MaxGuest.Value())
	}
	if g := resize.GuestPart(vmi, resize.Memory); g != nil && g.Max != nil {
		limit = min(limit, max(g.Max.Value(), boot))
	}
	switch {
	case now.Memory < boot:
		return no("memory.guest: %s is less than the %s that the machine was started with, which it cannot give back", q(now.Memory), q(boot))
	case limit == boot:
		return no("memory.guest: %s: the machine was started without room to grow; set memory.maxGuest before the restart", q(now.Memory))
	case now.Memory > limit:
		return no("memory.guest: %s is more than the %s that the running machine has room for; raise memory.maxGuest before the restart to have more room", q(now.Memory), q(limit))
	case now.Memory%memoryStep != 0 || boot%memoryStep != 0:
		return no("memory.guest: %s is not a multiple of 2Mi, or the %s that the machine was started with is not; memory changes in steps of 2Mi", q(now.Memory), q(boot))
	}
	return nil
}

// changedSinceOldStart tells that the template of an instance that an older
// version started has changed: it can be told whether, not what.
func (d *decision) changedSinceOldStart() *restart {
	now, err := templateHash(&d.vm.Spec.Template.Spec)
	if hash := d.vmi.Annotations[TemplateAnnotation]; hash == "" || err != nil || hash == now {
		return nil
	}
	return &restart{ReasonTemplateChanged, fmt.Sprintf("spec.template.spec was changed after the instance was started (at generation %s)",
		d.vmi.Annotations[v1.VMGenerationAnnotation])}
}

// changedField names the first field of the template that the running instance
// has otherwise.
func changedField(template, running *v1.VirtualMachineInstanceSpec) string {
	var want, have any
	for from, to := range map[*v1.VirtualMachineInstanceSpec]*any{fixed(template): &want, fixed(running): &have} {
		b, err := json.Marshal(from)
		if err == nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			return "spec.template.spec: something"
		}
	}
	path, is, was, found := difference("spec.template.spec", want, have)
	if !found {
		return "spec.template.spec: what was taken out of it"
	}
	return fmt.Sprintf("%s: %s (the running machine has %s)", path, is, was)
}

// difference finds the first place where want has something that have has not.
func difference(path string, want, have any) (at, is, was string, found bool) {
	switch w := want.(type) {
	case map[string]any:
		h, _ := have.(map[string]any)
		keys := make([]string, 0, len(w))
		for k := range w {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if at, is, was, found = difference(path+"."+k, w[k], h[k]); found {
				return at, is, was, true
			}
		}
		if have == nil && len(w) == 0 {
			return path, "{}", "none", true
		}
		return "", "", "", false
	case []any:
		h, _ := have.([]any)
		for i := range w {
			var other any
			if i < len(h) {
				other = h[i]
			}
			if at, is, was, found = difference(fmt.Sprintf("%s[%d]", path, i), w[i], other); found {
				return at, is, was, true
			}
		}
		if len(h) > len(w) {
			return path, fmt.Sprintf("%d entries", len(w)), fmt.Sprintf("%d", len(h)), true
		}
		return "", "", "", false
	default:
		if fmt.Sprint(want) == fmt.Sprint(have) {
			return "", "", "", false
		}
		return path, short(want), short(have), true
	}
}

func short(v any) string {
	if v == nil {
		return "none"
	}
	s := fmt.Sprintf("%q", fmt.Sprint(v))
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:77], "") + `…"`
	}
	return s
}

// patchType is how a LiveChange is written.
const patchType = types.JSONPatchType
