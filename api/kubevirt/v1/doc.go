// SPDX-License-Identifier: Apache-2.0

// Package v1 holds the kubevirt.io/v1 API: our own Go types, wire-compatible
// with KubeVirt's published OpenAPI document. testdata/fields.tsv lists every
// field of that document that is reachable from a VirtualMachine, a
// VirtualMachineInstance or the bodies of their subresources, and a test fails
// when one is missing here. What a field means is documented by KubeVirt; what
// Skerry does not implement yet is refused at admission by its path.
//
// Deepcopy functions and the CustomResourceDefinitions in deploy/crds are made
// from the types by `go generate`.
//
// +kubebuilder:object:generate=true
// +groupName=kubevirt.io
package v1

//go:generate go tool controller-gen object paths=.
//go:generate go tool controller-gen crd:maxDescLen=0 paths=. output:crd:artifacts:config=../../../deploy/crds
//go:generate go run ../../../hack/crds ../../../deploy/crds
