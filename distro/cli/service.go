// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/distro/cluster"
)

const unitFile = "/etc/systemd/system/skerry.service"

func newService(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "service", Short: "Let systemd start the cluster with the machine"}
	var printOnly bool
	install := &cobra.Command{
		Use:   "install [-- FLAGS OF UP]",
		Short: "Write the systemd unit and start it",
		Example: `  skerry service install
  skerry service install -- --bind-address 192.0.2.10`,
		RunE: func(cmd *cobra.Command, args []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			unit, err := unitText(exe, o, args)
			if err != nil {
				return err
			}
			if printOnly {
				_, err := fmt.Fprint(cmd.OutOrStdout(), unit)
				return err
			}
			if _, err := os.Stat("/run/systemd/system"); err != nil {
				return errors.New("systemd does not run this machine: print the unit with --print, or let your own supervisor run `skerry up`")
			}
			if err := os.WriteFile(unitFile, []byte(unit), 0o644); err != nil {
				return err
			}
			if err := systemctl(cmd.Context(), "daemon-reload"); err != nil {
				return err
			}
			if err := systemctl(cmd.Context(), "enable", "--now", "skerry.service"); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote %s and started it; look with `systemctl status skerry`.\n", unitFile)
			return err
		},
	}
	install.Flags().BoolVar(&printOnly, "print", false, "only print the unit")
	remove := &cobra.Command{
		Use:   "remove",
		Short: "Stop the service and remove its unit; pods and machines run on",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(unitFile); errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err := systemctl(cmd.Context(), "disable", "--now", "skerry.service"); err != nil {
				return err
			}
			if err := os.Remove(unitFile); err != nil {
				return err
			}
			return systemctl(cmd.Context(), "daemon-reload")
		},
	}
	cmd.AddCommand(install, remove)
	return cmd
}

func systemctl(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unitText is the systemd unit. KillMode=process keeps systemd from ending
// containerd, the shims and the machines with the process; Delegate gives it the
// cgroups below its own.
func unitText(exe string, o *options, upFlags []string) (string, error) {
	args := []string{exe, "up"}
	if o.dataDir != cluster.DefaultDataDir {
		args = append(args, "--data-dir", o.dataDir)
	}
	if o.runDir != cluster.DefaultRunDir {
		args = append(args, "--run-dir", o.runDir)
	}
	var quoted []string
	for _, a := range append(args, upFlags...) {
		if strings.ContainsAny(a, "\n\r") {
			return "", fmt.Errorf("argument %q: a unit's command line cannot hold a line break", a)
		}
		// systemd.service(5), "Command lines": specifiers, variables, quotes.
		a = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(a)
		if strings.ContainsAny(a, " \t'\"\\;") || a == "" {
			a = `"` + a + `"`
		}
		quoted = append(quoted, a)
	}
	return `[Unit]
Description=Skerry: virtual machines and containers on one Kubernetes
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
Type=exec
ExecStart=` + strings.Join(quoted, " ") + `
Restart=always
RestartSec=2
# Pods and virtual machines outlive the process.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
`, nil
}
