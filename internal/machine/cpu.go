// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"regexp"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// CPU is the guest's processors.
type CPU struct {
	Model string // QEMU's name
	// Flags are the model's properties, in order: "name=value".
	Flags []string
	Topology
	// MaxSockets bounds hot-plug, which plugs whole sockets. At least Sockets.
	MaxSockets int
}

// Topology is how the vCPUs are laid out.
type Topology struct{ Sockets, Cores, Threads int }

// VCPUs is the number of vCPUs.
func (t Topology) VCPUs() int { return t.Sockets * t.Cores * t.Threads }

// MaxVCPUs is the number of vCPUs that hot-plug can reach.
func (c CPU) MaxVCPUs() int { return c.MaxSockets * c.Cores * c.Threads }

const (
	// maxAPICID: beyond it a guest needs an emulated IOMMU for its interrupts.
	maxAPICID = 254
	// hotVCPUCost is the guest memory that Linux spends for each vCPU that might
	// come one day: 18 MiB for 63 of them were measured.
	hotVCPUCost = 300 << 10
	// hotVCPUShare is the part of the guest's memory that this may take. With all
	// of 255 vCPUs a guest of 128 MiB runs out of memory while it boots; 1/32 of
	// it allows 13.
	hotVCPUShare = 32
	// tcgPlugs is the number of vCPUs for which emulation gets room when hot-plug
	// is possible at all. Each plug, even of a vCPU that was unplugged, uses up
	// one of QEMU's translation contexts for good, and without one QEMU aborts.
	tcgPlugs = 8
)

// GuestTopology is the boot topology that the spec asks for. Without any number
// in spec.domain.cpu it is as many sockets as the CPU limit (else request) says,
// rounded up, and 1 without these.
func GuestTopology(vmi *v1.VirtualMachineInstance) (Topology, error) {
	t, errs := guestTopology(&vmi.Spec.Domain)
	return t, errs.ToAggregate()
}

func guestTopology(d *v1.DomainSpec) (Topology, field.ErrorList) {
	p := spec.Child("domain", "cpu")
	var c v1.CPU
	if d.CPU != nil {
		c = *d.CPU
	}
	if c.Sockets == 0 && c.Cores == 0 && c.Threads == 0 && d.Resources != nil {
		for _, r := range []struct {
			list v1.ResourceRequirements
			path *field.Path
		}{
			{v1.ResourceRequirements{Limits: d.Resources.Limits}, spec.Child("domain", "resources", "limits", "cpu")},
			{v1.ResourceRequirements{Limits: d.Resources.Requests}, spec.Child("domain", "resources", "requests", "cpu")},
		} {
			if q, ok := r.list.Limits["cpu"]; ok {
				c.Sockets, p = q.Value(), r.path
				break
			}
		}
	}
	var errs field.ErrorList
	one := func(name string, n int64) int {
		if n < 0 || n > maxAPICID+1 {
			errs = append(errs, field.Invalid(p.Child(name), n, fmt.Sprintf("must be between 1 and %d", maxAPICID+1)))
		}
		return max(1, int(n))
	}
	t := Topology{Sockets: one("sockets", c.Sockets), Cores: one("cores", c.Cores), Threads: one("threads", c.Threads)}
	if len(errs) == 0 && t.lastAPICID(t.Sockets) > maxAPICID {
		errs = append(errs, field.Invalid(p, fmt.Sprintf("%d sockets × %d cores × %d threads", t.Sockets, t.Cores, t.Threads),
			fmt.Sprintf("too many vCPUs: their APIC ids, in which cores and threads each take a power of two, must not exceed %d", maxAPICID)))
	}
	return t, errs
}

// lastAPICID is the highest APIC id with that many sockets: each level of the
// topology takes whole bits of it.
func (t Topology) lastAPICID(sockets int) int {
	threads, cores := pow2(t.Threads), pow2(t.Cores)
	return (sockets-1)*cores*threads + (t.Cores-1)*threads + t.Threads - 1
}

// pow2 is the smallest power of two that is not below n.
func pow2(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

func (b *builder) cpu() {
	t, errs := guestTopology(&b.vmi.Spec.Domain)
	if len(errs) > 0 {
		b.errs = append(b.errs, errs...)
		return
	}
	b.m.CPU.Topology = t
	c := b.vmi.Spec.Domain.CPU
	if c == nil {
		c = &v1.CPU{}
	}
	if c.MaxSockets < 0 || c.MaxSockets > 0 && c.MaxSockets < int64(t.Sockets) {
		b.fail(field.Invalid(spec.Child("domain", "cpu", "maxSockets"), c.MaxSockets, fmt.Sprintf("must not be below the number of sockets, %d", t.Sockets)))
		return
	}
	b.m.CPU.MaxSockets = maxSockets(t, c.MaxSockets, b.m.Memory.Size, b.host.Accel)
	b.cpuModel(c)
}

// maxSockets bounds hot-plug: what the spec allows, as far as the guest's memory
// and APIC ids reach. Without a limit in the spec there is no hot-plug.
func maxSockets(t Topology, want, memory int64, accel Accel) int {
	if want <= int64(t.Sockets) {
		return t.Sockets
	}
	perSocket := t.Cores * t.Threads
	n := int(min(want, maxAPICID+1))
	if accel == TCG {
		n = max(n, t.Sockets+(tcgPlugs-1+perSocket-1)/perSocket)
	}
	affordable := int(memory / hotVCPUShare / hotVCPUCost / int64(perSocket))
	n = min(n, t.Sockets+affordable)
	for n > t.Sockets && t.lastAPICID(n) > maxAPICID {
		n--
	}
	return n
}

// cpuWord is the alphabet of QEMU's CPU models and features.
var cpuWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// cpuModel maps spec.domain.cpu.model and features. Under emulation there is
// nothing of the host's CPU in the guest: "max" is all that QEMU can emulate.
func (b *builder) cpuModel(c *v1.CPU) {
	p := spec.Child("domain", "cpu")
	kvm := b.host.Accel == KVM
	named := false
	switch c.Model {
	case "", "host-model", "host-passthrough":
		b.m.CPU.Model = "max"
		if kvm {
			b.m.CPU.Model = "host"
		}
	default:
		named = true
		b.m.CPU.Model = c.Model
		if !cpuWord.MatchString(c.Model) {
			b.fail(field.Invalid(p.Child("model"), c.Model, "must be host-model, host-passthrough or the name of one of QEMU's CPU models"))
		}
	}
	required, lax := named, false
	for i, f := range c.Features {
		fp := p.Child("features").Index(i)
		if !cpuWord.MatchString(f.Name) {
			b.fail(field.Invalid(fp.Child("name"), f.Name, "must be the name of a CPU feature, such as avx2"))
			continue
		}
		switch f.Policy {
		case "force":
			lax = true
			b.flag(f.Name, "on")
		case "", "require":
			required = true
			b.flag(f.Name, "on")
		case "optional":
			// "host" and "max" have all that is possible already.
			if named {
				lax = true
				b.flag(f.Name, "on")
			}
		case "disable", "forbid":
			b.flag(f.Name, "off")
		default:
			b.fail(field.NotSupported(fp.Child("policy"), f.Policy, []string{"force", "require", "optional", "disable", "forbid"}))
		}
	}
	if kvm && required && !lax {
		// QEMU starts without what the host lacks unless told otherwise. With a
		// forced or optional feature beside it, that is what was asked for; the
		// pod's node selector then has to see to the required ones.
		b.flag("enforce", "on")
	}
}

func (b *builder) flag(name, value string) {
	b.m.CPU.Flags = append(b.m.CPU.Flags, name+"="+value)
}
