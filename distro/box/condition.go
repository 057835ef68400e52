// SPDX-License-Identifier: Apache-2.0

package box

import "fmt"

// Types of the node's conditions. All are False on a healthy box.
const (
	DiskShort       = "SkerryDiskShort"
	MemoryShort     = "SkerryMemoryShort"
	ClockWrong      = "SkerryClockWrong"
	CertificatesDue = "SkerryCertificatesDue"
)

// DiskTaint is the key of the node's taint (NoSchedule) while its disk is short.
const DiskTaint = "skerry.dev/disk-short"

// Condition is one judgement. Its texts stay the same for as long as what they say
// does: figures that change by the second are in none of them.
type Condition struct {
	Type    string
	True    bool   // something is wrong
	Reason  string // in CamelCase
	Message string // for a person: what is wrong, what was done, what to do
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// size is a number of bytes for people, with at most one decimal.
func size(n uint64) string {
	for _, u := range []struct {
		unit uint64
		name string
	}{{gib, "GiB"}, {mib, "MiB"}, {kib, "KiB"}} {
		if n < u.unit {
			continue
		}
		if n%u.unit == 0 {
			return fmt.Sprintf("%d %s", n/u.unit, u.name)
		}
		return fmt.Sprintf("%.1f %s", float64(n)/float64(u.unit), u.name)
	}
	return fmt.Sprintf("%d bytes", n)
}
