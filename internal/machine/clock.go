// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Clock is the guest's real-time clock and timers.
type Clock struct {
	Base     string // "utc", or the date and time at which the clock starts
	Source   string // what moves it: "" (QEMU's default, the host's clock) or "vm"
	DriftFix string // "", "slew" or "none"
	HPET     bool
	NoPIT    bool
	// PITLostTicks is what happens to ticks that came too late (KVM only): "",
	// "delay" or "discard".
	PITLostTicks string
}

func (b *builder) clock() {
	// No HPET unless asked for: an idle emulated guest costs the host half as much
	// without it (1.1 % of a CPU instead of 2.0 % with Linux 6.1), and under KVM
	// guests have kvm-clock. Emulated vCPUs, however, have time stamp counters
	// that differ: guests with several fall back to the next best clock, and the
	// ACPI timer's 24 bits wrap when a busy host does not run them for 5 s.
	b.m.Clock = Clock{Base: "utc", HPET: b.host.Accel == TCG && b.m.CPU.MaxVCPUs() > 1}
	c := b.vmi.Spec.Domain.Clock
	if c == nil {
		return
	}
	p := spec.Child("domain", "clock")
	if c.Timezone != nil && *c.Timezone != "UTC" {
		b.fail(field.NotSupported(p.Child("timezone"), *c.Timezone, []string{"UTC"}))
	}
	if u := c.UTC; u != nil && u.OffsetSeconds != nil && *u.OffsetSeconds != 0 {
		if b.att.Now.IsZero() {
			b.fail(field.Invalid(p.Child("utc", "offsetSeconds"), *u.OffsetSeconds, "the time of the start is not known"))
		}
		b.m.Clock.Base = b.att.Now.Add(time.Duration(*u.OffsetSeconds) * time.Second).UTC().Format("2006-01-02T15:04:05")
	}
	t := c.Timer
	if t == nil {
		return
	}
	p = p.Child("timer")
	if h := t.HPET; h != nil {
		b.m.Clock.HPET = !isFalse(h.Present)
		b.oneOf(p.Child("hpet", "tickPolicy"), h.TickPolicy, "", "delay", "catchup", "merge", "discard")
	}
	if pit := t.PIT; pit != nil {
		b.m.Clock.NoPIT = isFalse(pit.Present)
		b.oneOf(p.Child("pit", "tickPolicy"), pit.TickPolicy, "", "delay", "catchup", "discard")
		// QEMU has no other policy to set for the emulated PIT, nor "catchup" as a wish.
		if b.host.Accel == KVM && (pit.TickPolicy == "delay" || pit.TickPolicy == "discard") {
			b.m.Clock.PITLostTicks = pit.TickPolicy
		}
	}
	if rtc := t.RTC; rtc != nil {
		if isFalse(rtc.Present) {
			b.unsupported(p.Child("rtc", "present"))
		}
		switch b.oneOf(p.Child("rtc", "tickPolicy"), rtc.TickPolicy, "", "delay", "catchup"); rtc.TickPolicy {
		case "catchup":
			b.m.Clock.DriftFix = "slew"
		case "delay":
			b.m.Clock.DriftFix = "none"
		}
		b.oneOf(p.Child("rtc", "track"), rtc.Track, "", "guest", "wall")
		if rtc.Track == "guest" {
			b.m.Clock.Source = "vm"
		}
	}
	if b.host.Accel == KVM {
		if k := t.KVM; k != nil && isFalse(k.Present) {
			b.flag("kvmclock", "off")
		}
		if h := t.Hyperv; h != nil {
			b.flag("hv-time", onOff(!isFalse(h.Present)))
		}
	}
}

// oneOf refuses a value that is none of the given ones; the empty one is not shown.
func (b *builder) oneOf(p *field.Path, value string, allowed ...string) {
	var show []string
	for _, a := range allowed {
		if a == value {
			return
		}
		if a != "" {
			show = append(show, a)
		}
	}
	b.fail(field.NotSupported(p, value, show))
}
