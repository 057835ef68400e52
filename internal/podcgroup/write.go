// SPDX-License-Identifier: Apache-2.0

package podcgroup

import (
	"os"

	"golang.org/x/sys/unix"
)

// errAgain is the kernel's answer when it could reclaim less than was asked for.
const errAgain = unix.EAGAIN

// write writes to a file that is there.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
