// SPDX-License-Identifier: Apache-2.0

package podtemplate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	milliPerVCPU = 100
	// What a pod uses on the node's disk besides the guest's disks: its log.
	ephemeralStorage = "50M"
)

// resources works out the container's requests and limits: what the guest was
// promised, and for memory what QEMU needs on top. There is no limit that the
// user did not ask for.
func resources(vmi *v1.VirtualMachineInstance, p Params) (corev1.ResourceRequirements, error) {
	asked := vmi.Spec.Domain.Resources
	if asked == nil {
		asked = &v1.ResourceRequirements{}
	}
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for name, q := range asked.Requests {
		requests[name] = q.DeepCopy()
	}
	for name, q := range asked.Limits {
		limits[name] = q.DeepCopy()
	}

	if _, ok := requests[corev1.ResourceCPU]; !ok {
		if limit, ok := limits[corev1.ResourceCPU]; ok {
			requests[corev1.ResourceCPU] = limit.DeepCopy()
		} else {
			n, err := vcpus(vmi.Spec.Domain.CPU)
			if err != nil {
				return corev1.ResourceRequirements{}, err
			}
			requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(n*milliPerVCPU, resource.DecimalSI)
		}
	}

	limit, limited := limits[corev1.ResourceMemory]
	memory, err := guestRequest(vmi, asked)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	if !isTrue(asked.OvercommitGuestOverhead) {
		memory.Add(p.MemoryOverhead)
	}
	requests[corev1.ResourceMemory] = memory
	if limited {
		limit.Add(p.MemoryOverhead)
		limits[corev1.ResourceMemory] = limit
	}

	storage := requests[corev1.ResourceEphemeralStorage]
	storage.Add(resource.MustParse(ephemeralStorage))
	requests[corev1.ResourceEphemeralStorage] = storage
	if limit, ok := limits[corev1.ResourceEphemeralStorage]; ok {
		limit.Add(resource.MustParse(ephemeralStorage))
		// A newer launcher image that the agent puts there is not the user's use.
		limit.Add(resource.MustParse(nextSize))
		limits[corev1.ResourceEphemeralStorage] = limit
	}

	if p.KVM {
		limits[v1.KVMResource] = resource.MustParse("1")
	}
	if len(vmi.Spec.Domain.Devices.Interfaces) > 0 {
		limits[v1.TunResource] = resource.MustParse("1")
	}
	if p.KVM && p.VhostNet && hasVirtioInterface(vmi) {
		limits[v1.VhostNetResource] = resource.MustParse("1")
	}
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}, nil
}

func hasVirtioInterface(vmi *v1.VirtualMachineInstance) bool {
	return slices.ContainsFunc(vmi.Spec.Domain.Devices.Interfaces, func(i v1.Interface) bool {
		return i.Model == "" || i.Model == "virtio"
	})
}

// guestRequest is the memory request before the overhead: the spec's own
// request, else its limit, else the memory that the guest sees.
func guestRequest(vmi *v1.VirtualMachineInstance, asked *v1.ResourceRequirements) (resource.Quantity, error) {
	if q, ok := asked.Requests[corev1.ResourceMemory]; ok {
		return q.DeepCopy(), nil
	}
	if q, ok := asked.Limits[corev1.ResourceMemory]; ok {
		return q.DeepCopy(), nil
	}
	if m := vmi.Spec.Domain.Memory; m != nil && m.Guest != nil && m.Guest.Sign() > 0 {
		return m.Guest.DeepCopy(), nil
	}
	return resource.Quantity{}, fmt.Errorf("spec.domain.memory.guest: required, for example 1Gi")
}

// vcpus is sockets*cores*threads, each at least 1.
func vcpus(c *v1.CPU) (int64, error) {
	if c == nil {
		return 1, nil
	}
	n := int64(1)
	for _, f := range []struct {
		name string
		v    int64
	}{{"sockets", c.Sockets}, {"cores", c.Cores}, {"threads", c.Threads}} {
		// Far above any machine, and no product of three can overflow.
		if f.v < 0 || f.v > 4096 {
			return 0, fmt.Errorf("spec.domain.cpu.%s: %d is not between 1 and 4096", f.name, f.v)
		}
		n *= max(f.v, 1)
	}
	return n, nil
}
