// SPDX-License-Identifier: Apache-2.0

// Package deviceplugin tells the kubelet how many machines may use /dev/kvm,
// /dev/net/tun and /dev/vhost-net on this node, and gives those devices to their
// pods (the kubelet's device plugin API, v1beta1).
//
// A device is advertised once it is known to work, and again at once whenever
// the kubelet has restarted. Containers see a node with the mode of the node on
// the host, which may be root's alone; so the package makes nodes of its own
// with mode 0666 in a directory that only root can enter and hands those out.
// It must never change the host's own device nodes, and never decide who gets a
// device: that is the scheduler's and the kubelet's business.
package deviceplugin
