// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/internal/version"
)

// info is a version as KubeVirt's server sends it.
type info struct {
	GitVersion   string `json:"gitVersion"`
	GitCommit    string `json:"gitCommit"`
	GitTreeState string `json:"gitTreeState"`
	BuildDate    string `json:"buildDate"`
	GoVersion    string `json:"goVersion"`
	Compiler     string `json:"compiler"`
	Platform     string `json:"platform"`
}

func (i info) String() string {
	return fmt.Sprintf("version.Info{GitVersion:%q, GitCommit:%q, GitTreeState:%q, BuildDate:%q, GoVersion:%q, Compiler:%q, Platform:%q}",
		i.GitVersion, i.GitCommit, i.GitTreeState, i.BuildDate, i.GoVersion, i.Compiler, i.Platform)
}

func (g *globals) version() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this client and of the server",
		Args:  args(0, 0),
	}
	clientOnly := cmd.Flags().BoolP("client", "c", false, "only the client's")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		fmt.Fprintln(out, "Client Version:", info{
			GitVersion: version.Version, GoVersion: runtime.Version(),
			Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		})
		if *clientOnly {
			return nil
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		var group metav1.APIGroup
		b, err := c.do(ctx, http.MethodGet, "/apis/"+subresources, nil, nil)
		if err == nil {
			err = json.Unmarshal(b, &group)
		}
		if err != nil {
			return fmt.Errorf("server version: %w", c.explain(ctx, err, "", "", "version"))
		}
		var server info
		b, err = c.do(ctx, http.MethodGet, "/apis/"+group.PreferredVersion.GroupVersion+"/version", nil, nil)
		if err == nil {
			err = json.Unmarshal(b, &server)
		}
		if err != nil {
			return fmt.Errorf("server version: %w", err)
		}
		fmt.Fprintln(out, "Server Version:", server)
		return nil
	}
	return cmd
}
