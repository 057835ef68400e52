// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// refuseUnsupported names each field that is set and that this package cannot
// honour. Admission refuses them first; this is the second door, for instances
// that came past it.
func (b *builder) refuseUnsupported() {
	s := &b.vmi.Spec
	domain := spec.Child("domain")
	devices := domain.Child("devices")
	d := &s.Domain.Devices
	refuse := func(set bool, p *field.Path) {
		if set {
			b.unsupported(p)
		}
	}
	refuse(s.Architecture != "" && s.Architecture != b.host.Arch, spec.Child("architecture"))
	refuse(len(s.UtilityVolumes) > 0, spec.Child("utilityVolumes"))
	refuse(len(s.ResourceClaims) > 0, spec.Child("resourceClaims"))

	refuse(s.Domain.LaunchSecurity != nil, domain.Child("launchSecurity"))
	refuse(s.Domain.IoThreads != nil, domain.Child("ioThreads"))
	refuse(s.Domain.IoThreadsPolicy != nil, domain.Child("ioThreadsPolicy"))
	if m := s.Domain.Memory; m != nil {
		refuse(m.Hugepages != nil, domain.Child("memory", "hugepages"))
		refuse(m.ReservedOverhead != nil && m.ReservedOverhead.MemLock == "Required", domain.Child("memory", "reservedOverhead", "memLock"))
	}
	if c := s.Domain.CPU; c != nil {
		p := domain.Child("cpu")
		refuse(isTrue(c.DedicatedCPUPlacement), p.Child("dedicatedCpuPlacement"))
		refuse(isTrue(c.IsolateEmulatorThread), p.Child("isolateEmulatorThread"))
		refuse(c.NUMA != nil, p.Child("numa"))
		refuse(c.Realtime != nil, p.Child("realtime"))
	}
	refuse(isTrue(d.AutoattachVSOCK), devices.Child("autoattachVSOCK"))
	refuse(isTrue(d.NetworkInterfaceMultiqueue), devices.Child("networkInterfaceMultiqueue"))
	refuse(d.ClientPassthrough != nil, devices.Child("clientPassthrough"))
	refuse(d.DownwardMetrics != nil, devices.Child("downwardMetrics"))
	refuse(len(d.Filesystems) > 0, devices.Child("filesystems"))
	refuse(len(d.GPUs) > 0, devices.Child("gpus"))
	refuse(len(d.HostDevices) > 0, devices.Child("hostDevices"))
	refuse(d.Sound != nil, devices.Child("sound"))
	refuse(d.TPM != nil && !isFalse(d.TPM.Enabled), devices.Child("tpm"))
	for i := range d.Disks {
		b.refuseInDisk(&d.Disks[i], devices.Child("disks").Index(i), refuse)
	}
	for i := range d.Interfaces {
		n := &d.Interfaces[i]
		p := devices.Child("interfaces").Index(i)
		refuse(n.PciAddress != "", p.Child("pciAddress"))
		refuse(n.Sriov != nil, p.Child("sriov"))
		refuse(n.PasstBinding != nil, p.Child("passtBinding"))
		refuse(n.Binding != nil, p.Child("binding"))
		refuse(n.Slirp != nil, p.Child("slirp"))
		refuse(n.Macvtap != nil, p.Child("macvtap"))
		refuse(n.Passt != nil, p.Child("passt"))
	}
}

func (b *builder) refuseInDisk(d *v1.Disk, p *field.Path, refuse func(bool, *field.Path)) {
	refuse(d.LUN != nil, p.Child("lun"))
	refuse(isTrue(d.DedicatedIOThread), p.Child("dedicatedIOThread"))
	refuse(isTrue(d.Shareable), p.Child("shareable"))
	refuse(isTrue(d.ChangedBlockTracking), p.Child("changedBlockTracking"))
	refuse(d.Disk != nil && d.Disk.PciAddress != "", p.Child("disk", "pciAddress"))
	refuse(d.CDRom != nil && d.CDRom.Tray == "open", p.Child("cdrom", "tray"))
}
