// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/distro/powerdown"
	"github.com/skerry-dev/skerry/distro/teardown"
)

const (
	// defaultGrace is a machine's where the API cannot be asked for its own.
	defaultGrace = 30 * time.Second
	// containerGrace is how long containers may take to end when asked.
	containerGrace = 10 * time.Second
	// stopLimit is how long the skerry process may take to end when asked.
	stopLimit = 20 * time.Second
)

func newDown(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Power off the virtual machines and stop the cluster; its data stays",
		Long: `Power off the virtual machines within their grace periods, stop the containers and
the cluster. The data stays: the next "skerry up" starts everything again, as after
a reboot of the box.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.existing(cmd.OutOrStdout())
			if err != nil || cfg == nil {
				return err
			}
			return down(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
}

func down(ctx context.Context, cfg *cluster.Config, out io.Writer) error {
	graces := machineGraces(ctx, cfg)
	// Without skerry nobody reacts to machines that power off by starting them
	// again, or to containers that end.
	if err := stopSkerry(ctx, cfg, out); err != nil {
		return err
	}
	grace := func(podUID string) time.Duration {
		if g, ok := graces[podUID]; ok {
			return g
		}
		return defaultGrace
	}
	err := powerdown.Guests(ctx, cfg.KubeletRoot(), grace, func(podUID string, err error) {
		if err != nil {
			fmt.Fprintf(out, "machine in pod %s: %v\n", podUID, err)
			return
		}
		fmt.Fprintf(out, "machine in pod %s: powered off\n", podUID)
	})
	if err != nil {
		return err
	}
	target, err := cfg.Teardown()
	if err != nil {
		return err
	}
	askCtx, cancel := context.WithTimeout(ctx, containerGrace)
	defer cancel()
	if err := teardown.Terminate(askCtx, target); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	err = teardown.Stop(ctx, target, func(what string, err error) { printStep(out, what, err) })
	if err == nil {
		fmt.Fprintln(out, "The cluster is down; `skerry up` starts it again.")
	}
	return err
}

func printStep(out io.Writer, what string, err error) {
	if err != nil {
		fmt.Fprintf(out, "✗ %s: %v\n", what, err)
		return
	}
	fmt.Fprintf(out, "✓ %s\n", what)
}

// machineGraces asks the API for each machine's grace period, by its pods' UIDs.
// Without an answer there are none, and the default holds.
func machineGraces(ctx context.Context, cfg *cluster.Config) map[string]time.Duration {
	graces := map[string]time.Duration{}
	c, err := cfg.Client(5 * time.Second)
	if err != nil {
		return graces
	}
	list := &v1.VirtualMachineInstanceList{}
	if err := c.List(ctx, list); err != nil {
		return graces
	}
	for i := range list.Items {
		g := defaultGrace
		if s := list.Items[i].Spec.TerminationGracePeriodSeconds; s != nil {
			g = time.Duration(*s) * time.Second
		}
		for uid := range list.Items[i].Status.ActivePods {
			graces[uid] = g
		}
	}
	return graces
}

// stopSkerry asks the skerry process to end, and kills it when it does not.
func stopSkerry(ctx context.Context, cfg *cluster.Config, out io.Writer) error {
	pid, err := cfg.RunningPID()
	if err != nil || pid == 0 {
		return err
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop skerry (PID %d): %w", pid, err)
	}
	limit := time.After(stopLimit)
	for {
		now, err := cfg.RunningPID()
		if err != nil {
			return err
		}
		if now != pid {
			if now != 0 {
				return fmt.Errorf("skerry was started again meanwhile (PID %d): stop the service first, with `systemctl stop skerry`", now)
			}
			fmt.Fprintf(out, "skerry (PID %d) stopped\n", pid)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill skerry (PID %d): %w", pid, err)
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}
