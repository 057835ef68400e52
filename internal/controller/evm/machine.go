// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

// bootDisk is the name of the disk that is added, with a number where the template
// has one of that name.
const bootDisk = "bootdisk"

// Machine makes the VirtualMachine of an EnhancedVirtualMachine, which boots from
// the claim first.
func Machine(evm *mecs.EnhancedVirtualMachine, claim string) (*v1.VirtualMachine, error) {
	t := evm.Spec.Template.DeepCopy()
	vm := &v1.VirtualMachine{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.VirtualMachineKind.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: evm.Namespace, Name: evm.Name, Labels: t.Labels, Annotations: maps.Clone(t.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(evm, mecs.EnhancedVirtualMachineKind)},
		},
		Spec: t.Spec,
	}
	spec := &vm.Spec.Template.Spec
	name := bootDisk
	for n := 1; taken(spec, name); n++ {
		name = fmt.Sprintf("%s-%d", bootDisk, n)
	}
	dev := &spec.Domain.Devices
	for i := range dev.Disks {
		later(dev.Disks[i].BootOrder)
	}
	for i := range dev.Interfaces {
		later(dev.Interfaces[i].BootOrder)
	}
	dev.Disks = slices.Insert(dev.Disks, 0, v1.Disk{Name: name, BootOrder: new(int32(1)), Disk: &v1.DiskTarget{Bus: "virtio"}})
	spec.Volumes = slices.Insert(spec.Volumes, 0, v1.Volume{Name: name, PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim}})
	data, err := json.Marshal(&vm.Spec)
	if err != nil {
		return nil, fmt.Errorf("encode the template: %w", err)
	}
	if vm.Annotations == nil {
		vm.Annotations = map[string]string{}
	}
	vm.Annotations[templateAnnotation] = hash(string(data))
	return vm, nil
}

func taken(spec *v1.VirtualMachineInstanceSpec, name string) bool {
	return slices.ContainsFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == name }) ||
		slices.ContainsFunc(spec.Domain.Devices.Disks, func(d v1.Disk) bool { return d.Name == name })
}

func later(order *int32) {
	if order != nil && *order < 1<<31-1 {
		*order++
	}
}
