// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"regexp"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	// minGuestMemory is the smallest memory that a machine can be built with, in bytes.
	minGuestMemory = mebibyte
	// maxGuestMemory bounds sums of sizes in bytes; no host comes near it.
	maxGuestMemory = 16 << 40
)

func (v *validator) domain(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	d := &spec.Domain
	v.machine(p.Child("machine", "type"), d.Machine)
	v.cpu(p.Child("cpu"), d.CPU)
	v.memory(p, d)
	v.resources(p.Child("resources"), d.Resources)
	v.firmware(p.Child("firmware"), d)
	v.clock(p.Child("clock"), d.Clock)
	v.features(p.Child("features"), d)
	boot := bootOrders{}
	v.disks(p.Child("devices", "disks"), spec, boot)
	v.interfaces(p.Child("devices", "interfaces"), spec, boot)
	v.devices(p.Child("devices"), &d.Devices)
	if d.LaunchSecurity != nil {
		v.unsupported(p.Child("launchSecurity"), "leave it out")
	}
	if d.IoThreads != nil {
		v.unsupported(p.Child("ioThreads"), "leave it out")
	}
	if d.IoThreadsPolicy != nil {
		v.unsupported(p.Child("ioThreadsPolicy"), "leave it out")
	}
	v.chassis(p.Child("chassis"), d.Chassis)
	v.oneOf(p.Child("rebootPolicy"), d.RebootPolicy, "Reboot", "Terminate")
}

func (v *validator) chassis(p *field.Path, c *v1.Chassis) {
	if c == nil {
		return
	}
	for _, f := range []struct{ name, value string }{
		{"manufacturer", c.Manufacturer}, {"version", c.Version}, {"serial", c.Serial}, {"asset", c.Asset}, {"sku", c.SKU},
	} {
		v.printable(p.Child(f.name), f.value, maxSMBIOS)
	}
}

// maxSMBIOS is the length of a text that the guest reads about its hardware, in bytes.
const maxSMBIOS = 256

func (v *validator) printable(p *field.Path, s string, limit int) {
	if len(s) > limit {
		v.invalid(p, s, "is %d bytes long; use at most %d", len(s), limit)
	} else if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		v.invalid(p, s, "has control characters; use printable characters in one line")
	}
}

// machineType is the one type and its versioned forms. Which versions a node has
// depends on its QEMU.
var machineType = regexp.MustCompile(`^(q35|pc-q35-[0-9]+\.[0-9]+)$`)

func (v *validator) machine(p *field.Path, m *v1.Machine) {
	if m != nil && m.Type != "" && !machineType.MatchString(m.Type) {
		v.invalid(p, m.Type, "is not a machine type; use q35, or pc-q35-<version> such as pc-q35-10.0")
	}
}

// modelName is what a CPU model or feature may be called.
var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (v *validator) cpu(p *field.Path, cpu *v1.CPU) {
	if cpu == nil {
		return
	}
	total, ok := int64(1), true
	for _, n := range []struct {
		name  string
		value int64
	}{{"sockets", cpu.Sockets}, {"cores", cpu.Cores}, {"threads", cpu.Threads}} {
		if n.value < 0 || n.value > v.cluster.MaxVCPUs {
			v.invalid(p.Child(n.name), n.value, "is out of range; use 1 to %d", v.cluster.MaxVCPUs)
			ok = false
		}
		total = mulCapped(total, max(n.value, 1))
	}
	if ok && total > v.cluster.MaxVCPUs {
		v.invalid(p, total, "virtual CPUs (sockets × cores × threads) are too many; use %d at most", v.cluster.MaxVCPUs)
		ok = false
	}
	switch m := cpu.MaxSockets; {
	case !ok || m == 0:
	case m < cpu.Sockets:
		v.invalid(p.Child("maxSockets"), m, "is less than sockets (%d); use as many or more", cpu.Sockets)
	case mulCapped(m, max(cpu.Cores, 1)*max(cpu.Threads, 1)) > v.cluster.MaxVCPUs:
		v.invalid(p.Child("maxSockets"), m, "would allow more than %d virtual CPUs (maxSockets × cores × threads); use %d at most",
			v.cluster.MaxVCPUs, v.cluster.MaxVCPUs/(max(cpu.Cores, 1)*max(cpu.Threads, 1)))
	}
	if cpu.Model != "" && !modelName.MatchString(cpu.Model) {
		v.invalid(p.Child("model"), cpu.Model, "is not a CPU model; use host-model, host-passthrough, max or a model of QEMU such as Skylake-Server")
	}
	seen := map[string]*field.Path{}
	for i, f := range cpu.Features {
		fp := p.Child("features").Index(i)
		switch first, dup := seen[f.Name]; {
		case f.Name == "":
			v.required(fp.Child("name"), "name a CPU feature such as aes")
		case !modelName.MatchString(f.Name):
			v.invalid(fp.Child("name"), f.Name, "is not a CPU feature; use a name of QEMU such as aes")
		case dup:
			v.duplicate(fp.Child("name"), f.Name, first)
		default:
			seen[f.Name] = fp.Child("name")
		}
		v.oneOf(fp.Child("policy"), f.Policy, "force", "require", "optional", "disable", "forbid")
	}
	if isTrue(cpu.DedicatedCPUPlacement, false) {
		v.unsupported(p.Child("dedicatedCpuPlacement"), "set resources.requests.cpu to have CPU time guaranteed")
	}
	if isTrue(cpu.IsolateEmulatorThread, false) {
		v.unsupported(p.Child("isolateEmulatorThread"), "leave it out")
	}
	if cpu.NUMA != nil {
		v.unsupported(p.Child("numa"), "leave it out")
	}
	if cpu.Realtime != nil {
		v.unsupported(p.Child("realtime"), "leave it out")
	}
}

func (v *validator) memory(p *field.Path, d *v1.DomainSpec) {
	m, mp := d.Memory, p.Child("memory")
	if m == nil || m.Guest == nil {
		v.required(mp.Child("guest"), "say how much memory the guest sees, for example 1Gi")
	} else {
		v.guestMemory(mp.Child("guest"), m.Guest)
	}
	if m == nil {
		return
	}
	if m.MaxGuest != nil && m.Guest != nil {
		if m.MaxGuest.Cmp(*m.Guest) < 0 {
			v.invalid(mp.Child("maxGuest"), m.MaxGuest.String(), "is less than memory.guest (%s); use as much or more", m.Guest.String())
		} else {
			v.guestMemory(mp.Child("maxGuest"), m.MaxGuest)
		}
	}
	if m.Hugepages != nil {
		v.unsupported(mp.Child("hugepages"), "leave it out: guests use transparent huge pages where the node has them")
	}
	if m.ReservedOverhead != nil {
		v.unsupported(mp.Child("reservedOverhead"), "set resources.requests.memory above memory.guest")
	}
}

func (v *validator) guestMemory(p *field.Path, q *resource.Quantity) {
	switch n := q.Value(); {
	case n < minGuestMemory && strings.HasSuffix(q.String(), "m"):
		v.invalid(p, q.String(), "is in thousandths of a byte; write M or Mi for megabytes, for example 512Mi")
	case n < minGuestMemory:
		v.invalid(p, q.String(), "is too small; use 1Mi or more, for example 512Mi")
	case n > maxGuestMemory:
		v.invalid(p, q.String(), "is too large; use 16Ti or less")
	}
}

// accountable are the resources that a machine may ask for.
var accountable = []string{string(corev1.ResourceCPU), string(corev1.ResourceMemory), string(corev1.ResourceEphemeralStorage)}

func (v *validator) resources(p *field.Path, r *v1.ResourceRequirements) {
	if r == nil {
		return
	}
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"requests", r.Requests}, {"limits", r.Limits}} {
		for _, name := range sortedKeys(keyedByString(l.list)) {
			q, rp := l.list[corev1.ResourceName(name)], p.Child(l.name).Key(name)
			if name == accountable[0] || name == accountable[1] || name == accountable[2] {
				rp = p.Child(l.name, name)
			} else {
				v.unsupported(rp, "use "+orList(accountable))
				continue
			}
			if q.Sign() < 0 {
				v.invalid(rp, q.String(), "is negative; use 0 or more")
			} else if name == string(corev1.ResourceMemory) {
				v.guestMemory(rp, &q)
			}
		}
	}
	for _, name := range sortedKeys(keyedByString(r.Requests)) {
		limit, ok := r.Limits[corev1.ResourceName(name)]
		request := r.Requests[corev1.ResourceName(name)]
		if ok && request.Cmp(limit) > 0 {
			v.invalid(p.Child("requests", name), request.String(), "is more than resources.limits.%s (%s); use as much or less", name, limit.String())
		}
	}
}

func keyedByString(l corev1.ResourceList) map[string]resource.Quantity {
	out := make(map[string]resource.Quantity, len(l))
	for k, q := range l {
		out[string(k)] = q
	}
	return out
}

// uuidForm is the usual text form of a UUID.
var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

func (v *validator) firmware(p *field.Path, d *v1.DomainSpec) {
	fw := d.Firmware
	if fw == nil {
		return
	}
	if fw.UUID != "" && !uuidForm.MatchString(fw.UUID) {
		v.invalid(p.Child("uuid"), fw.UUID, "is not a UUID; use 32 hexadecimal digits in groups of 8-4-4-4-12, or leave it out to get one")
	}
	if fw.Serial != "" && (len(fw.Serial) > 256 || !serialNumber.MatchString(fw.Serial)) {
		v.invalid(p.Child("serial"), fw.Serial, "is not a serial number; use at most 256 letters, digits and the characters '_', '.', '+' and '-'")
	}
	if fw.ACPI != nil {
		v.unsupported(p.Child("acpi"), "leave it out")
	}
	if b := fw.Bootloader; b != nil {
		v.bootloader(p.Child("bootloader"), b)
	}
	if k := fw.KernelBoot; k != nil {
		v.kernelBoot(p.Child("kernelBoot"), k)
	}
}

func (v *validator) bootloader(p *field.Path, b *v1.Bootloader) {
	if b.BIOS != nil && b.EFI != nil {
		v.invalid(p, "bios and efi", "exclude each other; keep one")
	}
	if b.EFI == nil {
		return
	}
	if isTrue(b.EFI.SecureBoot, true) {
		v.unsupported(p.Child("efi", "secureBoot"), "it is on unless set to false; use secureBoot: false")
	}
	if isTrue(b.EFI.Persistent, false) {
		v.unsupported(p.Child("efi", "persistent"), "leave it out: UEFI's variables last as long as the instance")
	}
}

// maxKernelArgs is the length of the kernel's command line on x86, in bytes.
const maxKernelArgs = 2047

func (v *validator) kernelBoot(p *field.Path, k *v1.KernelBoot) {
	if k.Container == nil {
		if k.KernelArgs != "" {
			v.invalid(p.Child("kernelArgs"), k.KernelArgs, "has no kernel to go to; name one in kernelBoot.container")
		}
		return
	}
	cp := p.Child("container")
	v.image(cp.Child("image"), k.Container.Image)
	v.oneOf(cp.Child("imagePullPolicy"), string(k.Container.ImagePullPolicy), "Always", "IfNotPresent", "Never")
	v.objectName(cp.Child("imagePullSecret"), k.Container.ImagePullSecret)
	switch {
	case k.Container.KernelPath == "" && k.Container.InitrdPath == "":
		v.required(cp.Child("kernelPath"), "give the kernel's path in the image, for example /boot/vmlinuz")
	case k.Container.KernelPath == "":
		v.required(cp.Child("kernelPath"), "an initrd needs a kernel, for example /boot/vmlinuz")
	default:
		v.pathInImage(cp.Child("kernelPath"), k.Container.KernelPath, "/boot/vmlinuz")
	}
	if k.Container.InitrdPath != "" {
		v.pathInImage(cp.Child("initrdPath"), k.Container.InitrdPath, "/boot/initrd.img")
	}
	if len(k.KernelArgs) > maxKernelArgs {
		v.invalid(p.Child("kernelArgs"), k.KernelArgs, "is %d bytes long; use at most %d", len(k.KernelArgs), maxKernelArgs)
	} else {
		v.printable(p.Child("kernelArgs"), k.KernelArgs, maxKernelArgs)
	}
}

func (v *validator) clock(p *field.Path, c *v1.Clock) {
	if c == nil {
		return
	}
	if c.UTC != nil && c.Timezone != nil {
		v.invalid(p, "utc and timezone", "exclude each other; keep one")
	}
	if tz := c.Timezone; tz != nil {
		if _, err := time.LoadLocation(*tz); err != nil || *tz == "" || *tz == "Local" {
			v.invalid(p.Child("timezone"), *tz, "is not a time zone; use a name such as Europe/Berlin")
		} else if *tz != "UTC" {
			v.unsupported(p.Child("timezone"), "leave it out and set the time zone in the guest")
		}
	}
	t := c.Timer
	if t == nil {
		return
	}
	tp := p.Child("timer")
	if t.HPET != nil {
		v.oneOf(tp.Child("hpet", "tickPolicy"), t.HPET.TickPolicy, "delay", "catchup", "merge", "discard")
	}
	if t.PIT != nil {
		v.oneOf(tp.Child("pit", "tickPolicy"), t.PIT.TickPolicy, "delay", "catchup", "discard")
	}
	if t.RTC != nil {
		if !isTrue(t.RTC.Present, true) {
			v.unsupported(tp.Child("rtc", "present"), "a machine without a clock cannot be built; leave it out")
		}
		v.oneOf(tp.Child("rtc", "tickPolicy"), t.RTC.TickPolicy, "delay", "catchup")
		v.oneOf(tp.Child("rtc", "track"), t.RTC.Track, "guest", "wall")
	}
}

func (v *validator) features(p *field.Path, d *v1.DomainSpec) {
	f := d.Features
	if f == nil {
		return
	}
	if f.Apic != nil && !isTrue(f.Apic.Enabled, true) {
		v.unsupported(p.Child("apic", "enabled"), "a machine without an APIC cannot be built; leave it out")
	}
	h, hp := f.Hyperv, p.Child("hyperv")
	if h != nil {
		v.prerequisite(hp, "synic", enabled(h.Synic), "vpindex", h.Vpindex)
		v.prerequisite(hp, "synictimer", h.Synictimer != nil && isTrue(h.Synictimer.Enabled, true), "synic", h.Synic)
		v.prerequisite(hp, "ipi", enabled(h.Ipi), "vpindex", h.Vpindex)
		v.prerequisite(hp, "tlbflush", h.Tlbflush != nil && isTrue(h.Tlbflush.Enabled, true), "vpindex", h.Vpindex)
		v.prerequisite(hp, "evmcs", enabled(h.Evmcs), "vapic", h.Vapic)
		if s := h.Spinlocks; s != nil && s.Spinlocks != nil && (*s.Spinlocks < 4095 || *s.Spinlocks > 1<<32-1) {
			v.invalid(hp.Child("spinlocks", "spinlocks"), *s.Spinlocks, "is out of range; use 4095 to 4294967295")
		}
		if id := h.Vendorid; id != nil && isTrue(id.Enabled, true) && !vendorID.MatchString(id.Vendorid) {
			v.invalid(hp.Child("vendorid", "vendorid"), id.Vendorid, "is not a vendor's name; use 1 to 12 letters, digits, spaces and the characters '.', '_', ':' and '-'")
		}
	}
	if h != nil && f.HypervPassthrough != nil && isTrue(f.HypervPassthrough.Enabled, true) {
		v.invalid(p.Child("hypervPassthrough"), true, "cannot stand beside features.hyperv; keep one")
	}
}

// vendorID is what fits into the twelve bytes of CPUID.
var vendorID = regexp.MustCompile(`^[A-Za-z0-9 ._:-]{1,12}$`)

// prerequisite refuses a Hyper-V feature whose prerequisite was switched off.
func (v *validator) prerequisite(p *field.Path, name string, on bool, needs string, other *v1.FeatureState) {
	if on && !enabled(other) {
		v.invalid(p.Child(needs), false, "does not go with hyperv.%s, which needs it; switch it on or leave %s out", name, name)
	}
}
