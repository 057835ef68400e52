// SPDX-License-Identifier: Apache-2.0

// Package netattach works out the networks that a machine is attached to beside
// its pod's own: what its spec and the annotations of the network plumbing
// working group and of Kube-OVN ask for, and what of a
// NetworkAttachmentDefinition's CNI configuration may be run.
//
// It is pure, and everything that it reads was written by tenants: sizes and
// counts have limits, and names that could leave a directory are refused. It must
// never run a plugin or touch a network (package cniplugin does).
package netattach
