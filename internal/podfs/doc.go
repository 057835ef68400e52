// SPDX-License-Identifier: Apache-2.0

// Package podfs reaches into a pod's volumes and processes from the node, on the
// assumption that the pod is hostile: whoever broke out of a guest may replace
// any file, directory or socket in its volumes with a symbolic link, a FIFO or
// something huge, at any moment between two system calls.
//
// So a path inside a volume is never resolved twice. An object is opened without
// side effects (O_PATH), its type is looked at through that descriptor, and it is
// used through /proc/self/fd/N, which means this object and no other. Processes
// are pinned by a directory descriptor of /proc/PID in the same way, so that a
// reused PID can't be mistaken for them.
//
// The package must never open a pod's path by name with ordinary calls, follow
// a symbolic link that a pod can write, block on what it opens, or change the
// owner or mode of anything but a file that it has just made, through its
// descriptor.
//
// Needs openat2 (Linux 5.6) and pidfd_open with PIDFD_NONBLOCK (5.10).
package podfs
