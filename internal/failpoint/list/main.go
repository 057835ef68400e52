// SPDX-License-Identifier: Apache-2.0

// Command list prints the failpoints in the source: name, file, function.
package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/skerry-dev/skerry/internal/failpoint/source"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "list failpoints:", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := source.Root()
	if err != nil {
		return err
	}
	points, err := source.Find(root)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range points {
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, p.File, p.Function)
	}
	return w.Flush()
}
