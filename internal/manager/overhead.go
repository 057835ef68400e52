// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// overhead is the memory that QEMU needs for vmi beyond the guest's.
func overhead(vmi *v1.VirtualMachineInstance, kvm bool) resource.Quantity {
	const mib = 1 << 20
	d := &vmi.Spec.Domain
	bytes := int64(56 * mib) // QEMU's private memory and its share of libraries
	if !kvm {
		bytes += 34 * mib // translation buffer
	}
	if g := d.Devices.AutoattachGraphicsDevice; g == nil || *g {
		bytes += 6 * mib
	}
	if c := d.CPU; c != nil {
		bytes += min(max(c.Sockets, 1)*max(c.Cores, 1)*max(c.Threads, 1), 1024) * mib
	}
	if m := d.Memory; m != nil {
		if m.Guest != nil {
			bytes += m.Guest.Value() / 512 // page tables
		}
		if r := m.ReservedOverhead; r != nil && r.AddedOverhead != nil {
			bytes += r.AddedOverhead.Value()
		}
	}
	return *resource.NewQuantity(bytes, resource.BinarySI)
}
