// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	k8sversion "k8s.io/component-base/version"

	"github.com/skerry-dev/skerry/internal/version"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of skerry and of the Kubernetes in it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "skerry %s\nkubernetes %s\n", version.Version, k8sversion.Get().GitVersion)
			return err
		},
	}
}
