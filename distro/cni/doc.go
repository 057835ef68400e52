// SPDX-License-Identifier: Apache-2.0

// Package cni renders the pod network's CNI configuration: plain upstream
// plugins, so that ordinary pods depend on nothing of Skerry's.
package cni
