// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxFD is the highest number that a descriptor may be asked for.
const maxFD = 1000

// inherited is an open descriptor on its way to the number at which QEMU expects it.
type inherited struct {
	name         string
	opened, want int
}

// lift moves descriptors above all numbers that are asked for: one that stands at
// another's number would be closed when that one gets there.
func lift(list []inherited) error {
	highest := 0
	for _, f := range list {
		highest = max(highest, f.want)
	}
	for i := range list {
		f := &list[i]
		if f.opened > highest {
			continue
		}
		up, err := unix.FcntlInt(uintptr(f.opened), unix.F_DUPFD_CLOEXEC, highest+1)
		if err != nil {
			return fmt.Errorf("%s: move descriptor: %w", f.name, err)
		}
		unix.Close(f.opened)
		f.opened = up
	}
	return nil
}
