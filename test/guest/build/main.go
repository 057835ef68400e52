// SPDX-License-Identifier: Apache-2.0

// Command build makes the images of the tests' guests and pods out of Debian
// packages, as archives for containerd. Arguments name the ones to build;
// without any, all are.
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
	"github.com/skerry-dev/skerry/test/guest/debian"
	"github.com/skerry-dev/skerry/test/guest/tiny"
	"github.com/skerry-dev/skerry/test/guest/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "guests:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	tag := flag.String("tag", "latest", "tag of the images")
	out := flag.String("out", "build/test-images", "directory for the archives")
	raw := flag.String("raw", "build/guest", "directory for kernels, initramfs and disks")
	cache := flag.String("cache", ".cache", "directory for what was made from Debian packages")
	flag.Parse()
	release, err := debroot.Lock(*cache)
	if err != nil {
		return err
	}
	defer release()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"tools", "tiny", "debian"}
	}
	for _, n := range names {
		var err error
		switch n {
		case "tools":
			err = tools.Build(ctx, *cache, *tag, filepath.Join(*out, "tools.tar"))
		case "debian":
			err = debian.Build(ctx, debian.Options{Cache: *cache, Tag: *tag, Out: *out, Raw: *raw})
		case "tiny":
			err = tiny.Build(ctx, tiny.Options{Cache: *cache, Tag: *tag, Out: *out, Raw: *raw})
		default:
			err = fmt.Errorf("there is no such image; it can be tools, tiny or debian")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}
