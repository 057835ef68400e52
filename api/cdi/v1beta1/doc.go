// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 holds those types of the cdi.kubevirt.io/v1beta1 API that the
// kubevirt.io types embed (DataVolume templates).
//
// +kubebuilder:object:generate=true
package v1beta1

//go:generate go tool controller-gen object paths=.
