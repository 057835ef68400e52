// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/hotplug"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/resize"
)

// sizes is what the status tells of a machine's size.
type sizes struct {
	cpu, memory sizeOf
	// memoryUsage is the pod's charge after page cache was given back; 0 when that
	// was not asked for.
	memoryUsage int64
}

// sizeOf is one resource, in vCPUs or bytes.
type sizeOf struct {
	mechanism v1.GuestResizeMechanism
	max       int64
	target    int64 // what is worked for; 0 before the first change
	machine   int64 // what QEMU was told
	guest     int64 // what the guest uses
	reason    string
	message   string
	times     []v1.ResizeTime
}

func microTime(t time.Time) metav1.MicroTime {
	return metav1.NewMicroTime(t.Truncate(time.Microsecond))
}

func isRefusal(err error) bool {
	var refused *qmp.CommandError
	return errors.As(err, &refused)
}

// readSizes asks a machine that was just met how large it is and can be. QEMU and
// guest agree then as far as anybody knows; the resizer looks closer at once. A
// QEMU that does not know the questions has no sizes.
func readSizes(ctx context.Context, m hotplug.Monitor, vmi *v1.VirtualMachineInstance) (*sizes, error) {
	cpus, err := hotplug.ReadCPUs(ctx, m)
	if isRefusal(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mem, err := hotplug.ReadMemory(ctx, m)
	if isRefusal(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &sizes{
		cpu:    sizeOf{mechanism: v1.MechanismACPICPU, max: int64(cpus.Max()), machine: int64(cpus.Present()), guest: int64(cpus.Present())},
		memory: sizeOf{mechanism: v1.MechanismVirtioMem, max: mem.Base, machine: max(requested(mem), mem.Base+mem.Plugged()), guest: mem.Base + mem.Plugged()},
	}
	if cpus.Max() == cpus.AtBoot() {
		s.cpu.mechanism = ""
	}
	// QEMU may have more room than the spec allows: for plugs under emulation, and
	// for whole blocks of memory.
	if c := vmi.Spec.Domain.CPU; c != nil && c.MaxSockets > 0 && len(cpus.Sockets) > 0 {
		s.cpu.max = min(s.cpu.max, max(c.MaxSockets*int64(cpus.Max()/len(cpus.Sockets)), s.cpu.machine))
	}
	switch {
	case mem.Device == nil:
		s.memory.mechanism = ""
	default:
		s.memory.max += mem.Device.Max
		if m := vmi.Spec.Domain.Memory; m != nil && m.MaxGuest != nil {
			s.memory.max = max(min(s.memory.max, m.MaxGuest.Value()), mem.Base)
		}
		if byDIMM(mem) {
			s.memory.mechanism = v1.MechanismPCDIMM
		}
	}
	return s, nil
}

// publish has what the resizer knows reported.
func (r *resizer) publish() {
	r.g.mu.Lock()
	old := r.g.obs.sizes
	r.g.mu.Unlock()
	if old == nil {
		return
	}
	s := *old
	r.cpu.into(&s.cpu)
	r.mem.into(&s.memory)
	if r.byDIMM {
		s.memory.mechanism = v1.MechanismPCDIMM
	} else if s.memory.mechanism == v1.MechanismPCDIMM {
		s.memory.mechanism = v1.MechanismVirtioMem
	}
	s.memoryUsage = r.reclaim.usage
	if reflect.DeepEqual(s, *old) {
		return
	}
	r.g.observe(func(o observed) observed { o.sizes = &s; return o })
}

// into puts what is known of a resource into what is reported. What the guest has
// counts as the size asked for when only a rest is missing that it can't take.
func (t *track) into(s *sizeOf) {
	if t.want == 0 {
		return
	}
	// A machine that never was to have another size has no change to tell of.
	if s.target != 0 || len(t.times) > 0 || t.want != t.machine || t.want != t.guest {
		s.target = t.want
	}
	s.machine, s.guest, s.reason, s.message = t.machine, t.guest, t.reason, t.message
	s.times = slices.Clone(t.times)
}

// resizeStatus writes the agent's part of status.resize, and what the guest has.
func resizeStatus(st *v1.VirtualMachineInstanceStatus, vmi *v1.VirtualMachineInstance, s *sizes) {
	if st.Resize == nil {
		st.Resize = &v1.ResizeStatus{}
	}
	if st.Resize.Guest == nil {
		st.Resize.Guest = &v1.GuestResize{}
	}
	g := st.Resize.Guest
	g.CPU = s.cpu.status(resize.CPU, g.CPU)
	g.Memory = s.memory.status(resize.Memory, g.Memory)
	g.Memory.PodUsage = nil
	if s.memoryUsage > 0 {
		g.Memory.PodUsage = bytesQuantity(s.memoryUsage)
	}
	if t := st.CurrentCPUTopology; t != nil && s.cpu.guest > 0 {
		if per := max(t.Cores, 1) * max(t.Threads, 1); s.cpu.guest/per > 0 {
			t.Sockets = s.cpu.guest / per
		}
	}
	if st.Memory != nil {
		st.Memory.GuestCurrent = bytesQuantity(s.memory.guest)
		if s.memory.target > 0 {
			st.Memory.GuestRequested = bytesQuantity(s.memory.target)
		}
	}
}

// status is one resource's. Steps that an earlier agent has noted for the same
// target stay.
func (s sizeOf) status(r resize.Resource, old *v1.GuestResourceResize) *v1.GuestResourceResize {
	size := func(n int64) *resource.Quantity { return resize.Size(r, n) }
	out := &v1.GuestResourceResize{Mechanism: s.mechanism, Max: size(s.max), Machine: size(s.machine), Reason: s.reason, Message: s.message}
	if s.target == 0 {
		if old != nil && old.Target != nil {
			out.Target, out.Times = old.Target, old.Times
		}
		return out
	}
	out.Target = size(s.target)
	if old != nil && old.Target != nil && old.Target.Value() == s.target {
		out.Times = slices.Clone(old.Times)
	}
	for _, t := range s.times {
		if !slices.ContainsFunc(out.Times, func(o v1.ResizeTime) bool { return o.Step == t.Step }) {
			out.Times = append(out.Times, t)
		}
	}
	return out
}

// resizeUrgent tells whether somebody waits for a change of the agent's part: a
// target that was announced, a step that was reached, an obstacle.
func resizeUrgent(old, next *v1.ResizeStatus) bool {
	part := func(r *v1.ResizeStatus) *v1.GuestResize {
		if r == nil {
			return nil
		}
		return r.Guest
	}
	was, is := part(old), part(next)
	if was == nil || is == nil {
		return false // the first write goes with the phase
	}
	for _, r := range [][2]*v1.GuestResourceResize{{was.CPU, is.CPU}, {was.Memory, is.Memory}} {
		if r[0] == nil || r[1] == nil {
			continue
		}
		if !equality.Semantic.DeepEqual(r[0].Target, r[1].Target) || len(r[0].Times) != len(r[1].Times) || r[0].Reason != r[1].Reason ||
			!equality.Semantic.DeepEqual(r[0].PodUsage, r[1].PodUsage) {
			return true
		}
	}
	return false
}

// event has the resizer look when QEMU tells of something that it waits for.
func (r *resizer) event(e qmp.Event) {
	switch e.Name {
	case "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR", "MEMORY_DEVICE_SIZE_CHANGE", "ACPI_DEVICE_OST",
		qmp.EventReset, qmp.EventResume, qmp.EventStop:
		r.poke()
	}
}
