// SPDX-License-Identifier: Apache-2.0

// Package teardown removes what an embedded cluster leaves on its machine once
// it is stopped: containers and their shims, mounts, network namespaces, links,
// nft tables, cgroups and directories. It finds them by what belongs to the
// cluster's own directories and names, so that nothing else is ever touched, and
// every step may be run again after it was interrupted.
//
// It must never ask the cluster: after a crash there is none.
package teardown
