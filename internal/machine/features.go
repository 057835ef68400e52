// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// features maps spec.domain.features. Hyper-V's enlightenments and the
// paravirtual KVM features only mean something under KVM; emulation leaves them
// out, as a guest finds out by CPUID what there is.
func (b *builder) features() {
	b.m.ACPI = true
	f := b.vmi.Spec.Domain.Features
	if f == nil {
		return
	}
	p := spec.Child("domain", "features")
	b.m.ACPI = f.ACPI == nil || enabled(f.ACPI)
	b.m.SMM = enabled(f.SMM)
	kvm := b.host.Accel == KVM
	if f.Apic != nil {
		if isFalse(f.Apic.Enabled) {
			b.unsupported(p.Child("apic", "enabled"))
		}
		if isTrue(f.Apic.EndOfInterrupt) && kvm {
			b.flag("kvm-pv-eoi", "on")
		}
	}
	if f.KVM != nil && isTrue(f.KVM.Hidden) && kvm {
		b.flag("kvm", "off")
	}
	if f.Pvspinlock != nil && kvm {
		b.flag("kvm-pv-unhalt", onOff(enabled(f.Pvspinlock)))
	}
	if f.HypervPassthrough != nil && !isFalse(f.HypervPassthrough.Enabled) && kvm {
		b.flag("hv-passthrough", "on")
	}
	if f.Hyperv != nil {
		b.hyperv(f.Hyperv, p.Child("hyperv"))
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// vendorID is what fits in CPUID's twelve bytes and in QEMU's -cpu option.
var vendorID = regexp.MustCompile(`^[A-Za-z0-9 ._:-]{1,12}$`)

func (b *builder) hyperv(h *v1.FeatureHyperv, p *field.Path) {
	spinlocks := int64(4096)
	if s := h.Spinlocks; s != nil && s.Spinlocks != nil {
		spinlocks = *s.Spinlocks
		if spinlocks < 4095 || spinlocks > 0xffffffff {
			b.fail(field.Invalid(p.Child("spinlocks", "spinlocks"), spinlocks, "must be at least 4095 and fit in 32 bits"))
		}
	}
	if v := h.Vendorid; v != nil && !isFalse(v.Enabled) && !vendorID.MatchString(v.Vendorid) {
		b.fail(field.Invalid(p.Child("vendorid", "vendorid"), v.Vendorid, "must be 1 to 12 letters, digits, spaces or . _ : -"))
	}
	if b.host.Accel != KVM {
		return
	}
	set := func(on bool, name, value string) {
		if on {
			b.flag(name, value)
		}
	}
	set(enabled(h.Relaxed), "hv-relaxed", "on")
	set(enabled(h.Vapic), "hv-vapic", "on")
	set(h.Spinlocks != nil && !isFalse(h.Spinlocks.Enabled), "hv-spinlocks", fmt.Sprintf("%#x", spinlocks))
	set(enabled(h.Vpindex), "hv-vpindex", "on")
	set(enabled(h.Runtime), "hv-runtime", "on")
	set(enabled(h.Synic), "hv-synic", "on")
	if t := h.Synictimer; t != nil && !isFalse(t.Enabled) {
		b.flag("hv-stimer", "on")
		set(enabled(t.Direct), "hv-stimer-direct", "on")
	}
	set(enabled(h.Reset), "hv-reset", "on")
	set(h.Vendorid != nil && !isFalse(h.Vendorid.Enabled), "hv-vendor-id", vendorOf(h))
	set(enabled(h.Frequencies), "hv-frequencies", "on")
	set(enabled(h.Reenlightenment), "hv-reenlightenment", "on")
	if t := h.Tlbflush; t != nil && !isFalse(t.Enabled) {
		b.flag("hv-tlbflush", "on")
		set(enabled(t.Direct), "hv-tlbflush-direct", "on")
		set(enabled(t.Extended), "hv-tlbflush-ext", "on")
	}
	set(enabled(h.Ipi), "hv-ipi", "on")
	set(enabled(h.Evmcs), "hv-evmcs", "on")
}

func vendorOf(h *v1.FeatureHyperv) string {
	if h.Vendorid == nil {
		return ""
	}
	return h.Vendorid.Vendorid
}
