// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	evmconfig "github.com/skerry-dev/skerry/internal/config"
	"github.com/skerry-dev/skerry/internal/controller/evm"
	"github.com/skerry-dev/skerry/internal/controller/vmi"
)

// knownTypes are the kinds that are read and written here. Naming them spares
// asking the API server for all that it has.
func knownTypes() (*runtime.Scheme, meta.RESTMapper, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, eventsv1.AddToScheme, storagev1.AddToScheme, v1.AddToScheme, mecs.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, fmt.Errorf("register API types: %w", err)
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(v1.VirtualMachineKind, meta.RESTScopeNamespace)
	mapper.Add(v1.VirtualMachineInstanceKind, meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), meta.RESTScopeNamespace)
	mapper.Add(storagev1.SchemeGroupVersion.WithKind("StorageClass"), meta.RESTScopeRoot)
	mapper.Add(mecs.EnhancedVirtualMachineKind, meta.RESTScopeNamespace)
	mapper.Add(evm.SnapshotKind, meta.RESTScopeNamespace)
	mapper.Add(evm.SnapshotContentKind, meta.RESTScopeRoot)
	mapper.AddSpecific(evm.SnapshotClassKind, evm.SnapshotClassKind.GroupVersion().WithResource("volumesnapshotclasses"),
		evm.SnapshotClassKind.GroupVersion().WithResource("volumesnapshotclass"), meta.RESTScopeRoot)
	mapper.Add(eventsv1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
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
			// Of ConfigMaps the controller may read no other.
			&corev1.ConfigMap{}: {Namespaces: map[string]cache.Config{
				evmconfig.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", evmconfig.Name)},
			}},
			&mecs.EnhancedVirtualMachine{}:  {Transform: stripEnhanced},
			&corev1.Node{}:                  {Transform: stripNode},
			&v1.VirtualMachine{}:            {Transform: stripMachine},
			&v1.VirtualMachineInstance{}:    {Transform: stripInstance},
			&corev1.PersistentVolumeClaim{}: {Transform: vmi.StripClaim},
		},
	}
}

// lastApplied is kubectl's copy of the whole manifest.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func stripMetadata(o metav1.Object) {
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a[lastApplied] != "" {
		delete(a, lastApplied) // writes are patches: what is not read is not changed
	}
}

// stripMachine leaves out what is not looked at, and keeps texts that many machines
// share once. Every machine has most of them, and its instance has them again.
func stripMachine(obj any) (any, error) {
	vm, ok := obj.(*v1.VirtualMachine)
	if !ok {
		return obj, nil // a tombstone
	}
	stripMetadata(vm)
	shareSpec(&vm.Spec.Template.Spec)
	for i := range vm.Status.Conditions {
		c := &vm.Status.Conditions[i]
		share(&c.Reason, &c.Message)
		c.Type, c.Status = shared(c.Type), shared(c.Status)
	}
	return vm, nil
}

// stripEnhanced is stripMachine for an EnhancedVirtualMachine.
func stripEnhanced(obj any) (any, error) {
	if m, ok := obj.(*mecs.EnhancedVirtualMachine); ok {
		stripMetadata(m)
		shareSpec(&m.Spec.Template.Spec.Template.Spec)
	}
	return obj, nil
}

// stripInstance is stripMachine for an instance.
func stripInstance(obj any) (any, error) {
	vmi, ok := obj.(*v1.VirtualMachineInstance)
	if !ok {
		return obj, nil // a tombstone
	}
	stripMetadata(vmi)
	shareSpec(&vmi.Spec)
	st := &vmi.Status
	for i := range st.Conditions {
		c := &st.Conditions[i]
		share(&c.Reason, &c.Message)
		c.Type, c.Status = shared(c.Type), shared(c.Status)
	}
	for i := range st.PhaseTransitionTimestamps {
		t := &st.PhaseTransitionTimestamps[i]
		t.Phase = shared(t.Phase)
	}
	for i := range st.Stages {
		st.Stages[i].Stage = shared(st.Stages[i].Stage)
	}
	share(&st.NodeName, &st.LauncherContainerImageVersion)
	return vmi, nil
}

func shareSpec(s *v1.VirtualMachineInstanceSpec) {
	if fw := s.Domain.Firmware; fw != nil && fw.KernelBoot != nil {
		share(&fw.KernelBoot.KernelArgs)
		if c := fw.KernelBoot.Container; c != nil {
			share(&c.Image, &c.KernelPath, &c.InitrdPath)
		}
	}
	for i := range s.Volumes {
		share(&s.Volumes[i].Name)
		if c := s.Volumes[i].ContainerDisk; c != nil {
			share(&c.Image)
		}
	}
}

// share makes equal texts one.
func share(texts ...*string) {
	for _, s := range texts {
		*s = shared(*s)
	}
}

func shared[T ~string](s T) T { return unique.Make(s).Value() }

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
