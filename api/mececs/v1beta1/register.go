// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is mececs.io/v1beta1, the version in which objects are stored.
var GroupVersion = schema.GroupVersion{Group: "mececs.io", Version: "v1beta1"}

// EnhancedVirtualMachineKind is the kind of this group.
var EnhancedVirtualMachineKind = GroupVersion.WithKind("EnhancedVirtualMachine")

// SchemeBuilder and AddToScheme register this package's kinds with a scheme.
var (
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	AddToScheme   = SchemeBuilder.AddToScheme
)

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &EnhancedVirtualMachine{}, &EnhancedVirtualMachineList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
