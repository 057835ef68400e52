// SPDX-License-Identifier: Apache-2.0

// Package podcgroup reads the limits of a pod's control groups where the kernel
// applies them, and has the kernel give back page cache that is charged to the pod.
// It knows cgroup v1, v2 and hosts with both.
//
// It must never change a limit: that is the kubelet's.
//
// Source: Linux's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
package podcgroup
