// SPDX-License-Identifier: Apache-2.0

// Command build makes the images that Skerry itself needs, as archives for
// containerd: the machines' launcher and the pods' pause image. Arguments name
// the ones to build; without any, all are.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/images/launcher"
	"github.com/skerry-dev/skerry/images/pause"
	"github.com/skerry-dev/skerry/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	tag := flag.String("version", version.Version, "tag of the images")
	out := flag.String("out", "build/images", "directory for the archives")
	cache := flag.String("cache", ".cache", "directory for what was made from Debian packages")
	binary := flag.String("launcher", "build/bin/skerry-launcher", "the launcher's binary")
	flag.Parse()
	release, err := debroot.Lock(*cache)
	if err != nil {
		return err
	}
	defer release()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"pause", "launcher"}
	}
	for _, n := range names {
		var err error
		archive := filepath.Join(*out, n+".tar")
		switch n {
		case "pause":
			err = pause.Build(*tag, archive)
		case "launcher":
			err = launcher.Build(ctx, launcher.Options{
				Cache:   *cache,
				Suite:   launcher.QEMUSuite(os.Getenv(launcher.SuiteEnv)),
				Binary:  *binary,
				Version: *tag,
				Out:     archive,
			})
		default:
			err = fmt.Errorf("there is no such image; it can be launcher or pause")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}
