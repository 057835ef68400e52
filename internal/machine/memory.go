// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const mib = 1 << 20

// Memory is the guest's RAM in bytes. It is a memfd that QEMU shares: only so can
// QEMU be replaced under the running guest.
type Memory struct {
	// Size is what the guest boots with, a multiple of 1 MiB.
	Size int64
	// Max is how far it can grow while it runs, at least Size. More than Size makes
	// a Linux guest without memory above 4 GiB give up 64 MiB for bounce buffers;
	// so it is more only where spec.domain.memory.maxGuest says so.
	Max int64
}

// Hot-plug of memory: a virtio-mem device from the start, which takes no memory
// until the guest is told to use it, and slots for DIMMs, for guests without a
// driver for the former.
const (
	// MemoryDevice and MemoryBackend are the ids of the virtio-mem device and of
	// its backend.
	MemoryDevice  = "vmem0"
	MemoryBackend = "vm0"
	// DIMMSlots bounds the number of DIMMs.
	DIMMSlots = 16
	// memoryBlock is the size in which Linux adds memory, and so a DIMM's grain.
	// Parts of a block at the end of a device's range are of no use to it. Guests
	// with much memory have larger blocks.
	memoryBlock      = 128 * mib
	largeMemoryBlock = 2048 * mib
	largeMemory      = 64 << 30
)

// Device is the size in bytes of the virtio-mem device; 0 when memory is fixed.
func (m Memory) Device() int64 {
	n := m.Max - m.Size
	block := int64(memoryBlock)
	if m.Max >= largeMemory {
		block = largeMemoryBlock
	}
	return (n + block - 1) / block * block
}

// addressable is the size in bytes of all memory that may have an address: QEMU
// counts the whole of the virtio-mem device, used or not, and DIMMs must find
// as much room beside it.
func (m Memory) addressable() int64 { return m.Size + 2*m.Device() }

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
	mem := b.vmi.Spec.Domain.Memory
	if mem == nil || mem.MaxGuest == nil {
		return
	}
	most := mem.MaxGuest.Value()
	if most < q.Value() || most > maxMemory {
		b.fail(field.Invalid(spec.Child("domain", "memory", "maxGuest"), mem.MaxGuest.String(), fmt.Sprintf("must be between the guest's memory, %s, and 16Ti", q.String())))
		return
	}
	b.m.Memory.Max = max(size, most/mib*mib)
}
