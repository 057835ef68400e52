// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
	"github.com/skerry-dev/skerry/internal/resize"
	"github.com/skerry-dev/skerry/internal/resize/resizedoc"
)

var update = flag.Bool("update", false, "write the tables in docs")

func q(s string) *resource.Quantity { v := resource.MustParse(s); return &v }

// reference is sized as the reference manifest: 4 sockets and 8 GiB, of which the
// pod asks for a part.
func reference() *v1.VirtualMachine {
	vm := machine(v1.RunStrategyAlways)
	d := &vm.Spec.Template.Spec.Domain
	d.CPU = &v1.CPU{Sockets: 4, Cores: 1, Threads: 1}
	d.Memory = &v1.Memory{Guest: q("8192Mi")}
	d.Resources = &v1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": *q("2"), "memory": *q("2048Mi")}}
	return vm
}

// running is the instance of vm as it is after admission.
func runningInstance(t *testing.T, vm *v1.VirtualMachine) *v1.VirtualMachineInstance {
	t.Helper()
	vmi, err := Instance(vm, false)
	if err != nil {
		t.Fatal(err)
	}
	vmi.UID = "uid-vmi"
	vmi.Status.Phase = v1.Running
	c := vmi.Spec.Domain.CPU
	if c.MaxSockets == 0 {
		c.MaxSockets = 4 * c.Sockets
	}
	if m := vmi.Spec.Domain.Memory; m.MaxGuest == nil && m.Guest.Value() >= 3<<30 {
		m.MaxGuest = resource.NewQuantity(4*m.Guest.Value(), resource.BinarySI)
	}
	return vmi
}

// bounded is the same with the bounds spelt out that admission would fill in.
func bounded() *v1.VirtualMachine {
	vm := reference()
	d := &vm.Spec.Template.Spec.Domain
	d.CPU.MaxSockets, d.Memory.MaxGuest = 16, q("32Gi")
	return vm
}

// edits are changes of the running reference machine, as people make them.
var edits = []struct {
	what   string
	edit   func(*v1.VirtualMachine, *v1.DomainSpec)
	status func(*v1.VirtualMachineInstance)
	// want is what the instance is to have: sockets, memory, requests, limits; or
	// the condition's reason and text.
	want    string
	reason  string
	message string
}{
	{what: "sockets 4 → 6", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.CPU.Sockets = 6 },
		want: "6 sockets, 8Gi; requests cpu 3, memory 2Gi"},
	{what: "memory.guest 8Gi → 9Gi", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.Memory.Guest = q("9Gi") },
		want: "4 sockets, 9Gi; requests cpu 2, memory 2304Mi"},
	{what: "both in one edit", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.CPU.Sockets, d.Memory.Guest = 8, q("16Gi") },
		want: "8 sockets, 16Gi; requests cpu 4, memory 4Gi"},
	{what: "memory.guest and its request in one edit", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) {
		d.Memory.Guest, d.Resources.Requests["memory"] = q("10Gi"), *q("3Gi")
	}, want: "4 sockets, 10Gi; requests cpu 2, memory 3Gi"},
	{what: "resources.requests alone", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.Resources.Requests["cpu"] = *q("3") },
		want: "4 sockets, 8Gi; requests cpu 3, memory 2Gi"},
	{what: "resources.limits alone", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) {
		d.Resources.Limits = corev1.ResourceList{"memory": *q("10Gi")}
	}, want: "4 sockets, 8Gi; requests cpu 2, memory 2Gi; limits memory 10Gi"},
	{what: "sockets above maxSockets (16 by default here)", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.CPU.Sockets = 17 },
		reason: ReasonResizeNotPossible, message: "cpu.sockets: 17 is more than the 16 that the running machine has room for"},
	{what: "sockets above what the machine could be given at its start", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.CPU.Sockets = 10 },
		status: func(vmi *v1.VirtualMachineInstance) {
			resize.SetGuestPart(&vmi.Status, resize.CPU, &v1.GuestResourceResize{Max: q("9")})
		},
		reason: ReasonResizeNotPossible, message: "cpu.sockets: 10 is more than the 9 that the running machine has room for"},
	{what: "sockets below those at the start", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.CPU.Sockets = 3 },
		reason: ReasonResizeNotPossible, message: "cpu.sockets: 3 is less than the 4 that the machine was started with"},
	{what: "memory.guest above maxGuest (32Gi by default here)", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.Memory.Guest = q("33Gi") },
		reason: ReasonResizeNotPossible, message: "memory.guest: 33Gi is more than the 32Gi that the running machine has room for"},
	{what: "memory.guest below that at the start", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.Memory.Guest = q("7Gi") },
		reason: ReasonResizeNotPossible, message: "memory.guest: 7Gi is less than the 8Gi that the machine was started with"},
	{what: "memory.guest not in steps of 2Mi", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.Memory.Guest = q("8193Mi") },
		reason: ReasonResizeNotPossible, message: "memory.guest: 8193Mi is not a multiple of 2Mi"},
	{what: "memory.guest of a machine without room to grow", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.Memory.Guest = q("9Gi") },
		status: func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Domain.Memory.MaxGuest = nil },
		reason: ReasonResizeNotPossible, message: "memory.guest: 9Gi: the machine was started without room to grow"},
	{what: "a limit or CPU request taken out", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { delete(d.Resources.Requests, "cpu") },
		reason: ReasonResizeNotPossible, message: "resources.requests.cpu: was taken out"},
	{what: "cpu.cores, cpu.threads, cpu.model", edit: func(_ *v1.VirtualMachine, d *v1.DomainSpec) { d.CPU.Cores = 2 },
		reason: ReasonTemplateChanged, message: `spec.template.spec.domain.cpu.cores: "2" (the running machine has "1")`},
	{what: "anything else, and sockets beside it", edit: func(vm *v1.VirtualMachine, d *v1.DomainSpec) {
		d.CPU.Sockets, vm.Spec.Template.Spec.Hostname = 6, "other"
	}, reason: ReasonTemplateChanged, message: `spec.template.spec.hostname: "other" (the running machine has none)`},
	{what: "sockets, policy RestartOnly", edit: func(vm *v1.VirtualMachine, d *v1.DomainSpec) {
		vm.Annotations = map[string]string{v1.ResizePolicyAnnotation: "RestartOnly"}
		d.CPU.Sockets = 6
	}, reason: ReasonResizePolicy, message: "resize policy (annotation skerry.dev/resize-policy) is RestartOnly"},
	{what: "sockets, policy InPlaceOrMigrate", edit: func(vm *v1.VirtualMachine, d *v1.DomainSpec) {
		vm.Annotations = map[string]string{v1.ResizePolicyAnnotation: "InPlaceOrMigrate"}
		d.CPU.Sockets = 6
	}, want: "6 sockets, 8Gi; requests cpu 3, memory 2Gi"},
}

func TestEdits(t *testing.T) {
	t.Parallel()
	var rows []resizedoc.Row
	for _, e := range edits {
		vm := reference()
		vmi := runningInstance(t, vm)
		if e.status != nil {
			e.status(vmi)
		}
		stored := vm.Spec.DeepCopy()
		e.edit(vm, &vm.Spec.Template.Spec.Domain)
		edited := vm.Spec.DeepCopy()
		plan := Next(Input{VM: vm, VMI: vmi, Live: true, Now: now})
		c := find(&plan.VM.Status, v1.VMRestartRequired)
		if e.want != "" {
			if c != nil || plan.Resize == nil {
				t.Errorf("%s: condition %+v, change %+v", e.what, c, plan.Resize)
				continue
			}
			if got := changed(plan.Resize); got != e.want {
				t.Errorf("%s: the instance is to have %q, want %q", e.what, got, e.want)
			}
			rows = append(rows, resizedoc.Row{e.what, "in place", "the instance gets " + e.want})
		} else {
			if c == nil || plan.Resize != nil || c.Reason != e.reason || !strings.Contains(c.Message, e.message) {
				t.Errorf("%s: condition %+v, change %+v", e.what, c, plan.Resize)
				continue
			}
			text, _, _ := strings.Cut(c.Message, "; restart the machine")
			rows = append(rows, resizedoc.Row{e.what, "`RestartRequired`, " + c.Reason, text})
		}
		if diff := cmp.Diff(*edited, plan.VM.Spec); diff != "" {
			t.Errorf("%s: the machine's spec was changed:\n%s", e.what, diff)
		}
		// Taken back, nothing is left of it.
		vm.Spec, vm.Annotations = *stored, nil
		plan = Next(Input{VM: vm, VMI: vmi, Live: true, Now: now})
		if c := find(&plan.VM.Status, v1.VMRestartRequired); c != nil || plan.Resize != nil {
			t.Errorf("%s, taken back: condition %+v, change %+v", e.what, c, plan.Resize)
		}
	}
	head := resizedoc.Row{"edit of the running reference machine (4 sockets, 8Gi, requests cpu 2 and memory 2Gi)", "outcome", ""}
	if err := resizedoc.Check("../../..", "edits", head, rows, *update); err != nil {
		t.Error(err)
	}
}

func changed(c *LiveChange) string {
	out := resource.NewQuantity(c.Sockets, resource.DecimalSI).String() + " sockets, " + c.Guest
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"requests", c.Resources.Requests}, {"limits", c.Resources.Limits}} {
		var parts []string
		for _, name := range liveResources {
			if v, ok := l.list[name]; ok {
				parts = append(parts, string(name)+" "+v.String())
			}
		}
		if len(parts) > 0 {
			out += "; " + l.name + " " + strings.Join(parts, ", ")
		}
	}
	return out
}

// An instance that an older version started has no sizes: any change waits.
func TestEditOfOldInstance(t *testing.T) {
	t.Parallel()
	vm := reference()
	vmi := runningInstance(t, vm)
	delete(vmi.Annotations, resize.SizesAnnotation)
	delete(vmi.Annotations, FixedAnnotation)
	if plan := Next(Input{VM: vm, VMI: vmi, Live: true, Now: now}); find(&plan.VM.Status, v1.VMRestartRequired) != nil || plan.Resize != nil {
		t.Errorf("unchanged, and a restart is required or a change made: %+v", plan)
	}
	vm.Spec.Template.Spec.Domain.CPU.Sockets = 6
	plan := Next(Input{VM: vm, VMI: vmi, Live: true, Now: now})
	if c := find(&plan.VM.Status, v1.VMRestartRequired); c == nil || c.Reason != ReasonTemplateChanged || plan.Resize != nil {
		t.Errorf("condition %+v, change %+v", c, plan.Resize)
	}
}

// Up and down again, by way of sizes that do not divide, ends where it began; a
// stopped and started machine has what its spec says; its spec is never touched.
func TestResizeLife(t *testing.T) {
	t.Parallel()
	life := func(t *testing.T, w *crashtest.Writer) *world {
		world := newWorld(t, w, bounded())
		world.settle()
		for _, to := range []struct {
			sockets int64
			guest   string
		}{{5, "9Gi"}, {7, "11Gi"}, {4, "8Gi"}, {6, "9Gi"}} {
			vm := world.vm()
			vm.Spec.Template.Spec.Domain.CPU.Sockets = to.sockets
			vm.Spec.Template.Spec.Domain.Memory.Guest = q(to.guest)
			world.must(world.api.Update(t.Context(), vm))
			world.settle()
			vmi := world.vmi()
			if d := vmi.Spec.Domain; d.CPU.Sockets != to.sockets || d.Memory.Guest.Cmp(*q(to.guest)) != 0 {
				t.Errorf("the instance has %d sockets and %s, want %d and %s", d.CPU.Sockets, d.Memory.Guest, to.sockets, to.guest)
			}
			if to.guest == "8Gi" {
				r := vmi.Spec.Domain.Resources.Requests
				if r.Cpu().Cmp(*q("2")) != 0 || r.Memory().Cmp(*q("2Gi")) != 0 {
					t.Errorf("back at its size the instance asks for %s", text(r))
				}
			}
		}
		if r := world.vmi().Spec.Domain.Resources.Requests; r.Memory().Cmp(*q("2304Mi")) != 0 || r.Cpu().Cmp(*q("3")) != 0 {
			t.Errorf("the instance asks for %s, want cpu 3 and memory 2304Mi", text(r))
		}
		if r := world.vm().Spec.Template.Spec.Domain.Resources.Requests; r.Memory().Cmp(*q("2Gi")) != 0 || r.Cpu().Cmp(*q("2")) != 0 {
			t.Errorf("the machine's spec asks for %s: what was worked out has leaked into it", text(r))
		}
		world.strategy(v1.RunStrategyHalted)
		world.settle()
		world.strategy(v1.RunStrategyAlways)
		world.settle()
		d := world.vmi().Spec.Domain
		if d.CPU.Sockets != 6 || d.Memory.Guest.Cmp(*q("9Gi")) != 0 || d.Resources.Requests.Memory().Cmp(*q("2Gi")) != 0 {
			t.Errorf("started again it has %d sockets, %s and asks for %s", d.CPU.Sockets, d.Memory.Guest, text(d.Resources.Requests))
		}
		return world
	}
	quiet := &crashtest.Writer{}
	life(t, quiet)
	for i := range len(quiet.Log()) {
		for _, after := range []bool{false, true} {
			life(t, &crashtest.Writer{FailAt: i + 1, After: after})
		}
	}
}

func text(l corev1.ResourceList) string {
	b, err := json.Marshal(l)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// The change starts from the sizes that it was worked out from, or is not made.
func TestResizeOfChangedInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Writer{}, bounded())
	w.settle()
	vm := w.vm()
	vm.Spec.Template.Spec.Domain.CPU.Sockets = 6
	vmi := w.vmi()
	plan := Next(Input{VM: vm, VMI: vmi, Live: true, Now: now})
	if plan.Resize == nil {
		t.Fatalf("no change: %+v", plan)
	}
	w.must(w.api.Update(t.Context(), vm))
	w.settle()
	before := w.vmi().ResourceVersion
	if again, err := w.r.resize(t.Context(), Input{VM: vm, VMI: vmi}, plan.Resize); err == nil && !again {
		t.Error("the change was made once more on what it was not worked out from")
	}
	if w.vmi().ResourceVersion != before {
		t.Error("the instance was written")
	}
	if _, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
		t.Error(err)
	}
}
