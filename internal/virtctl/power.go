// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// dryRunFlag adds --dry-run; the result is the options' dryRun.
func dryRunFlag(cmd *cobra.Command) func() []string {
	dry := cmd.Flags().Bool("dry-run", false, "only ask the server whether it would work")
	return func() []string {
		if *dry {
			return []string{metav1.DryRunAll}
		}
		return nil
	}
}

// say reports what was asked for.
func say(cmd *cobra.Command, kind, name, what string, dryRun []string) {
	suffix := ""
	if len(dryRun) > 0 {
		suffix = " (dry run)"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s was scheduled to %s%s\n", kind, name, what, suffix)
}

func (g *globals) start() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "start VM",
		Short:   "Start a virtual machine",
		Example: "  # start it, but leave the guest paused before its first instruction\n  start --paused myvm",
		Args:    args(1, 1),
	}
	paused := cmd.Flags().Bool("paused", false, "start it paused")
	dryRun := dryRunFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := kubevirtv1.StartOptions{DryRun: dryRun()}
		if *paused {
			o.Paused = paused
		}
		return g.power(cmd, args[0], "start", o, o.DryRun)
	}
	return cmd
}

// noGrace is the value of --grace-period when it was not given.
const noGrace = -1

func (g *globals) stop() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "stop VM",
		Short:   "Stop a virtual machine",
		Example: "  # ask the guest to power off\n  stop myvm\n\n  # pull the plug\n  stop myvm --force --grace-period=0",
		Args:    args(1, 1),
	}
	force := cmd.Flags().Bool("force", false, "do not wait for the guest: the same as --grace-period=0 unless that is given")
	grace := cmd.Flags().Int64("grace-period", noGrace, "seconds that the guest may take to shut down (default: the machine's terminationGracePeriodSeconds)")
	dryRun := dryRunFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := kubevirtv1.StopOptions{DryRun: dryRun()}
		switch {
		case cmd.Flags().Changed("grace-period") && *grace < 0 && *grace != noGrace:
			return fmt.Errorf("--grace-period %d: must be 0 or more", *grace)
		case *grace >= 0:
			o.GracePeriod = grace
		case *force:
			o.GracePeriod = new(int64)
		}
		return g.power(cmd, args[0], "stop", o, o.DryRun)
	}
	return cmd
}

func (g *globals) restart() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "restart VM",
		Short:   "Stop a virtual machine and start it again",
		Example: "  # without waiting for the guest\n  restart myvm --force --grace-period=0",
		Args:    args(1, 1),
	}
	force := cmd.Flags().Bool("force", false, "do not wait for the guest; needs --grace-period=0")
	grace := cmd.Flags().Int64("grace-period", noGrace, "0, together with --force; nothing else is possible")
	dryRun := dryRunFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := kubevirtv1.RestartOptions{DryRun: dryRun()}
		switch {
		case *force != (*grace != noGrace):
			return errors.New("--force and --grace-period=0 go together: give both or neither")
		case *force && *grace != 0:
			return fmt.Errorf("--grace-period %d: a forced restart takes only 0", *grace)
		case *force:
			o.GracePeriodSeconds = grace
		}
		return g.power(cmd, args[0], "restart", o, o.DryRun)
	}
	return cmd
}

// power carries out a verb of a VirtualMachine.
func (g *globals) power(cmd *cobra.Command, name, verb string, options any, dryRun []string) error {
	c, err := g.connect()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if err := c.put(ctx, vms, name, verb, options); err != nil {
		return c.explain(ctx, err, vms, name, verb)
	}
	say(cmd, "VM", name, verb, dryRun)
	return nil
}

func (g *globals) pause() *cobra.Command {
	return g.kindVerb("pause", "pause", "Halt a machine's CPUs; its memory stays")
}

func (g *globals) unpause() *cobra.Command {
	return g.kindVerb("unpause", "unpause", "Let a paused machine go on")
}

// kindVerb makes a command that takes vm|vmi NAME or just NAME.
func (g *globals) kindVerb(use, sub, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use + " [vm|vmi] NAME",
		Short:   short,
		Example: "  " + use + " vm myvm\n  " + use + " myvm",
		Args:    args(1, 2),
	}
	dryRun := dryRunFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		resource := vmis
		if len(args) == 2 {
			var err error
			if resource, err = kind(args[0]); err != nil {
				return err
			}
		}
		name := args[len(args)-1]
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if resource == vms {
			var vm kubevirtv1.VirtualMachine
			if err := c.get(ctx, vms, name, &vm); err != nil {
				return c.explain(ctx, err, vms, name, sub)
			}
		}
		o := kubevirtv1.PauseOptions{DryRun: dryRun()}
		if err := c.put(ctx, vmis, name, sub, o); err != nil {
			return c.explain(ctx, err, vmis, name, sub)
		}
		say(cmd, "VMI", name, sub, o.DryRun)
		return nil
	}
	return cmd
}

func (g *globals) softReboot() *cobra.Command {
	return g.instanceVerb("soft-reboot", "softreboot", "Ask the guest to reboot")
}

func (g *globals) reset() *cobra.Command {
	return g.instanceVerb("reset", "reset", "Reset a machine at once, as by its reset button")
}

// instanceVerb makes a command that takes the name of a running machine.
func (g *globals) instanceVerb(use, sub, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use + " VMI",
		Short: short,
		Args:  args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.connect()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if err := c.put(ctx, vmis, args[0], sub, nil); err != nil {
				return c.explain(ctx, err, vmis, args[0], sub)
			}
			say(cmd, "VMI", args[0], use, nil)
			return nil
		},
	}
}
