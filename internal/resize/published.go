// SPDX-License-Identifier: Apache-2.0

package resize

import (
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Resource is what is resized.
type Resource string

// The resources.
const (
	CPU    Resource = "cpu"    // guest sizes are virtual CPUs, pod amounts thousandths
	Memory Resource = "memory" // both are bytes
)

// SpecSize is the guest's size that the instance's spec asks for, 0 when it says
// none, which admission does not let through.
func SpecSize(vmi *v1.VirtualMachineInstance, r Resource) int64 {
	d := &vmi.Spec.Domain
	if r == Memory {
		if d.Memory == nil || d.Memory.Guest == nil {
			return 0
		}
		return roundUp(d.Memory.Guest.Value(), mib)
	}
	if d.CPU == nil {
		return 1
	}
	return max(d.CPU.Sockets, 1) * VCPUsPerSocket(vmi)
}

// mib is what a machine's memory is a multiple of.
const mib = 1 << 20

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// VCPUsPerSocket is cores times threads.
func VCPUsPerSocket(vmi *v1.VirtualMachineInstance) int64 {
	c := vmi.Spec.Domain.CPU
	if c == nil {
		return 1
	}
	return max(c.Cores, 1) * max(c.Threads, 1)
}

// PodPart is the controller's part of the status for the resource, nil when there
// is none.
func PodPart(vmi *v1.VirtualMachineInstance, r Resource) *v1.PodResourceResize {
	s := vmi.Status.Resize
	if s == nil || s.Pod == nil {
		return nil
	}
	if r == CPU {
		return s.Pod.CPU
	}
	return s.Pod.Memory
}

// GuestPart is the agent's part of the status for the resource, nil when there is
// none.
func GuestPart(vmi *v1.VirtualMachineInstance, r Resource) *v1.GuestResourceResize {
	s := vmi.Status.Resize
	if s == nil || s.Guest == nil {
		return nil
	}
	if r == CPU {
		return s.Guest.CPU
	}
	return s.Guest.Memory
}

// SetPodPart replaces the controller's part.
func SetPodPart(st *v1.VirtualMachineInstanceStatus, r Resource, part *v1.PodResourceResize) {
	if st.Resize == nil {
		st.Resize = &v1.ResizeStatus{}
	}
	if st.Resize.Pod == nil {
		st.Resize.Pod = &v1.PodResize{}
	}
	if r == CPU {
		st.Resize.Pod.CPU = part
	} else {
		st.Resize.Pod.Memory = part
	}
}

// SetGuestPart replaces the agent's part.
func SetGuestPart(st *v1.VirtualMachineInstanceStatus, r Resource, part *v1.GuestResourceResize) {
	if st.Resize == nil {
		st.Resize = &v1.ResizeStatus{}
	}
	if st.Resize.Guest == nil {
		st.Resize.Guest = &v1.GuestResize{}
	}
	if r == CPU {
		st.Resize.Guest.CPU = part
	} else {
		st.Resize.Guest.Memory = part
	}
}

// Published is what the controller has published, for the agent's call of Next:
//
//	Next(Want{Guest: SpecSize(vmi, r)}, Pod{Said: Published(vmi, r)}, cgroup, machine, guest)
func Published(vmi *v1.VirtualMachineInstance, r Resource) Said {
	p := PodPart(vmi, r)
	if p == nil {
		return Said{}
	}
	amount := value
	if r == CPU {
		amount = milli
	}
	return Said{Stage: p.Step, Target: value(p.Target), Limit: amount(p.Limit), Request: amount(p.Request)}
}

// Reported is what the agent has published about the machine, and boot where it
// has said nothing yet.
func Reported(vmi *v1.VirtualMachineInstance, r Resource, boot int64) Machine {
	m := Machine{Announced: boot, Told: boot, Held: boot}
	if g := GuestPart(vmi, r); g != nil {
		if g.Target != nil {
			m.Announced = g.Target.Value()
		}
		if g.Machine != nil {
			m.Told, m.Held = g.Machine.Value(), g.Machine.Value()
		}
	}
	return m
}

// Used is what the guest really uses, as the agent has published it.
func Used(vmi *v1.VirtualMachineInstance, r Resource) int64 {
	if r == Memory {
		if m := vmi.Status.Memory; m != nil {
			return value(m.GuestCurrent)
		}
		return 0
	}
	if t := vmi.Status.CurrentCPUTopology; t != nil {
		return max(t.Sockets, 1) * max(t.Cores, 1) * max(t.Threads, 1)
	}
	return 0
}

func value(q *resource.Quantity) int64 {
	if q == nil {
		return 0
	}
	return q.Value()
}

func milli(q *resource.Quantity) int64 {
	if q == nil {
		return 0
	}
	return q.MilliValue()
}

// Quantity is an amount of the pod's in the API's form, nil for 0.
func Quantity(r Resource, amount int64) *resource.Quantity {
	switch {
	case amount == 0:
		return nil
	case r == CPU:
		return resource.NewMilliQuantity(amount, resource.DecimalSI)
	default:
		return resource.NewQuantity(amount, resource.BinarySI)
	}
}

// Size is a guest's size in the API's form.
func Size(r Resource, size int64) *resource.Quantity {
	if r == CPU {
		return resource.NewQuantity(size, resource.DecimalSI)
	}
	return resource.NewQuantity(size, resource.BinarySI)
}

// ApplyLiveUpdateFeatures gives a template the bounds of an older manifest, where
// it has none of its own.
func ApplyLiveUpdateFeatures(spec *v1.VirtualMachineInstanceSpec, f *v1.LiveUpdateFeatures) {
	if f == nil {
		return
	}
	d := &spec.Domain
	if f.CPU != nil && f.CPU.MaxSockets != nil {
		if d.CPU == nil {
			d.CPU = &v1.CPU{}
		}
		if d.CPU.MaxSockets == 0 {
			d.CPU.MaxSockets = *f.CPU.MaxSockets
		}
	}
	if f.Memory != nil && f.Memory.MaxGuest != nil {
		if d.Memory == nil {
			d.Memory = &v1.Memory{}
		}
		if d.Memory.MaxGuest == nil {
			q := f.Memory.MaxGuest.DeepCopy()
			d.Memory.MaxGuest = &q
		}
	}
}
