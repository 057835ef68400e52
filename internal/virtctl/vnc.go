// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (g *globals) vnc() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vnc VMI",
		Short: "Open a machine's screen in a VNC viewer",
		Example: "  # with a viewer that is installed here\n  vnc myvm\n\n" +
			"  # print a port and wait for a viewer there\n  vnc myvm --proxy-only --port 5900",
		Args: args(1, 1),
	}
	f := cmd.Flags()
	proxyOnly := f.Bool("proxy-only", false, "start no viewer: print the port as JSON and wait for a connection")
	port := f.Int("port", 0, "local port (0: any free one)")
	address := f.String("address", "127.0.0.1", "local address to listen on; anyone who can reach it sees the screen")
	preserve := f.Bool("preserve-session", false, "fail rather than join while somebody else is connected")
	viewerType := f.String("vnc-type", "", "viewer to start: "+strings.Join(viewerNames(), ", ")+" (default: the first that is installed)")
	viewerPath := f.String("vnc-path", "", "path of the viewer, with --vnc-type for its kind of arguments")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var v *viewer
		var err error
		if !*proxyOnly {
			// A missing viewer shows before anything is opened.
			if v, err = findViewer(*viewerType, *viewerPath, exec.LookPath); err != nil {
				return err
			}
		}
		if *port < 0 || *port > 65535 {
			return fmt.Errorf("--port %d: must be a number from 0 to 65535", *port)
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		query := url.Values{}
		if *preserve {
			query.Set("preserveSession", "true")
		}
		s, err := c.open(ctx, vmis, args[0], "vnc", query)
		if err != nil {
			return c.explain(ctx, err, vmis, args[0], "vnc")
		}
		defer s.Close()
		return serveViewer(ctx, s, v, net.JoinHostPort(*address, strconv.Itoa(*port)), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	cmd.AddCommand(g.screenshot())
	return cmd
}

// viewerLimit is how long a viewer that was started may take to connect.
const viewerLimit = time.Minute

// serveViewer lets one viewer connect to address and copies until it leaves. v is
// nil where the user brings his own viewer.
func serveViewer(ctx context.Context, s *stream, v *viewer, address string, out, notice io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for the viewer: %w", err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	host := ln.Addr().(*net.TCPAddr).IP.String()

	viewerEnd := make(chan error, 1)
	if v == nil {
		line, err := json.Marshal(struct {
			Port int `json:"port"`
		}{port})
		if err != nil {
			return err
		}
		fmt.Fprintln(out, string(line))
	} else {
		cmd := exec.CommandContext(ctx, v.path, v.args(host, port)...)
		cmd.Stdout, cmd.Stderr = notice, notice
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start the VNC viewer: %w", err)
		}
		go func() { viewerEnd <- cmd.Wait() }()
		time.AfterFunc(viewerLimit, func() { ln.Close() })
	}
	accepted := make(chan net.Conn, 1)
	failed := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		ln.Close()
		if err != nil {
			failed <- err
			return
		}
		accepted <- conn
	}()
	select {
	case <-ctx.Done():
		return nil // interrupted by the user
	case err := <-viewerEnd:
		if err == nil {
			err = errors.New("exit status 0")
		}
		return fmt.Errorf("%s ended without connecting: %w", v.path, err)
	case err := <-failed:
		return fmt.Errorf("the VNC viewer has not connected: %w", err)
	case conn := <-accepted:
		defer conn.Close()
		err := pipe(ctx, conn, s)
		if v != nil && err == nil {
			cancel() // the screen is gone; some viewers would stay open
		}
		return err
	}
}

// pipe copies both ways until one side ends, and closes both.
func pipe(ctx context.Context, local io.ReadWriteCloser, remote *stream) error {
	stop := context.AfterFunc(ctx, func() {
		local.Close()
		remote.Close()
	})
	defer stop()
	up, down := make(chan struct{}), make(chan error, 1)
	go func() {
		_, _ = io.Copy(remote, local) // the local side has closed; how does not matter
		close(up)
	}()
	go func() {
		_, err := io.Copy(local, remote)
		down <- err
	}()
	var err error
	select {
	case <-up:
		remote.Close()
		<-down //nolint:errcheck // the user ended it: how the other half ends does not matter
	case err = <-down:
		local.Close()
		remote.Close()
		<-up
	}
	if ctx.Err() != nil {
		return nil // interrupted by the user
	}
	return err
}

// viewer is a program that shows a VNC server.
type viewer struct {
	path string
	args func(host string, port int) []string
}

type viewerKind struct {
	name  string
	names []string // of programs, in order of preference
	args  func(host string, port int) []string
}

func uriArgs(host string, port int) []string {
	return []string{"vnc://" + net.JoinHostPort(host, strconv.Itoa(port))}
}

// doubleColon is how the VNC family writes a port that is no display number.
func doubleColon(more ...string) func(string, int) []string {
	return func(host string, port int) []string {
		return append(append([]string(nil), more...), host+"::"+strconv.Itoa(port))
	}
}

// viewerKinds in order of preference. Shared sessions are asked for, so that a
// viewer does not throw the others out.
func viewerKinds() []viewerKind {
	kinds := []viewerKind{
		{"remote-viewer", []string{"remote-viewer"}, uriArgs},
		{"tiger", []string{"xtigervncviewer", "vncviewer"}, doubleColon("-Shared")},
		{"tight", []string{"xtightvncviewer"}, doubleColon("-shared")},
		{"real", []string{"vnc-viewer", "realvnc-viewer"}, doubleColon("-Shared", "-WarnUnencrypted=0")},
	}
	if runtime.GOOS == "darwin" {
		kinds = append(kinds, viewerKind{"screen-sharing", []string{"open"}, func(h string, p int) []string { return append([]string{"-W"}, uriArgs(h, p)...) }})
	}
	return kinds
}

func viewerNames() []string {
	var names []string
	for _, k := range viewerKinds() {
		names = append(names, k.name)
	}
	return names
}

// findViewer chooses a program; look is exec.LookPath.
func findViewer(wanted, path string, look func(string) (string, error)) (*viewer, error) {
	var tried []string
	known := false
	for _, k := range viewerKinds() {
		if wanted != "" && wanted != k.name {
			continue
		}
		known = true
		if path != "" {
			found, err := look(path)
			if err != nil {
				return nil, fmt.Errorf("--vnc-path: %w", err)
			}
			return &viewer{found, k.args}, nil
		}
		for _, name := range k.names {
			if found, err := look(name); err == nil {
				return &viewer{found, k.args}, nil
			}
			tried = append(tried, name)
		}
	}
	if !known {
		return nil, fmt.Errorf("--vnc-type %.40q: must be one of %s", wanted, strings.Join(viewerNames(), ", "))
	}
	return nil, fmt.Errorf("no VNC viewer is installed here (looked for %s): install one, for example the Debian package tigervnc-viewer, or use --proxy-only and connect a viewer of your own to the port that it prints", strings.Join(tried, ", "))
}

func (g *globals) screenshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "screenshot VMI",
		Short:   "Save a picture of a machine's screen as PNG",
		Example: "  vnc screenshot myvm --file screen.png",
		Args:    args(1, 1),
	}
	file := cmd.Flags().StringP("file", "f", "", "where to save the picture; - is standard output (required)")
	move := cmd.Flags().Bool("move-cursor", false, "first move the mouse a little, to wake the screen")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *file == "" {
			return errors.New("--file is required; - writes to standard output")
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		png, err := c.do(ctx, http.MethodGet, c.path(vmis, args[0], "vnc/screenshot"), url.Values{"moveCursor": {strconv.FormatBool(*move)}}, nil)
		if err != nil {
			return c.explain(ctx, err, vmis, args[0], "screenshot")
		}
		if *file == "-" {
			_, err = cmd.OutOrStdout().Write(png)
			return err
		}
		if err := os.WriteFile(*file, png, 0o600); err != nil {
			return fmt.Errorf("save the picture: %w", err)
		}
		return nil
	}
	return cmd
}
