// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newKubectl(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl",
		Short: "Run kubectl, as administrator of this cluster",
		Long: `Run the kubectl that is built in.

Its kubeconfig is, in this order: --kubeconfig, the one of --data-dir if that is
given, $KUBECONFIG, the one of the default data directory.`,
		DisableFlagParsing: true, // all flags are kubectl's but the leading ones
		RunE:               func(_ *cobra.Command, args []string) error { return runKubectl(o, args) },
	}
}

// runKubectl runs kubectl with args. It ends the process itself on an error, as
// kubectl's commands do.
func runKubectl(o *options, args []string) error {
	args, given := leadingFlags(o, args)
	if os.Getenv("KUBECONFIG") == "" || given {
		cfg := o.config()
		if err := os.Setenv("KUBECONFIG", cfg.Kubeconfig()); err != nil {
			return err
		}
	}
	os.Args = append([]string{"kubectl"}, args...)
	cmd := kubectlcmd.NewDefaultKubectlCommandWithArgs(kubectlcmd.KubectlOptions{
		PluginHandler: kubectlcmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     os.Args,
		ConfigFlags:   genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50),
		IOStreams:     genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
	})
	cmd.SetArgs(args)
	if err := cli.RunNoErrOutput(cmd); err != nil {
		cmdutil.CheckErr(err)
	}
	return nil
}

// leadingFlags takes skerry's own flags off the front of kubectl's arguments.
func leadingFlags(o *options, args []string) (rest []string, dataDirGiven bool) {
	for len(args) > 0 {
		name, value, ok := strings.Cut(args[0], "=")
		n := 1
		if !ok && len(args) > 1 {
			value, n = args[1], 2
		}
		switch name {
		case "--data-dir":
			o.dataDir, dataDirGiven = value, true
		case "--run-dir":
			o.runDir = value
		default:
			return args, dataDirGiven
		}
		args = args[n:]
	}
	return args, dataDirGiven
}
