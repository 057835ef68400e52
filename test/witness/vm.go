// SPDX-License-Identifier: Apache-2.0

package witness

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// DiskName is the name of the witness's disk and volume in a spec.
const DiskName = "witness"

// serial is how the guest finds the disk.
const serial = "WITNESS"

// kernelArgs start the tiny guest with its console left to the shell.
const kernelArgs = "console=ttyS0 quiet cryptomgr.notests no_timer_check skerry.heartbeat=off"

// VM is the smallest machine with a witness: the tiny guest's kernel, the
// witness's disk and one NIC on the pod network.
func VM(namespace, name string) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{}
	vm.Namespace, vm.Name = namespace, name
	vm.Spec.RunStrategy = new(v1.RunStrategyAlways)
	vm.Spec.Template.ObjectMeta = metav1.ObjectMeta{Labels: map[string]string{"app": name}}
	vm.Spec.Template.Spec = v1.VirtualMachineInstanceSpec{
		TerminationGracePeriodSeconds: new(int64(20)),
		Domain: v1.DomainSpec{
			Memory: &v1.Memory{Guest: new(resource.MustParse("128Mi"))},
			Firmware: &v1.Firmware{KernelBoot: &v1.KernelBoot{
				KernelArgs: kernelArgs,
				Container: &v1.KernelBootContainer{
					Image: "skerry.dev/test/tiny-kernel:latest", KernelPath: "/boot/vmlinux", InitrdPath: "/boot/initrd",
					ImagePullPolicy: corev1.PullIfNotPresent,
				},
			}},
			Devices: v1.Devices{Interfaces: []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}}},
		},
		Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}},
	}
	AddDisk(&vm.Spec.Template.Spec)
	return vm
}

// AddDisk gives the machine an empty disk for the witness. It goes with the pod; a
// test that wants the log to outlive the pod gives another volume's disk the
// serial number WITNESS.
func AddDisk(spec *v1.VirtualMachineInstanceSpec) {
	spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks,
		v1.Disk{Name: DiskName, Serial: serial, Disk: &v1.DiskTarget{Bus: "virtio"}})
	spec.Volumes = append(spec.Volumes,
		v1.Volume{Name: DiskName, EmptyDisk: &v1.EmptyDiskSource{Capacity: resource.MustParse("16Mi")}})
}
