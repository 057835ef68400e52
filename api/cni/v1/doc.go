// SPDX-License-Identifier: Apache-2.0

// Package v1 holds the k8s.cni.cncf.io/v1 API of the network plumbing working
// group, as far as Skerry reads it: our own Go types of the published kind
// NetworkAttachmentDefinition. Its CustomResourceDefinition is in
// deploy/manifests and is put into clusters that have none.
//
// +kubebuilder:object:generate=true
// +groupName=k8s.cni.cncf.io
package v1

//go:generate go tool controller-gen object paths=.
