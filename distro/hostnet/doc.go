// SPDX-License-Identifier: Apache-2.0

// Package hostnet makes the node's side of the pod network: the bridge with the
// node's address, the kernel's switches for it, and one nftables table named
// after the bridge.
//
// It must never touch an interface, rule or table that it did not make.
package hostnet
