// SPDX-License-Identifier: Apache-2.0

// Command skerry is the operator's command line and, as `skerry up`, a whole
// Kubernetes cluster in one process.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skerry-dev/skerry/distro/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args)
	stop()
	os.Exit(code)
}
