// SPDX-License-Identifier: Apache-2.0

package admission

import (
	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// ValidateVM checks a VirtualMachine; old is nil when it is being created.
func ValidateVM(vm, old *v1.VirtualMachine, c Cluster) Result {
	v := &validator{cluster: c}
	v.vm(vm, old)
	return v.result
}

// ValidateVMI checks a VirtualMachineInstance to which DefaultVMI was applied;
// old is nil when it is being created.
func ValidateVMI(vmi, old *v1.VirtualMachineInstance, c Cluster) Result {
	v := &validator{cluster: c}
	v.vmi(vmi, old)
	return v.result
}
