// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// DefaultVM fills in those fields of a new VirtualMachine that must not change
// from one start to the next. Everything else is left to DefaultVMI, so that a
// machine's description stays what its author wrote.
//
// It also adds the controller's finalizer, which saves a write for every machine.
func DefaultVM(vm *v1.VirtualMachine, c Cluster) {
	if !slices.Contains(vm.Finalizers, v1.VMFinalizer) {
		vm.Finalizers = append(vm.Finalizers, v1.VMFinalizer)
	}
	spec := &vm.Spec.Template.Spec
	defaultPlatform(spec, c)
	if spec.Domain.Firmware == nil {
		spec.Domain.Firmware = &v1.Firmware{}
	}
	fw := spec.Domain.Firmware
	if fw.UUID == "" {
		fw.UUID = c.NewUUID()
	}
	if fw.Serial == "" {
		fw.Serial = c.NewUUID()
	}
}

// KeepIdentity gives a changed VirtualMachine the firmware UUID and serial
// number that it had before, where the change leaves them out: a manifest that
// is sent again as a whole does not know them, and a guest must not wake up as
// another machine.
func KeepIdentity(vm, old *v1.VirtualMachine) {
	if old == nil || old.Spec.Template.Spec.Domain.Firmware == nil {
		return
	}
	was, domain := old.Spec.Template.Spec.Domain.Firmware, &vm.Spec.Template.Spec.Domain
	if was.UUID == "" && was.Serial == "" {
		return
	}
	if domain.Firmware == nil {
		domain.Firmware = &v1.Firmware{}
	}
	if domain.Firmware.UUID == "" {
		domain.Firmware.UUID = was.UUID
	}
	if domain.Firmware.Serial == "" {
		domain.Firmware.Serial = was.Serial
	}
}

func defaultPlatform(spec *v1.VirtualMachineInstanceSpec, c Cluster) {
	if spec.Architecture == "" {
		spec.Architecture = c.Architecture
	}
	if spec.Domain.Machine == nil {
		spec.Domain.Machine = &v1.Machine{}
	}
	if spec.Domain.Machine.Type == "" {
		spec.Domain.Machine.Type = c.MachineType
	}
}
