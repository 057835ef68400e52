// SPDX-License-Identifier: Apache-2.0

// Command build makes the images that Skerry itself needs, as archives for
// containerd: the machines' launcher and the pods' pause image. Arguments name
// the ones to build; without any, all are.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry-dev/skerry/images/pause"
	"github.com/skerry-dev/skerry/internal/version"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run() error {
	tag := flag.String("version", version.Version, "tag of the images")
	out := flag.String("out", "build/images", "directory for the archives")
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"pause"}
	}
	for _, n := range names {
		var err error
		archive := filepath.Join(*out, n+".tar")
		switch n {
		case "pause":
			err = pause.Build(*tag, archive)
		default:
			err = fmt.Errorf("there is no such image; it can be launcher or pause")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}
