// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const mib = 1 << 20

// Memory is the guest's RAM in bytes. It is a memfd that QEMU shares: only so can
// QEMU be replaced under the running guest.
type Memory struct {
	// Size is a multiple of 1 MiB.
	Size int64
	// Max is the limit of hot-plug. It equals Size: a larger one makes a Linux
	// guest give up 64 MiB for bounce buffers, so spec.domain.memory.maxGuest
	// (which admission also fills in unasked) is not reason enough for it.
	Max int64
}

// maxMemory is far above what any host has and keeps sums of sizes far from overflow.
const maxMemory = 16 << 40

// GuestMemory is the guest's RAM in bytes as the spec asks for it:
// memory.guest, else resources.requests.memory, else resources.limits.memory;
// 0 when there is none of them.
func GuestMemory(vmi *v1.VirtualMachineInstance) int64 {
	q, _ := guestMemory(&vmi.Spec.Domain)
	if q == nil {
		return 0
	}
	return q.Value()
}

func guestMemory(d *v1.DomainSpec) (*resource.Quantity, *field.Path) {
	p := spec.Child("domain")
	if d.Memory != nil && d.Memory.Guest != nil {
		return d.Memory.Guest, p.Child("memory", "guest")
	}
	if d.Resources != nil {
		if q, ok := d.Resources.Requests["memory"]; ok {
			return &q, p.Child("resources", "requests", "memory")
		}
		if q, ok := d.Resources.Limits["memory"]; ok {
			return &q, p.Child("resources", "limits", "memory")
		}
	}
	return nil, p.Child("memory", "guest")
}

func (b *builder) memory() {
	q, p := guestMemory(&b.vmi.Spec.Domain)
	if q == nil {
		b.fail(field.Required(p, "the guest's memory, such as 512Mi"))
		return
	}
	size := q.Value()
	if size < mib || size > maxMemory {
		b.fail(field.Invalid(p, q.String(), "must be between 1Mi and 16Ti"))
		return
	}
	// QEMU wants the backend and the machine to have the same size and pages whole.
	size = (size + mib - 1) / mib * mib
	b.m.Memory = Memory{Size: size, Max: size}
}
