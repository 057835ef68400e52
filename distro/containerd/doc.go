// SPDX-License-Identifier: Apache-2.0

// Package containerd runs containerd beside this process and outlives it: the
// daemon is a child in a session of its own, adopted by the next start through
// its socket, and started again when it dies. It also brings the images of local
// OCI archives into it.
//
// It must never signal containerd or a shim: containers run on whatever happens
// to this process.
package containerd
