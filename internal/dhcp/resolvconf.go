// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"net/netip"
	"strings"
)

// MaxResolvConf is as much of a resolv.conf as is worth reading, in bytes.
const MaxResolvConf = 64 << 10

// ResolvConf is what a pod resolves names with (resolv.conf(5)).
type ResolvConf struct {
	Nameservers []netip.Addr
	Search      []string
	Options     []string
}

// Limits of glibc and of Kubernetes' pod validation; what is beyond is left out.
const (
	maxNameservers  = 3
	maxSearch       = 32
	maxSearchLength = 2048
)

// ParseResolvConf reads the pod's resolv.conf. The kubelet has already worked
// dnsPolicy and dnsConfig into it, so it is all a guest needs to know.
//
// The text is the pod's /etc/resolv.conf: the node agent reads it through
// /proc/PID/root, opened with openat2 and RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS,
// a regular file, no more than MaxResolvConf bytes. It is not trusted: lines
// that make no sense are left out, and never an error.
func ParseResolvConf(text []byte) ResolvConf {
	var c ResolvConf
	if len(text) > MaxResolvConf {
		text = text[:MaxResolvConf]
	}
	for line := range strings.Lines(string(text)) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil && len(c.Nameservers) < maxNameservers {
				c.Nameservers = append(c.Nameservers, a.Unmap())
			}
		case "search":
			c.Search = searchList(words[1:])
		case "domain":
			c.Search = searchList(words[1:2])
		case "options":
			c.Options = append(c.Options, words[1:]...)
		}
	}
	return c
}

func searchList(words []string) []string {
	var out []string
	total := 0
	for _, w := range words {
		w = strings.TrimSuffix(w, ".")
		if !isDomain(w) {
			continue
		}
		if total += len(w) + 1; len(out) == maxSearch || total > maxSearchLength {
			break
		}
		out = append(out, w)
	}
	return out
}

// isDomain tells whether a name can be written as DNS labels (RFC 1035, 2.3.4).
func isDomain(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, r := range label {
			ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
			if !ok {
				return false
			}
		}
	}
	return true
}
