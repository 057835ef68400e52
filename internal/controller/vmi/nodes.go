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
	vhost := true
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
		switch virtualization(node) {
		case corev1.ConditionFalse:
			// The agent emulates there, whatever the kubelet remembers.
		case corev1.ConditionTrue:
			if !offers(node, v1.KVMResource) {
				n.KVMSoon = true // the agent or the kubelet is only just starting
				continue
			}
			fallthrough
		default:
			if offers(node, v1.KVMResource) {
				vhost = vhost && offers(node, v1.VhostNetResource)
				n.KVM = true
			}
		}
	}
	n.VhostNet = n.KVM && vhost
	return n
}

func offers(node *corev1.Node, resource corev1.ResourceName) bool {
	q := node.Status.Allocatable[resource]
	return q.Sign() > 0
}

// virtualization is what the node's agent says about KVM, Unknown before it has said anything.
func virtualization(node *corev1.Node) corev1.ConditionStatus {
	for _, c := range node.Status.Conditions {
		if c.Type == v1.VirtualizationCondition {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}
