// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"runtime"

	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/machine"
)

// overhead is the memory that QEMU needs for vmi beyond the guest's.
func overhead(vmi *v1.VirtualMachineInstance, kvm bool) resource.Quantity {
	host := machine.Host{Accel: machine.TCG, Arch: vmi.Spec.Architecture}
	if host.Arch == "" {
		host.Arch = runtime.GOARCH
	}
	if kvm {
		host.Accel = machine.KVM
	}
	return *resource.NewQuantity(machine.Overhead(vmi, host).Total, resource.BinarySI)
}
