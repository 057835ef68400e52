// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Buses of disks and of CD-ROM drives.
var (
	diskBuses  = []string{"virtio", "sata", "scsi", "usb"}
	cdromBuses = []string{"sata", "scsi", "usb"}
)

// serialNumber is what a disk's or machine's serial number may consist of.
var serialNumber = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`)

// disks checks spec.domain.devices.disks against spec.volumes.
func (v *validator) disks(p *field.Path, spec *v1.VirtualMachineInstanceSpec, boot bootOrders) {
	list := spec.Domain.Devices.Disks
	if n := len(list); n > maxDevices {
		v.invalid(p, n, "disks are too many; use %d at most", maxDevices)
		return
	}
	volumes := map[string]bool{}
	for _, vol := range spec.Volumes {
		volumes[vol.Name] = true
	}
	names := map[string]*field.Path{}
	for i := range list {
		d, dp := &list[i], p.Index(i)
		if volumes[d.Name] {
			v.unique(dp.Child("name"), d.Name, names) // its form was checked with the volume
		} else if v.uniqueName(dp.Child("name"), d.Name, names) {
			v.add("FieldValueNotFound", dp.Child("name"), show(d.Name)+" is not the name of a volume; add one of that name to volumes or use a name from there")
		}
		v.disk(dp, d)
		boot.check(v, dp.Child("bootOrder"), d.BootOrder)
	}
}

func (v *validator) disk(p *field.Path, d *v1.Disk) {
	targets := 0
	for _, set := range []bool{d.Disk != nil, d.LUN != nil, d.CDRom != nil} {
		if set {
			targets++
		}
	}
	if targets > 1 {
		v.invalid(p, d.Name, "is of several kinds; keep one of disk and cdrom")
	}
	if t := d.Disk; t != nil {
		v.oneOf(p.Child("disk", "bus"), t.Bus, diskBuses...)
		if isTrue(t.Readonly, false) && t.Bus == "sata" {
			v.invalid(p.Child("disk", "readonly"), true, "is not possible on bus sata; use virtio or scsi, or a cdrom")
		}
		if t.PciAddress != "" {
			v.unsupported(p.Child("disk", "pciAddress"), "leave it out: addresses are assigned in the order of the disks")
		}
	}
	if t := d.CDRom; t != nil {
		v.oneOf(p.Child("cdrom", "bus"), t.Bus, cdromBuses...)
		if !isTrue(t.Readonly, true) {
			v.invalid(p.Child("cdrom", "readonly"), false, "is not possible; a CD-ROM is always read-only, use a disk to write to")
		}
		switch t.Tray {
		case "", "closed":
		case "open":
			v.unsupported(p.Child("cdrom", "tray"), `"open" cannot be set before the start; use closed`)
		default:
			v.oneOf(p.Child("cdrom", "tray"), t.Tray, "closed")
		}
	}
	if d.LUN != nil {
		v.unsupported(p.Child("lun"), "use a disk, which takes a claim of either volume mode; commands of the guest are not passed to a SCSI device of the host")
	}
	if d.Serial != "" && (len(d.Serial) > 256 || !serialNumber.MatchString(d.Serial)) {
		v.invalid(p.Child("serial"), d.Serial, "is not a serial number; use at most 256 letters, digits and the characters '_', '.', '+' and '-'")
	}
	v.oneOf(p.Child("cache"), d.Cache, "none", "writethrough", "writeback")
	v.oneOf(p.Child("io"), d.IO, "native", "threads")
	v.oneOf(p.Child("errorPolicy"), d.ErrorPolicy, "stop", "ignore", "report", "enospace")
	if d.IO == "native" && d.Cache != "" && d.Cache != "none" {
		v.invalid(p.Child("io"), d.IO, "needs cache none, found %s; change one of them", show(d.Cache))
	}
	v.blockSize(p.Child("blockSize"), d.BlockSize)
	v.unsupportedDisk(p, d)
}

func (v *validator) unsupportedDisk(p *field.Path, d *v1.Disk) {
	for _, u := range []struct {
		set           bool
		name, instead string
	}{
		{isTrue(d.ChangedBlockTracking, false), "changedBlockTracking", "leave it out"},
		{isTrue(d.DedicatedIOThread, false), "dedicatedIOThread", "leave it out"},
		{isTrue(d.Shareable, false), "shareable", "leave it out: a volume is one machine's at a time"},
		{d.Tag != "", "tag", "leave it out, and find the disk in the guest by its serial"},
	} {
		if u.set {
			v.unsupported(p.Child(u.name), u.instead)
		}
	}
}

const (
	minBlock = 512
	maxBlock = 2 << 20
)

func (v *validator) blockSize(p *field.Path, s *v1.BlockSize) {
	if s == nil || s.Custom == nil {
		return
	}
	for _, b := range []struct {
		name     string
		bytes    int32
		optional bool
	}{{"logical", s.Custom.Logical, false}, {"physical", s.Custom.Physical, false}, {"discardGranularity", s.Custom.DiscardGranularity, true}} {
		if b.optional && b.bytes == 0 {
			continue
		}
		if b.bytes < minBlock || b.bytes > maxBlock || b.bytes&(b.bytes-1) != 0 {
			v.invalid(p.Child("custom", b.name), b.bytes, "is not a block size; use a power of two from %d to %d", minBlock, maxBlock)
		}
	}
	if s.Custom.Logical > s.Custom.Physical {
		v.invalid(p.Child("custom", "logical"), s.Custom.Logical, "is more than custom.physical (%d); use as much or less", s.Custom.Physical)
	}
}

// bootOrders are the boot orders used so far, by disks and interfaces alike.
type bootOrders map[int32]*field.Path

func (b bootOrders) check(v *validator, p *field.Path, order *int32) {
	if order == nil {
		return
	}
	if *order < 1 {
		v.invalid(p, *order, "is not a boot order; use 1 for the first device, 2 for the second and so on")
		return
	}
	if first, ok := b[*order]; ok {
		v.duplicate(p, *order, first)
		return
	}
	b[*order] = p
}
