// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/vmi"
)

// knownTypes are the kinds that are read and written here. Naming them spares
// asking the API server for all that it has.
func knownTypes() (*runtime.Scheme, meta.RESTMapper, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, fmt.Errorf("register API types: %w", err)
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(v1.VirtualMachineKind, meta.RESTScopeNamespace)
	mapper.Add(v1.VirtualMachineInstanceKind, meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	return scheme, mapper, nil
}

// cacheOptions keep the cache small: machines' pods alone, and of pods and nodes
// only what is looked at.
func cacheOptions() cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {
				Label:     labels.SelectorFromSet(labels.Set{v1.AppLabel: v1.AppLauncher}),
				Transform: vmi.StripPod,
			},
			&corev1.Node{}: {Transform: stripNode},
		},
	}
}

// stripNode keeps a node's labels, addresses, offered devices and what its agent
// says about KVM. The rest, heartbeats above all, is most of a Node.
func stripNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil // a tombstone
	}
	var conditions []corev1.NodeCondition
	for _, c := range n.Status.Conditions {
		if c.Type == v1.VirtualizationCondition {
			conditions = append(conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels,
			CreationTimestamp: n.CreationTimestamp, DeletionTimestamp: n.DeletionTimestamp,
		},
		Status: corev1.NodeStatus{
			Capacity:    devices(n.Status.Capacity),
			Allocatable: devices(n.Status.Allocatable),
			Addresses:   n.Status.Addresses,
			Conditions:  conditions,
		},
	}, nil
}

const devicePrefix = "devices.kubevirt.io/"

// devices are those of the resources that device plugins of ours offer.
func devices(l corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range l {
		if strings.HasPrefix(string(name), devicePrefix) {
			out[name] = q
		}
	}
	return out
}
