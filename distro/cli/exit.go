// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// exit prints err and turns it into an exit code.
func exit(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, "skerry: "+strings.ReplaceAll(err.Error(), "\n", "\nskerry: "))
	}
	return 1
}

// errReported is in errors that were printed already.
var errReported = errors.New("failed")
