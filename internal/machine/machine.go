// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Machine is a QEMU machine: everything of its command line, typed.
type Machine struct {
	Name  string // <namespace>_<name>
	UUID  string
	Type  string // versioned, such as "pc-q35-11.1"
	Accel Accel
	// MonitorObjects says that QEMU takes monitors as objects; it deprecates the
	// option for them since.
	MonitorObjects bool

	CPU      CPU
	Memory   Memory
	Firmware Firmware
	Kernel   *Kernel // direct kernel boot, or nil
	SMBIOS   SMBIOS
	Clock    Clock
	ACPI     bool
	SMM      bool

	Paused           bool // QEMU waits for `cont` before the first instruction
	PowerOffOnReboot bool // a reboot of the guest ends QEMU

	Serial   *Serial // nil: no serial console
	Graphics *Graphics
	Balloon  bool
	Inputs   []Input
	Watchdog *Watchdog
	Panic    []PanicDevice

	SCSI  bool // a virtio-scsi controller
	USB   bool // an xHCI controller
	SATA  int  // SATA controllers beyond the chipset's own
	Ports []RootPort
	Disks []Disk
	NICs  []NIC
}

// builder carries what New needs while it fills a Machine.
type builder struct {
	vmi  *v1.VirtualMachineInstance
	host Host
	att  Attachments
	qemu version
	m    Machine
	pci  pciAllocator
	ids  map[string]*field.Path // device ids in use
	// claims counts the persistent volumes so far.
	claims int
	errs   field.ErrorList
}

func (b *builder) fail(err *field.Error) {
	if err != nil {
		b.errs = append(b.errs, err)
	}
}

func (b *builder) unsupported(p *field.Path) {
	b.fail(field.Forbidden(p, "is not supported"))
}

var spec = field.NewPath("spec")

// New builds the machine of an instance. The error, if any, is an aggregate of
// *field.Error, each with the path of the field, or says what of host or
// attachments is wrong.
func New(vmi *v1.VirtualMachineInstance, host Host, attach Attachments) (Machine, error) {
	qemu, err := parseVersion(host.QEMUVersion)
	if err != nil {
		return Machine{}, fmt.Errorf("QEMU version: %w", err)
	}
	if qemu.less(oldestQEMU) {
		return Machine{}, fmt.Errorf("QEMU %s is too old: %s or newer is needed", host.QEMUVersion, oldestQEMU)
	}
	if host.Accel != KVM && host.Accel != TCG {
		return Machine{}, fmt.Errorf("accelerator %q: expected %q or %q", host.Accel, KVM, TCG)
	}
	if host.Arch != "amd64" {
		return Machine{}, fmt.Errorf("architecture %q is not supported: expected %q", host.Arch, "amd64")
	}
	b := &builder{
		vmi: vmi, host: host, att: attach, qemu: qemu,
		pci: pciAllocator{last: slotLast},
		ids: map[string]*field.Path{},
	}
	b.refuseUnsupported()
	b.identity()
	b.memory()
	b.cpu()
	b.features()
	b.clock()
	b.firmware()
	b.fixedDevices()
	b.disks()
	b.nics()
	if b.pci.err != nil {
		b.fail(field.Invalid(spec.Child("domain", "devices"), "", b.pci.err.Error()))
	}
	spare := sparePorts
	if isTrue(vmi.Spec.Domain.Devices.DisableHotplug) {
		spare = 0
	}
	b.m.Ports = b.pci.rootPorts(spare)
	if err := b.errs.ToAggregate(); err != nil {
		return Machine{}, err
	}
	return b.m, nil
}

// identity is the name, the UUID, the type and how the machine starts.
func (b *builder) identity() {
	s := &b.vmi.Spec
	b.m.Name = b.vmi.Namespace + "_" + b.vmi.Name
	b.fail(checkText(field.NewPath("metadata", "name"), b.m.Name, 400))
	b.m.UUID = FirmwareUUID(b.vmi)
	if !uuidForm.MatchString(b.m.UUID) {
		b.fail(field.Invalid(spec.Child("domain", "firmware", "uuid"), b.m.UUID, "must be a UUID such as 5d307ca9-b3ef-428c-8861-06e72d69f223"))
	}
	b.m.Accel = b.host.Accel
	b.m.MonitorObjects = !b.qemu.less(version{11, 1})
	b.machineType()
	if s.StartStrategy != nil {
		p := spec.Child("startStrategy")
		if *s.StartStrategy != "Paused" {
			b.fail(field.NotSupported(p, *s.StartStrategy, []string{"Paused"}))
		}
		b.m.Paused = true
	}
	switch p := s.Domain.RebootPolicy; p {
	case "", "Reboot":
	case "Terminate":
		b.m.PowerOffOnReboot = true
	default:
		b.fail(field.NotSupported(spec.Child("domain", "rebootPolicy"), p, []string{"Reboot", "Terminate"}))
	}
}

// machineType resolves spec.domain.machine.type.
func (b *builder) machineType() {
	newest := "pc-q35-" + b.qemu.String()
	want := ""
	if m := b.vmi.Spec.Domain.Machine; m != nil {
		want = m.Type
	}
	switch want {
	case "", "q35", newest:
		b.m.Type = newest
		return
	}
	oldest := oldestMachine(b.qemu)
	v, ok := machineVersion(want)
	if !ok || v.less(oldest) || b.qemu.less(v) {
		b.fail(field.Invalid(spec.Child("domain", "machine", "type"), want,
			fmt.Sprintf("QEMU %s has q35 and pc-q35-%s to %s", b.host.QEMUVersion, oldest, newest)))
		return
	}
	b.m.Type = "pc-q35-" + v.String()
}

// machineVersion reads the version in "pc-q35-<major>.<minor>".
func machineVersion(t string) (version, bool) {
	const prefix = "pc-q35-"
	if len(t) <= len(prefix) || t[:len(prefix)] != prefix {
		return version{}, false
	}
	v, err := parseVersion(t[len(prefix):])
	// Upstream has had 0 to 2 as minor numbers since version 5.
	return v, err == nil && t == prefix+v.String() && v.minor <= 2
}

// isTrue and isFalse tell about optional bools; both are false for nil.
func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// enabled is a FeatureState's meaning: one that is there is on unless it says otherwise.
func enabled(f *v1.FeatureState) bool { return f != nil && !isFalse(f.Enabled) }
