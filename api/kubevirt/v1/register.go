// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is kubevirt.io/v1, the version in which objects are stored.
var GroupVersion = schema.GroupVersion{Group: "kubevirt.io", Version: "v1"}

// Kinds of this group.
var (
	VirtualMachineKind         = GroupVersion.WithKind("VirtualMachine")
	VirtualMachineInstanceKind = GroupVersion.WithKind("VirtualMachineInstance")
)

// SchemeBuilder and AddToScheme register this package's kinds with a scheme.
var (
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	AddToScheme   = SchemeBuilder.AddToScheme
)

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&VirtualMachine{}, &VirtualMachineList{},
		&VirtualMachineInstance{}, &VirtualMachineInstanceList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
