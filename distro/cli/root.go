// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/distro/cluster"
)

// options are the flags that every subcommand has.
type options struct {
	dataDir string
	runDir  string
}

// config is the part of the cluster's configuration that tells where it is.
func (o *options) config() cluster.Config {
	return cluster.Config{DataDir: o.dataDir, RunDir: o.runDir}
}

// Run runs the command line args, of which the first is the name that the binary
// was called by, and returns the exit code. Errors have been printed.
func Run(ctx context.Context, args []string) int {
	switch filepath.Base(args[0]) {
	case "kubectl":
		return exit(runKubectl(&options{dataDir: cluster.DefaultDataDir, runDir: cluster.DefaultRunDir}, args[1:]))
	}
	root := newRoot()
	root.SetArgs(args[1:])
	return exit(root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "skerry",
		Short:         "Virtual machines and containers on one Kubernetes, on one box",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&o.dataDir, "data-dir", cluster.DefaultDataDir, "directory of everything that survives a reboot")
	root.PersistentFlags().StringVar(&o.runDir, "run-dir", cluster.DefaultRunDir, "directory of sockets")
	root.AddCommand(newUp(o), newStatus(o), newDown(o), newReset(o), newService(o), newImage(o), newKubectl(o), newVersion())
	return root
}
