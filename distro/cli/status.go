// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/distro/status"
)

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the cluster on this machine is doing",
		Long: `Show the cluster's components, node, virtual machines, disk and certificates, and
what was found out about the host. Exits with 1 when something that should run does not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := cluster.Load(o.config())
			if err != nil {
				return err
			}
			s := status.Collect(cmd.Context(), cfg)
			s.Print(cmd.OutOrStdout(), time.Now())
			if !s.Healthy() {
				return errReported
			}
			return nil
		},
	}
}
