// SPDX-License-Identifier: Apache-2.0

// Package manager is skerry-controller: the controllers of VirtualMachines and
// their instances, the admission webhooks and the aggregated API of the
// subresources, in one process. It only puts the parts together; Run is called
// by cmd/skerry-controller and by the embedded cluster alike.
//
// It must never know on which of the two kinds of cluster it runs.
package manager
