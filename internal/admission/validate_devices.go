// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// devices checks the devices besides disks and interfaces.
func (v *validator) devices(p *field.Path, d *v1.Devices) {
	names := map[string]*field.Path{}
	for i, in := range d.Inputs {
		ip := p.Child("inputs").Index(i)
		v.uniqueName(ip.Child("name"), in.Name, names)
		v.oneOf(ip.Child("type"), in.Type, "tablet")
		v.oneOf(ip.Child("bus"), in.Bus, "usb", "virtio")
	}
	if w := d.Watchdog; w != nil {
		v.watchdog(p.Child("watchdog"), w)
	}
	if vd := d.Video; vd != nil {
		vp := p.Child("video", "type")
		if !isTrue(d.AutoattachGraphicsDevice, true) {
			v.invalid(p.Child("video"), vd.Type, "has no meaning with autoattachGraphicsDevice false; leave one of them out")
		}
		v.oneOf(vp, vd.Type, "vga", "virtio", "bochs", "cirrus", "ramfb")
	}
	for i, pd := range d.PanicDevices {
		v.oneOf(p.Child("panicDevices").Index(i).Child("model"), pd.Model, "hyperv", "isa", "pvpanic")
	}
	v.unsupportedDevices(p, d)
}

func (v *validator) watchdog(p *field.Path, w *v1.Watchdog) {
	v.uniqueName(p.Child("name"), w.Name, map[string]*field.Path{})
	if w.Diag288 != nil {
		v.unsupported(p.Child("diag288"), "it is a device of s390x; use i6300esb")
	}
	if e := w.I6300esb; e != nil {
		v.oneOf(p.Child("i6300esb", "action"), e.Action, "poweroff", "reset", "shutdown")
	}
}

func (v *validator) unsupportedDevices(p *field.Path, d *v1.Devices) {
	for _, u := range []struct {
		set           bool
		name, instead string
	}{
		{isTrue(d.AutoattachVSOCK, false), "autoattachVSOCK", "leave it out and reach the guest over its network"},
		{d.ClientPassthrough != nil, "clientPassthrough", "leave it out"},
		{d.DownwardMetrics != nil, "downwardMetrics", "leave it out"},
		{len(d.Filesystems) > 0, "filesystems", "use a disk"},
		{len(d.GPUs) > 0, "gpus", "leave it out"},
		{len(d.HostDevices) > 0, "hostDevices", "leave it out"},
		{isTrue(d.NetworkInterfaceMultiqueue, false), "networkInterfaceMultiqueue", "leave it out: interfaces have one queue"},
		{d.Sound != nil, "sound", "leave it out"},
		{d.TPM != nil && isTrue(d.TPM.Enabled, true), "tpm", "leave it out"},
	} {
		if u.set {
			v.unsupported(p.Child(u.name), u.instead)
		}
	}
}
