// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a whole Kubernetes cluster of one node in this process:
// etcd, API server, controller manager, scheduler, kubelet, kube-proxy and DNS,
// and beside them Skerry's own controllers and node agent. Only containerd is a
// process of its own, and it outlives this one.
//
// Run may be called once per process: Kubernetes' components register themselves
// in global places and cannot be started twice.
//
// It must never stop a pod: neither the end of this process nor its death
// touches what runs in containerd.
package cluster
