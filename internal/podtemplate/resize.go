// SPDX-License-Identifier: Apache-2.0

package podtemplate

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Resizable are the resources of a running pod's container that can change.
var Resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// Needs is what the container of vmi's pod needs of the resources that can change
// while it runs, for the sizes that its spec has now. overhead is what QEMU needs
// beyond the guest's memory.
func Needs(vmi *v1.VirtualMachineInstance, overhead resource.Quantity) (corev1.ResourceRequirements, error) {
	all, err := resources(vmi, Params{MemoryOverhead: overhead})
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	return corev1.ResourceRequirements{Requests: only(all.Requests), Limits: only(all.Limits)}, nil
}

func only(l corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, name := range Resizable {
		if q, ok := l[name]; ok {
			out[name] = q
		}
	}
	return out
}

// resizePolicy says that neither resource needs a restart of the container, that
// is of the machine. It is Kubernetes' default, spelt out.
func resizePolicy() []corev1.ContainerResizePolicy {
	var out []corev1.ContainerResizePolicy
	for _, name := range Resizable {
		out = append(out, corev1.ContainerResizePolicy{ResourceName: name, RestartPolicy: corev1.NotRequired})
	}
	return out
}
