// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"strings"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Part is one reason why a machine's pod needs more memory than its guest has.
type Part struct {
	Name  string
	Bytes int64
}

// Breakdown is the memory of a machine's pod beyond the guest's RAM.
type Breakdown struct {
	Parts []Part
	// Total in bytes: the sum of the parts, rounded up to a whole MiB.
	Total int64
}

// String explains the total.
func (b Breakdown) String() string {
	parts := make([]string, 0, len(b.Parts))
	for _, p := range b.Parts {
		parts = append(parts, fmt.Sprintf("%s %s", p.Name, inMiB(p.Bytes)))
	}
	return fmt.Sprintf("%s: %s", inMiB(b.Total), strings.Join(parts, ", "))
}

func inMiB(n int64) string {
	s := strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/mib), ".0")
	return s + "Mi"
}

// The sizes were measured with QEMU 11.1.3 (idle Linux 6.1 guests under
// emulation); what is not proportional to anything has a little room. QEMU's
// program and libraries are page cache and so shared between machines, but a
// pod alone on its node, or the first one there, is charged with all of it.
const (
	costProgram    = 26 * mib // measured: 26
	costPrivate    = 14 * mib // measured: 12.5 (no screen, no disk) beyond the translation buffer
	costROMs       = 5 * mib / 2
	costVCPUKVM    = 1 * mib
	costVCPUTCG    = 3 * mib
	costKernel     = 16 * mib // bzImage and initrd stay in QEMU's memory for the next reset
	costEFI        = 6 * mib
	costScreen     = 16 * mib // 1920×1080 in video memory and once more for its viewers; 3 in text mode
	costNIC        = 1 * mib
	costDisk       = 1 * mib
	costImage      = 4 * mib  // qcow2 tables of an image of 16 GiB and of its overlay
	costTables     = 8192     // bytes of disk for one byte of qcow2's tables
	maxTables      = 32 * mib // QEMU's limit for them
	costVolumes    = 3 * mib  // tmpfs: sockets, machine.json and cloud-init, console log
	costUSB        = 2 * mib  // controller and devices
	costHeadRoom   = mib / 4
	headRoomShare  = 8192           // and one byte for each 8 KiB
	pageTableShare = 512            // a page table's 8 bytes for each 4 KiB
	costMargin     = 8 * mib        // buffers of disks, network and monitors, the allocator's waste
	maxAdded       = int64(1) << 40 // sanity of memory.reservedOverhead
)

// Overhead estimates the memory that a machine's pod needs beyond the guest's RAM,
// for an instance that admission accepted. It never fails: what it cannot read it
// leaves out, and New refuses the instance later.
func Overhead(vmi *v1.VirtualMachineInstance, host Host) Breakdown {
	d := &vmi.Spec.Domain
	var b Breakdown
	add := func(name string, n int64) {
		if n > 0 {
			b.Parts = append(b.Parts, Part{name, n})
			b.Total += n
		}
	}
	add("QEMU's program and libraries", costProgram)
	add("QEMU", costPrivate+costROMs)
	guest := min(max(GuestMemory(vmi), 0), maxMemory)
	if host.Accel == TCG {
		add("translated code", Machine{Memory: Memory{Size: guest}}.translationBuffer())
	}
	vcpus := int64(1)
	if t, err := GuestTopology(vmi); err == nil {
		vcpus = int64(t.VCPUs())
	}
	// KVM keeps page tables of its own for the guest beside the process's.
	if host.Accel == TCG {
		add("vCPUs", vcpus*costVCPUTCG)
		add("page tables", guest/pageTableShare)
	} else {
		add("vCPUs", vcpus*costVCPUKVM)
		add("page tables", guest/pageTableShare*2)
	}
	if !isFalse(d.Devices.AutoattachGraphicsDevice) {
		add("screen", costScreen)
	}
	add("memory head-room", headRoomCost(vmi))
	add("disks", diskCost(vmi))
	add("network interfaces", int64(len(d.Devices.Interfaces))*costNIC)
	if len(d.Devices.Inputs) > 0 || isTrue(d.Devices.AutoattachInputDevice) {
		add("USB", costUSB)
	}
	if f := d.Firmware; f != nil {
		if f.KernelBoot != nil && f.KernelBoot.Container != nil {
			add("kernel and initrd", costKernel)
		}
		if f.Bootloader != nil && f.Bootloader.EFI != nil {
			add("UEFI", costEFI)
		}
	}
	add("tmpfs volumes", costVolumes)
	if m := d.Memory; m != nil && m.ReservedOverhead != nil && m.ReservedOverhead.AddedOverhead != nil {
		add("memory.reservedOverhead", min(m.ReservedOverhead.AddedOverhead.Value(), maxAdded))
	}
	add("margin", costMargin)
	b.Total = (b.Total + mib - 1) / mib * mib
	return b
}

// headRoomCost is what QEMU keeps for memory that may be plugged one day: 0.3 MiB
// were measured for 1.75 GiB, 2 MiB for 16 GiB and 6.5 MiB for 64 GiB.
func headRoomCost(vmi *v1.VirtualMachineInstance) int64 {
	m := vmi.Spec.Domain.Memory
	if m == nil || m.MaxGuest == nil {
		return 0
	}
	n := min(m.MaxGuest.Value(), maxMemory) - GuestMemory(vmi)
	if n <= 0 {
		return 0
	}
	return costHeadRoom + n/headRoomShare
}

// diskCost is what QEMU keeps of its disks' tables.
func diskCost(vmi *v1.VirtualMachineInstance) int64 {
	n := int64(0)
	for i := range vmi.Spec.Volumes {
		n += costDisk
		switch v := &vmi.Spec.Volumes[i]; {
		case v.ContainerDisk != nil:
			n += costImage
		case v.EmptyDisk != nil:
			n += min(max(v.EmptyDisk.Capacity.Value(), 0)/costTables, maxTables)
		}
	}
	return n
}
