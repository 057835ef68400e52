// SPDX-License-Identifier: Apache-2.0

// Package dns runs CoreDNS inside this process as the cluster's DNS server.
//
// It must never let CoreDNS take over the process: no signal handlers, no flags,
// no exit, no change of klog's output (which CoreDNS's own kubernetes directive
// would make; so it is set up here under a name of its own).
package dns
