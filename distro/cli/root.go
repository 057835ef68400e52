// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/internal/virtctl"
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

// existing is the configuration of the cluster that is there, nil where there is
// none, which it says.
func (o *options) existing(out io.Writer) (*cluster.Config, error) {
	there, err := cluster.Exists(o.dataDir)
	if err != nil {
		return nil, err
	}
	if !there {
		fmt.Fprintf(out, "There is no cluster in %s.\n", o.dataDir)
		return nil, nil
	}
	return cluster.Load(o.config())
}

// Run runs the command line args, of which the first is the name that the binary
// was called by, and returns the exit code. Errors have been printed.
func Run(ctx context.Context, args []string) int {
	o := &options{dataDir: cluster.DefaultDataDir, runDir: cluster.DefaultRunDir}
	kubeconfig := func() string {
		cfg := o.config()
		return cfg.Kubeconfig()
	}
	name := filepath.Base(args[0])
	switch name {
	case "kubectl":
		return exit(name, runKubectl(o, args[1:]))
	case "virtctl", "kubectl-virt":
		client := virtctl.NewCommand(name, kubeconfig)
		client.SetArgs(args[1:])
		return exit(name, client.ExecuteContext(ctx))
	}
	root := newRoot(o)
	addVerbs(root, kubeconfig)
	root.SetArgs(args[1:])
	return exit(name, root.ExecuteContext(ctx))
}

func newRoot(o *options) *cobra.Command {
	root := &cobra.Command{
		Use:           "skerry",
		Short:         "Virtual machines and containers on one Kubernetes, on one box",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&o.dataDir, "data-dir", o.dataDir, "directory of everything that survives a reboot")
	root.PersistentFlags().StringVar(&o.runDir, "run-dir", o.runDir, "directory of sockets")
	root.AddCommand(newUp(o), newStatus(o), newDown(o), newReset(o), newService(o), newImage(o), newKubectl(o), newVersion())
	return root
}

// addVerbs adds the client's verbs. Where one has the name of a command for the
// whole box (reset), the machine's is called hard-<name> here.
func addVerbs(root *cobra.Command, kubeconfig func() string) {
	taken := map[string]bool{}
	for _, c := range root.Commands() {
		taken[c.Name()] = true
	}
	verbs := &cobra.Command{}
	virtctl.AddCommands(verbs, kubeconfig)
	for _, c := range verbs.Commands() {
		verbs.RemoveCommand(c)
		if taken[c.Name()] {
			c.Use = "hard-" + c.Use
		}
		root.AddCommand(c)
	}
}
