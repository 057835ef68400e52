// SPDX-License-Identifier: Apache-2.0

// Package dhcp is the DHCPv4 server (RFC 2131) of one guest interface.
//
// It listens and answers on the guest's tap with a packet socket, below the
// bridge: so it hears that one guest only and can be heard by nobody else,
// whatever the tap is bridged to. The lease is infinite: a guest keeps its
// address while the node agent is down.
//
// Everything that arrives is hostile. The server must never allocate or work
// more than its limits for a packet, must never answer anybody but the guest's
// own MAC, and holds no state between packets. IPv6 is not here: guests take
// their IPv6 addresses from cloud-init's network data.
package dhcp
