// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenRoot opens the directory for whole trees: what is done through the result
// stays in the directory, whatever links are in it.
func (d *Dir) OpenRoot() (*os.Root, error) {
	r, err := os.OpenRoot(procFD(d.f))
	if err != nil {
		return nil, d.pathError("open", "", unwrapPath(err))
	}
	return r, nil
}

// Exe is the path of the program that the process runs, as the process's own
// mounts name it.
func (p *Process) Exe() (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fdOf(p.proc), "exe", b)
	if err != nil {
		if err == unix.ESRCH || err == unix.ENOENT {
			err = ErrExited
		}
		return "", fmt.Errorf("process %d: read exe: %w", p.pid, err)
	}
	return string(b[:n]), nil
}
