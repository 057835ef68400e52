// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/skerry-dev/skerry/internal/virtctl"
)

// exit prints err and turns it into an exit code: that of the program that was
// run for the user (ssh), which has spoken itself, or 1.
func exit(name string, err error) int {
	var ran *exec.ExitError
	if err != nil && !errors.Is(err, errReported) && !errors.As(err, &ran) {
		fmt.Fprintln(os.Stderr, name+": "+strings.ReplaceAll(err.Error(), "\n", "\n"+name+": "))
	}
	return virtctl.ExitCode(err)
}

// errReported is in errors that were printed already.
var errReported = errors.New("failed")
