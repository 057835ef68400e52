// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"slices"
	"strings"
)

// maxUpstreams is how many the forward plugin accepts.
const maxUpstreams = 15

// Nameservers are the servers of a resolv.conf(5), in its order, except those in
// without: a server must not be its own upstream. A loopback address is fine:
// this server runs in the machine's own network namespace.
func Nameservers(resolvConf string, without ...netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(resolvConf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil || slices.Contains(without, a) {
			continue
		}
		p := netip.AddrPortFrom(a, 53)
		if !slices.Contains(out, p) && len(out) < maxUpstreams {
			out = append(out, p)
		}
	}
	return out
}
