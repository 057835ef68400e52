// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/distro/teardown"
)

func newReset(o *options) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Remove the cluster from this machine, with all its data",
		Long: `Remove everything that "skerry up" made on this machine: containers, virtual
machines and their disks, mounts, network namespaces, links, nftables tables,
cgroups, and the data directory. Machines are not powered off first; do that with
"skerry down".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			cfg, err := o.existing(out)
			if err != nil || cfg == nil {
				return err
			}
			if !yes && !confirmed(cmd.InOrStdin(), out, cfg) {
				return fmt.Errorf("nothing was removed: answer with the word yes, or give --yes")
			}
			if err := stopSkerry(cmd.Context(), cfg, out); err != nil {
				return err
			}
			target, err := cfg.Teardown()
			if err != nil {
				return err
			}
			return teardown.Remove(cmd.Context(), target, func(what string, err error) { printStep(out, what, err) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func confirmed(in io.Reader, out io.Writer, cfg *cluster.Config) bool {
	fmt.Fprintf(out, "This removes the cluster in %s with all its machines, disks and data.\nType yes to go on: ", cfg.DataDir)
	line, _ := bufio.NewReader(in).ReadString('\n')
	return strings.TrimSpace(line) == "yes"
}
