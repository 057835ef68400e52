// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
)

// Args is QEMU's command line without the program's name.
//
// There is no -sandbox: its spawn=deny would forbid to replace QEMU later, its
// filter would be stacked by each replacement, and the container's own seccomp
// profile forbids the rest.
func (m Machine) Args() []string {
	a := &args{}
	a.add("-name", (&keyvals{}).set("guest", m.Name).set("debug-threads", "on").String())
	a.add("-uuid", m.UUID)
	a.add("-msg", "timestamp=on")
	// The reason of its end, for when nobody hears the exit code.
	a.add("-D", contract.TerminationLog, "-trace", "enable="+contract.EndTrace)
	a.add("-no-user-config")
	a.add("-nodefaults")
	a.platform(m)
	a.monitors(m)
	a.serial(m)
	a.graphics(m)
	a.backends(m)
	for _, d := range m.Devices() {
		a.device(d)
	}
	return a.list
}

type args struct{ list []string }

func (a *args) add(words ...string) { a.list = append(a.list, words...) }

func (a *args) device(p Props) { a.add("-device", p.String()) }

// platform is everything that is not a device.
func (a *args) platform(m Machine) {
	a.add("-machine", m.machineOption())
	a.add("-accel", m.accelOption())
	a.add("-cpu", strings.Join(append([]string{m.CPU.Model}, m.CPU.Flags...), ","))
	c := m.CPU
	smp := (&keyvals{}).word(fmt.Sprint(c.VCPUs()))
	if c.MaxSockets > c.Sockets {
		smp.setInt("maxcpus", int64(c.MaxVCPUs()))
	}
	a.add("-smp", smp.setInt("sockets", int64(c.MaxSockets)).setInt("cores", int64(c.Cores)).setInt("threads", int64(c.Threads)).String())
	a.memory(m.Memory)
	a.add("-rtc", m.rtcOption())
	if t := m.Clock.PITLostTicks; t != "" {
		a.add("-global", "kvm-pit.lost_tick_policy="+t)
	}
	// A machine that sleeps would look as if it hung.
	a.add("-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1")
	reboot := "reset"
	if m.PowerOffOnReboot {
		reboot = "shutdown"
	}
	action := (&keyvals{}).set("panic", "exit-failure").set("reboot", reboot).set("shutdown", "poweroff")
	if m.Watchdog != nil {
		action.set("watchdog", m.Watchdog.Action)
	}
	a.add("-action", action.String())
	a.add("-boot", "strict=on")
	a.smbios(m)
	if m.Firmware.EFI {
		a.add("-blockdev", Props{{"driver", "file"}, {"node-name", "efi-code"}, {"filename", contract.OVMFCode}, {"read-only", true}}.String())
		a.add("-blockdev", Props{{"driver", "file"}, {"node-name", "efi-vars"}, {"filename", m.Firmware.VarsFile}}.String())
	}
	if k := m.Kernel; k != nil {
		a.add("-kernel", k.Path)
		if k.Initrd != "" {
			a.add("-initrd", k.Initrd)
		}
		if k.Cmdline != "" {
			a.add("-append", k.Cmdline)
		}
	}
	if m.Paused {
		a.add("-S")
	}
}

// memory is the guest's RAM and the room for more of it. The backend of what may
// be plugged one day reserves nothing: it costs an address range.
func (a *args) memory(m Memory) {
	k := (&keyvals{}).set("size", fmt.Sprintf("%dM", m.Size/mib))
	if m.Device() > 0 {
		k.setInt("slots", DIMMSlots).set("maxmem", fmt.Sprintf("%dM", m.addressable()/mib))
	}
	a.add("-m", k.String())
	a.add("-object", memfd("ram0", m.Size).String())
	if m.Device() > 0 {
		a.add("-object", append(memfd(MemoryBackend, m.Device()), Prop{"reserve", false}).String())
	}
}

// memfd is memory that a renewed QEMU inherits.
func memfd(id string, size int64) Props {
	return Props{{"qom-type", "memory-backend-memfd"}, {"id", id}, {"size", size}, {"share", true}}
}

func (m Machine) machineOption() string {
	k := (&keyvals{}).word(m.Type).
		set("memory-backend", "ram0").
		// RAM of devices (video memory, firmware) must be inherited too when
		// QEMU is replaced.
		setOn("aux-ram-share", true).
		setOn("dump-guest-core", false).
		setOn("mem-merge", false). // shared memory cannot be merged
		setOn("vmport", false).
		setOn("smm", m.SMM).
		setOn("hpet", m.Clock.HPET)
	if m.Clock.NoPIT {
		k.setOn("pit", false)
	}
	if !m.ACPI {
		k.setOn("acpi", false)
	}
	if m.Firmware.SerialBIOS {
		k.setOn("graphics", false)
	}
	if m.Firmware.EFI {
		k.set("pflash0", "efi-code").set("pflash1", "efi-vars")
	}
	return k.String()
}

// accelOption: under emulation one thread per vCPU (without it, unplugging a vCPU
// kills QEMU) and a bounded buffer for translated code.
func (m Machine) accelOption() string {
	if m.Accel == KVM {
		return "kvm"
	}
	return (&keyvals{}).word("tcg").set("thread", "multi").setInt("tb-size", m.translationBuffer()/mib).String()
}

// translationBuffer is the limit in bytes of the emulator's translated code. With
// 32 MiB a guest is as fast as without a limit. A tiny one gets by with 16 (its
// start takes a tenth more of a CPU's time); with 8 it takes three times as much,
// as code is thrown away and translated again and again.
func (m Machine) translationBuffer() int64 {
	if m.Memory.Size <= 128*mib {
		return 16 * mib
	}
	return 32 * mib
}

func (m Machine) rtcOption() string {
	k := (&keyvals{}).set("base", m.Clock.Base)
	if m.Clock.Source != "" {
		k.set("clock", m.Clock.Source)
	}
	if m.Clock.DriftFix != "" {
		k.set("driftfix", m.Clock.DriftFix)
	}
	return k.String()
}

func (a *args) smbios(m Machine) {
	optional := func(k *keyvals, key, value string) {
		if value != "" {
			k.set(key, value)
		}
	}
	k := (&keyvals{}).set("type", "1").set("manufacturer", "KubeVirt").set("product", "None").set("uuid", m.UUID)
	optional(k, "serial", m.SMBIOS.Serial)
	a.add("-smbios", k.set("family", "KubeVirt").String())
	c := m.SMBIOS.Chassis
	if c == nil {
		return
	}
	k = (&keyvals{}).set("type", "3")
	optional(k, "manufacturer", c.Manufacturer)
	optional(k, "version", c.Version)
	optional(k, "serial", c.Serial)
	optional(k, "asset", c.Asset)
	optional(k, "sku", c.SKU)
	a.add("-smbios", k.String())
}

// socket is a chardev that listens in the pod's directory of sockets.
func socket(id, file string) *keyvals {
	return (&keyvals{}).word("socket").set("id", id).set("path", contract.RunDir+"/"+file).
		setOn("server", true).setOn("wait", false)
}

// monitors: one for the agent, one for the pod's preStop hook. A monitor serves
// one client at a time.
func (a *args) monitors(m Machine) {
	for _, mon := range []struct{ id, file string }{
		{"qmp0", contract.QMPSocket}, {"qmp1", contract.ShutdownQMPSocket},
	} {
		a.add("-chardev", socket(mon.id, mon.file).String())
		if m.MonitorObjects {
			a.add("-object", Props{{"qom-type", "monitor-qmp"}, {"id", "monitor-" + mon.id}, {"chardev", mon.id}}.String())
		} else {
			a.add("-mon", (&keyvals{}).set("chardev", mon.id).set("mode", "control").String())
		}
	}
}

// serial is the serial console: one chardev, whose log goes to a small tmpfs. When
// that is full QEMU drops output; it never waits, as it would for the socket's
// client or for the container's own output.
func (a *args) serial(m Machine) {
	if m.Serial == nil {
		return
	}
	k := socket("serial0", contract.SerialSocket)
	if m.Serial.Log {
		k.set("logfile", contract.LogDir+"/"+contract.ConsoleLog).setOn("logappend", true)
	}
	a.add("-chardev", k.String())
}

func (a *args) graphics(m Machine) {
	a.add("-display", "none")
	if m.Graphics != nil {
		// Any number of viewers may look at the same time.
		a.add("-vnc", (&keyvals{}).word("unix:"+contract.RunDir+"/"+contract.VNCSocket).set("share", "force-shared").String())
	}
}

// backends are what devices lean on.
func (a *args) backends(m Machine) {
	a.add("-chardev", socket("agent0", contract.GuestAgentSocket).String())
	a.add("-object", Props{{"qom-type", "rng-builtin"}, {"id", "entropy0"}}.String())
	for _, d := range m.Disks {
		for _, p := range d.Blockdevs() {
			a.add("-blockdev", p.String())
		}
	}
	for _, n := range m.NICs {
		a.add("-netdev", n.Netdev().String())
	}
}
