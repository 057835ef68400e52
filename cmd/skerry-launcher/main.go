// SPDX-License-Identifier: Apache-2.0

// Skerry-launcher is the first process of a machine's container: it becomes QEMU.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/launcher"
	"github.com/skerry-dev/skerry/internal/version"
)

const usage = `usage:
  skerry-launcher run                   wait for the node agent, then become QEMU
  skerry-launcher shutdown --grace 30s  power the guest off, at the latest after that time
  skerry-launcher renew …               what QEMU execs when it is replaced (internal/contract)
  skerry-launcher version
`

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "skerry-launcher:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	switch {
	case len(args) == 1 && args[0] == "run":
		return contract.ExitRefused, launcher.Run(launcher.Default())
	case len(args) == 3 && args[0] == "shutdown" && args[1] == "--grace":
		grace, err := time.ParseDuration(args[2])
		if err != nil || grace < 0 {
			return 2, fmt.Errorf("--grace %q: expected a duration such as 30s", args[2])
		}
		if err := launcher.Shutdown(launcher.Default(), grace); err != nil {
			return 1, err
		}
		return 0, nil
	case len(args) > 1 && args[0] == contract.RenewVerb && contract.Version >= contract.NextSince:
		return 1, launcher.Renew(launcher.Default(), args)
	case len(args) == 1 && args[0] == "version":
		fmt.Printf("skerry-launcher %s, contract %d\n", version.Version, contract.Version)
		return 0, nil
	}
	fmt.Fprint(os.Stderr, usage)
	return 2, nil
}
