// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// sshFlags are what ssh and scp have in common.
type sshFlags struct {
	port       int
	user       string
	identity   string
	knownHosts string
	options    []string
}

func (f *sshFlags) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.IntVarP(&f.port, "port", "p", 22, "port of the guest's ssh server")
	fs.StringVarP(&f.user, "username", "l", "", "user in the guest (default: ssh's)")
	fs.StringVarP(&f.identity, "identity-file", "i", "", "private key (default: ssh's)")
	fs.StringVar(&f.knownHosts, "known-hosts", "", "known-hosts file (default: ssh's)")
	fs.StringArrayVarP(&f.options, "local-ssh-opts", "t", nil, "more options for the local client, for example -t \"-o StrictHostKeyChecking=no\"")
	fs.Bool("local-ssh", true, "the local OpenSSH client is always used")
	if err := fs.MarkHidden("local-ssh"); err != nil {
		cobra.CheckErr(err) // the flag of the line above
	}
}

// client are the options for ssh and scp alike, without the port: proxy has it.
func (f *sshFlags) client(proxy string) []string {
	a := []string{"-o", "ProxyCommand=" + proxy}
	if f.knownHosts != "" {
		a = append(a, "-o", "UserKnownHostsFile="+f.knownHosts)
	}
	if f.identity != "" {
		a = append(a, "-i", f.identity)
	}
	for _, o := range f.options {
		a = append(a, strings.Fields(o)...)
	}
	return a
}

func (g *globals) ssh() *cobra.Command {
	var f sshFlags
	cmd := &cobra.Command{
		Use:     "ssh [USER@][TYPE/]NAME[/NAMESPACE] [COMMAND...]",
		Short:   "Open a shell in a machine with the local ssh client",
		Example: "  ssh debian@myvm\n\n  # run one command with a key of its own\n  ssh debian@vm/myvm -i key -- uname -a",
		Args:    args(1, -1),
	}
	f.bind(cmd)
	cmd.Flags().SetInterspersed(true)
	command := cmd.Flags().StringP("command", "c", "", "command to run in place of a shell")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		user, rest := cutUser(args[0])
		if user == "" {
			user = f.user
		}
		t, err := parseTarget(rest)
		if err != nil {
			return err
		}
		proxy, err := g.proxy(cmd, &t, f.port)
		if err != nil {
			return err
		}
		client := f.client(proxy)
		if user != "" {
			client = append(client, "-l", user)
		}
		client = append(client, "--", t.alias())
		if *command != "" {
			client = append(client, *command)
		}
		return run(cmd, "ssh", append(client, args[1:]...))
	}
	return cmd
}

func (g *globals) scp() *cobra.Command {
	var f sshFlags
	cmd := &cobra.Command{
		Use:     "scp SOURCE DESTINATION",
		Short:   "Copy files to or from a machine with the local scp",
		Example: "  scp file debian@myvm:/tmp/\n  scp -r debian@vm/myvm/mynamespace:/var/log logs",
		Args:    args(2, 2),
	}
	f.bind(cmd)
	recursive := cmd.Flags().BoolP("recursive", "r", false, "copy directories")
	preserve := cmd.Flags().Bool("preserve", false, "keep times and modes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		source, err := parseCopy(args[0])
		if err != nil {
			return err
		}
		destination, err := parseCopy(args[1])
		if err != nil {
			return err
		}
		remote := &source
		if destination.remote {
			remote = &destination
		}
		if source.remote == destination.remote {
			return fmt.Errorf("exactly one of %.100q and %.100q must be in a machine, as [USER@]NAME:PATH", args[0], args[1])
		}
		if remote.user == "" {
			remote.user = f.user
		}
		proxy, err := g.proxy(cmd, &remote.target, f.port)
		if err != nil {
			return err
		}
		client := f.client(proxy)
		if *recursive {
			client = append(client, "-r")
		}
		if *preserve {
			client = append(client, "-p")
		}
		return run(cmd, "scp", append(client, "--", source.argument(), destination.argument()))
	}
	return cmd
}

// place is one end of a copy: a local path or one in a machine.
type place struct {
	remote bool
	user   string
	target target
	path   string
}

// parseCopy reads [[USER@][TYPE/]NAME[/NAMESPACE]:]PATH. As with scp, a colon
// after a slash belongs to a local path if the path starts like one.
func parseCopy(s string) (place, error) {
	host, path, ok := strings.Cut(s, ":")
	if !ok || host == "" || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		return place{path: s}, nil
	}
	user, rest := cutUser(host)
	t, err := parseTarget(rest)
	if err != nil {
		return place{}, fmt.Errorf("%w (a local path with a colon must start with / or ./)", err)
	}
	return place{remote: true, user: user, target: t, path: path}, nil
}

func (p place) argument() string {
	switch {
	case !p.remote && strings.HasPrefix(p.path, "-"), !p.remote && strings.Contains(p.path, ":") && !strings.HasPrefix(p.path, "/") && !strings.HasPrefix(p.path, "."):
		return "./" + p.path
	case !p.remote:
		return p.path
	case p.user != "":
		return p.user + "@" + p.target.alias() + ":" + p.path
	}
	return p.target.alias() + ":" + p.path
}

// cutUser splits USER@REST.
func cutUser(s string) (user, rest string) {
	if user, rest, ok := strings.Cut(s, "@"); ok {
		return user, rest
	}
	return "", s
}

// alias is the host name that ssh knows a machine by.
func (t target) alias() string { return t.short() + "." + t.name + "." + t.namespace }

// proxy finds the machine and returns ssh's ProxyCommand for it: this program's
// port-forward.
func (g *globals) proxy(cmd *cobra.Command, t *target, port int) (string, error) {
	if port < 1 || port > 65535 {
		return "", fmt.Errorf("--port %d: must be a number from 1 to 65535", port)
	}
	c, err := g.connect()
	if err != nil {
		return "", err
	}
	if err := c.resolve(cmd.Context(), t); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	// The verb may be below other commands: `skerry ssh`, or `skerry x ssh`.
	var above []string
	for p := cmd.Parent(); p != nil && p.HasParent(); p = p.Parent() {
		above = append(above, p.Name())
	}
	slices.Reverse(above)
	words := append([]string{self}, above...)
	words = append(words, "port-forward", "--stdio=true")
	words = append(words, g.given()...)
	words = append(words, t.short()+"/"+t.name+"/"+t.namespace, strconv.Itoa(port))
	return proxyCommand(words), nil
}

// proxyCommand quotes words for ssh, which expands % and then asks a shell.
func proxyCommand(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.ReplaceAll(strings.Join(quoted, " "), "%", "%%")
}

// run runs a local program with this one's terminal.
func run(cmd *cobra.Command, program string, arguments []string) error {
	path, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed here: install an OpenSSH client, for example the Debian package openssh-client", program)
	}
	if err != nil {
		return err
	}
	c := exec.CommandContext(cmd.Context(), path, arguments...)
	c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}
