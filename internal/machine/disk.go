// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// Disk is a disk or CD drive with its medium.
type Disk struct {
	ID     string
	Name   string // of the volume
	Target string // what the guest is expected to call it, such as "vda"
	Bus    string // "virtio", "sata", "scsi" or "usb"
	CDROM  bool
	// Unit is the disk's number on its bus; PCI is a virtio disk's place.
	Unit int
	PCI  PCI

	File     string // in the container
	Format   string // "qcow2" or "raw"
	Device   bool   // File is a block device
	ReadOnly bool

	Serial       string
	BootIndex    int    // 0: not booted from
	Cache        string // "", "none", "writethrough" or "writeback"
	IO           string // "", "native" or "threads"
	ErrorPolicy  string // "stop", "ignore", "report" or "enospace"
	Queues       int    // virtio only
	Transitional bool   // virtio only

	// Sizes in bytes that the guest is told; 0 leaves QEMU's.
	LogicalBlock, PhysicalBlock, DiscardGranularity int

	// Create is the file that the launcher makes, or nil where it is there already.
	Create *contract.Disk
	// Claim is the persistent volume that the launcher opens, or nil.
	Claim *contract.Claim
}

// maxSATA is the number of SATA controllers, with six ports each.
const (
	maxSATA      = 5
	portsPerSATA = 6
	maxSCSI      = 256 // targets of a virtio-scsi controller
)

// maxDiskSize is where the launcher's qcow2 writer stops.
const maxDiskSize = 64 << 40

// FormatNode is the name of the block node that holds the guest's data: QMP's
// block commands take it.
func (d Disk) FormatNode() string { return nodeName("d-", d.Name) }

// FileNode is the name of the block node of the file.
func (d Disk) FileNode() string { return nodeName("f-", d.Name) }

// disks matches spec.volumes with spec.domain.devices.disks.
func (b *builder) disks() {
	volumes := map[string]int{}
	p := spec.Child("volumes")
	for i, v := range b.vmi.Spec.Volumes {
		if _, dup := volumes[v.Name]; dup {
			b.fail(field.Duplicate(p.Index(i).Child("name"), v.Name))
		}
		volumes[v.Name] = i
	}
	list := b.vmi.Spec.Domain.Devices.Disks
	dp := spec.Child("domain", "devices", "disks")
	used := map[string]bool{}
	count := map[string]int{} // of disks per target prefix
	units := map[string]int{} // of disks per bus
	boot := b.bootIndices()
	for i := range list {
		disk := &list[i]
		vi, ok := volumes[disk.Name]
		if !ok {
			b.fail(field.Invalid(dp.Index(i).Child("name"), disk.Name, "no volume in spec.volumes has this name"))
			continue
		}
		used[disk.Name] = true
		d := b.disk(disk, vi, dp.Index(i))
		d.BootIndex = boot[i]
		prefix := "sd"
		if d.Bus == "virtio" {
			prefix = "vd"
		}
		d.Target = Target(prefix, count[prefix]) // CD drives count too, as in KubeVirt
		count[prefix]++
		d.Unit = units[d.Bus]
		units[d.Bus]++
		if d.Bus == "usb" {
			d.Unit = b.usbPort(dp.Index(i))
		}
		b.m.Disks = append(b.m.Disks, d)
	}
	for i, v := range b.vmi.Spec.Volumes {
		if !used[v.Name] {
			b.fail(field.Invalid(p.Index(i).Child("name"), v.Name, "no disk in spec.domain.devices.disks has this name"))
		}
	}
	b.m.SCSI = units["scsi"] > 0
	if n := units["scsi"]; n > maxSCSI {
		b.fail(field.TooMany(dp, n, maxSCSI))
	}
	if n := units["sata"]; n > portsPerSATA {
		b.m.SATA = (n - 1) / portsPerSATA
		if b.m.SATA > maxSATA {
			b.fail(field.Invalid(dp, n, fmt.Sprintf("at most %d disks can be on SATA; use bus scsi or virtio", portsPerSATA*(maxSATA+1))))
		}
	}
}

// bootIndices gives the boot index of each disk. Without any bootOrder in the
// spec the machine tries the disks in the spec's order, but never a cloud-init
// image: it is not bootable and only costs time.
func (b *builder) bootIndices() []int {
	disks := b.vmi.Spec.Domain.Devices.Disks
	p := spec.Child("domain", "devices")
	index := make([]int, len(disks))
	seen := map[int32]*field.Path{}
	check := func(order *int32, p *field.Path) int {
		if order == nil {
			return 0
		}
		if *order < 1 {
			b.fail(field.Invalid(p, *order, "must be 1 or more"))
		}
		if other, dup := seen[*order]; dup {
			b.fail(field.Invalid(p, *order, "is also the boot order at "+other.String()))
		}
		seen[*order] = p
		return int(*order)
	}
	for i := range disks {
		index[i] = check(disks[i].BootOrder, p.Child("disks").Index(i).Child("bootOrder"))
	}
	for i, n := range b.vmi.Spec.Domain.Devices.Interfaces {
		check(n.BootOrder, p.Child("interfaces").Index(i).Child("bootOrder"))
	}
	if len(seen) > 0 {
		return index
	}
	cloudInit := map[string]bool{}
	for _, v := range b.vmi.Spec.Volumes {
		cloudInit[v.Name] = v.CloudInitNoCloud != nil
	}
	next := 1
	for i := range disks {
		if !cloudInit[disks[i].Name] {
			index[i] = next
			next++
		}
	}
	return index
}

// disk maps one disk and its volume.
func (b *builder) disk(disk *v1.Disk, volume int, p *field.Path) Disk {
	d := Disk{ID: b.id(disk.Name, p.Child("name")), Name: disk.Name, Serial: disk.Serial, ErrorPolicy: disk.ErrorPolicy}
	bp := p.Child("disk", "bus")
	switch {
	case disk.CDRom != nil && disk.Disk != nil:
		b.fail(field.Invalid(p, disk.Name, "disk and cdrom exclude each other"))
	case disk.CDRom != nil:
		bp = p.Child("cdrom", "bus")
		d.CDROM, d.ReadOnly, d.Bus = true, true, disk.CDRom.Bus
		if isFalse(disk.CDRom.Readonly) {
			b.fail(field.Invalid(p.Child("cdrom", "readonly"), false, "a CD cannot be written to"))
		}
		b.oneOf(p.Child("cdrom", "tray"), disk.CDRom.Tray, "", "closed")
	case disk.Disk != nil:
		d.Bus, d.ReadOnly = disk.Disk.Bus, isTrue(disk.Disk.Readonly)
	}
	if d.Bus == "" {
		d.Bus = "sata" // the API's default on this architecture
	}
	if d.CDROM {
		b.oneOf(bp, d.Bus, "sata", "scsi", "usb")
	} else {
		b.oneOf(bp, d.Bus, "virtio", "sata", "scsi", "usb")
	}
	if d.Bus == "sata" && !d.CDROM && d.ReadOnly {
		b.fail(field.Invalid(p.Child("disk", "readonly"), true, "SATA disks cannot be read-only; use bus virtio or scsi"))
	}
	b.diskOptions(&d, disk, p)
	b.medium(&d, volume)
	if d.Bus == "sata" && !d.CDROM && d.ReadOnly && d.Claim != nil && (disk.Disk == nil || !isTrue(disk.Disk.Readonly)) {
		b.fail(field.Invalid(spec.Child("volumes").Index(volume).Child("persistentVolumeClaim", "readOnly"), true, "SATA disks cannot be read-only; use bus virtio or scsi, or a cdrom"))
	}
	if d.Bus == "virtio" {
		d.Queues = 1
		if isTrue(b.vmi.Spec.Domain.Devices.BlockMultiQueue) {
			d.Queues = max(1, b.m.CPU.VCPUs())
		}
		d.Transitional = isTrue(b.vmi.Spec.Domain.Devices.UseVirtioTransitional)
		d.PCI = b.virtioPlace(d.Transitional)
	}
	return d
}

// virtioPlace is a root port's or, for a transitional device, a slot of the root
// bus: behind a port there are no I/O ports.
func (b *builder) virtioPlace(transitional bool) PCI {
	if transitional {
		return b.pci.slot()
	}
	return b.pci.port()
}

func (b *builder) diskOptions(d *Disk, disk *v1.Disk, p *field.Path) {
	if len(disk.Serial) > 256 || disk.Serial != "" && !diskSerial.MatchString(disk.Serial) {
		b.fail(field.Invalid(p.Child("serial"), disk.Serial, "must be at most 256 letters, digits and _ . + -"))
	}
	b.oneOf(p.Child("cache"), disk.Cache, "", "none", "writethrough", "writeback")
	b.oneOf(p.Child("io"), disk.IO, "", "native", "threads")
	d.Cache, d.IO = disk.Cache, disk.IO
	if d.IO == "native" {
		if d.Cache == "" {
			d.Cache = "none" // what native needs
		}
		if d.Cache != "none" {
			b.fail(field.Invalid(p.Child("io"), disk.IO, "needs cache: none, not "+disk.Cache))
		}
	}
	b.oneOf(p.Child("errorPolicy"), disk.ErrorPolicy, "", "stop", "ignore", "report", "enospace")
	if d.ErrorPolicy == "" {
		d.ErrorPolicy = "stop"
	}
	// BlockSize.MatchVolume asks for the volume's own block size: a file has none.
	if s := disk.BlockSize; s != nil && s.Custom != nil {
		size := func(name string, n int32, optional bool) int {
			if optional && n == 0 {
				return 0
			}
			if n < 512 || n > 2<<20 || n&(n-1) != 0 {
				b.fail(field.Invalid(p.Child("blockSize", "custom", name), n, "must be a power of two between 512 and 2097152"))
			}
			return int(n)
		}
		d.LogicalBlock = size("logical", s.Custom.Logical, false)
		d.PhysicalBlock = size("physical", s.Custom.Physical, false)
		d.DiscardGranularity = size("discardGranularity", s.Custom.DiscardGranularity, true)
		if d.LogicalBlock > d.PhysicalBlock {
			b.fail(field.Invalid(p.Child("blockSize", "custom", "logical"), s.Custom.Logical, "must not be larger than the physical block size"))
		}
	}
}

// overlay is where the launcher puts the qcow2 file of a volume.
func overlay(volume string) string { return contract.DiskDir + "/" + volume + ".qcow2" }
