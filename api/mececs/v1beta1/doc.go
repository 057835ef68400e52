// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 holds the mececs.io/v1beta1 API: the EnhancedVirtualMachine, a
// VirtualMachine together with the disk that it boots from and where that disk's
// content comes from.
//
// Deepcopy functions and the CustomResourceDefinition in deploy/crds are made
// from the types by `go generate`.
//
// +kubebuilder:object:generate=true
// +groupName=mececs.io
package v1beta1

//go:generate go tool controller-gen object paths=.
//go:generate go tool controller-gen crd:maxDescLen=0 paths=. output:crd:artifacts:config=../../../deploy/crds
//go:generate go run ../../../hack/crds ../../../deploy/crds
