// SPDX-License-Identifier: Apache-2.0

// Package csi serves the storage pool to Kubernetes by the Container Storage
// Interface: all three services on one unix socket, for one node.
//
// It holds no state of its own: what is attached and mounted is asked of the
// kernel, what exists of the pool. Every call may be repeated, also by another
// process after this one was killed.
//
// It must never make a file system on a volume that exists, and never detach a
// volume before it is unmounted.
package csi
