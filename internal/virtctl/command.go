// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

// NewCommand is the client as a program of its own: virtctl or, with the name
// kubectl-virt, a plugin of kubectl. kubeconfigDefault names the file to use when
// neither a flag nor $KUBECONFIG does; "" leaves it to kubectl's rules.
func NewCommand(name string, kubeconfigDefault func() string) *cobra.Command {
	root := &cobra.Command{
		Use:           name,
		Short:         "Control virtual machines",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if plugin, ok := strings.CutPrefix(name, "kubectl-"); ok {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl " + plugin}
	}
	g := &globals{fallback: kubeconfigDefault}
	g.bind(root.PersistentFlags())
	root.AddCommand(g.verbs()...)
	root.AddCommand(g.version())
	for _, c := range notServed() {
		root.AddCommand(c)
	}
	return root
}

// AddCommands gives another program the verbs (all but version), each with the
// global flags of NewCommand.
func AddCommands(root *cobra.Command, kubeconfigDefault func() string) {
	for _, make := range verbs {
		g := &globals{fallback: kubeconfigDefault}
		cmd := make(g)
		cmd.SilenceUsage = true
		g.bind(cmd.PersistentFlags())
		root.AddCommand(cmd)
	}
}

// verbs make the commands, each with the globals that its flags are bound to.
var verbs = []func(*globals) *cobra.Command{
	(*globals).console,
	(*globals).vnc,
	(*globals).start,
	(*globals).stop,
	(*globals).restart,
	(*globals).pause,
	(*globals).unpause,
	(*globals).softReboot,
	(*globals).reset,
	(*globals).resize,
	(*globals).portForward,
	(*globals).ssh,
	(*globals).scp,
	(*globals).expose,
	(*globals).vm,
}

func (g *globals) verbs() []*cobra.Command {
	var all []*cobra.Command
	for _, make := range verbs {
		all = append(all, make(g))
	}
	return all
}

// notServed are the commands of KubeVirt's client that have nothing to talk to
// yet. They say so, where "unknown command" would leave the user guessing.
func notServed() []*cobra.Command {
	var all []*cobra.Command
	for name, instead := range map[string]string{
		"addvolume":         "add the volume to the machine's spec.template.spec and restart it",
		"removevolume":      "remove the volume from the machine's spec.template.spec and restart it",
		"migrate":           "stop and start the machine; the scheduler chooses the node",
		"migrate-cancel":    "there are no migrations to cancel",
		"evacuate-cancel":   "machines are not evacuated, so there is nothing to cancel",
		"expand":            "instancetypes are not supported, so every spec is already expanded",
		"fslist":            "run df in the guest (ssh)",
		"userlist":          "run who in the guest (ssh)",
		"guestosinfo":       "kubectl get vmi NAME -o jsonpath={.status.guestOSInfo}",
		"guestfs":           "start a pod of your own with libguestfs and the claim",
		"image-upload":      "put the image into a container image and use containerDisk",
		"vmexport":          "copy the data from inside the guest (scp)",
		"memory-dump":       "dump memory from inside the guest",
		"usbredir":          "copy files into the guest (scp)",
		"create":            "write the manifest by hand and kubectl apply it",
		"credentials":       "set keys and passwords by cloud-init in the machine's spec",
		"adm":               "there is no KubeVirt object to configure",
		"objectgraph":       "kubectl get pods -l vmi.kubevirt.io/id=NAME",
		"permitted-devices": "there is no list of permitted devices",
	} {
		all = append(all, &cobra.Command{
			Use:                name,
			Hidden:             true,
			DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return fmt.Errorf("%s is not available with Skerry: %s", cmd.Name(), instead)
			},
		})
	}
	return all
}

// ExitCode is what a program should exit with for an error of these commands:
// that of the ssh, scp or VNC viewer which they ran, otherwise 1, and 0 for nil.
func ExitCode(err error) int {
	var ran *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ran) && ran.ExitCode() > 0:
		return ran.ExitCode()
	}
	return 1
}

// args is cobra.RangeArgs with a message that says what was expected.
func args(min, max int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		if len(got) >= min && (max < 0 || len(got) <= max) {
			return nil
		}
		return fmt.Errorf("expected %q, got %d argument(s); see %s --help", cmd.UseLine(), len(got), cmd.CommandPath())
	}
}
