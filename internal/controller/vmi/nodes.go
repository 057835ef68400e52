// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Survey sums up what those nodes offer that vmi's node selector admits.
func Survey(nodes []corev1.Node, vmi *v1.VirtualMachineInstance) Nodes {
	var n Nodes
	want := labels.SelectorFromSet(vmi.Spec.NodeSelector)
	for i := range nodes {
		node := &nodes[i]
		if node.DeletionTimestamp != nil || node.Labels[v1.SchedulableLabel] != "true" {
			continue
		}
		// Whether any node runs machines at all does not depend on the selector:
		// that nothing matches it is for the scheduler to say.
		n.Schedulable++
		if !want.Matches(labels.Set(node.Labels)) {
			continue
		}
		free, offered := node.Status.Allocatable[v1.KVMResource]
		_, known := node.Status.Capacity[v1.KVMResource]
		switch {
		case offered && free.Sign() > 0:
			n.KVM = true
		case offered || known:
			// The kubelet keeps the name of a resource whose plugin is away.
			n.KVMSoon = true
		}
	}
	return n
}
