// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// escape is what leaves a console: Ctrl and ], as in telnet.
const escape = 0x1d

// retryEvery is how long to wait while a machine is starting.
const retryEvery = time.Second

// minutes is a flag in minutes that also takes Go's durations.
type minutes time.Duration

func (m *minutes) String() string {
	d := time.Duration(*m)
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d / time.Minute))
	}
	return d.String()
}

func (m *minutes) Set(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		*m = minutes(time.Duration(n) * time.Minute)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("%.40q is neither a number of minutes nor a duration such as 90s", s)
	}
	*m = minutes(d)
	return nil
}

func (m *minutes) Type() string { return "minutes" }

func (g *globals) console() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "console VMI",
		Short: "Connect to a machine's serial console (leave it with Ctrl-])",
		Args:  args(1, 1),
	}
	timeout := minutes(5 * time.Minute)
	cmd.Flags().Var(&timeout, "timeout", "how long to wait for a machine that is still starting")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		s, err := c.openWaiting(ctx, args[0], "console", time.Duration(timeout), cmd.ErrOrStderr())
		if err != nil {
			return c.explain(ctx, err, vmis, args[0], "console")
		}
		defer s.Close()
		return attach(ctx, s, args[0], cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// openWaiting opens a stream of an instance and, while the answer is 400 (it is
// not running yet), tries again every second for as long as timeout.
func (c *conn) openWaiting(ctx context.Context, name, sub string, timeout time.Duration, notice io.Writer) (*stream, error) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	again := time.NewTicker(retryEvery)
	defer again.Stop()
	for told := false; ; {
		s, err := c.open(ctx, vmis, name, sub, nil)
		if code(err) != http.StatusBadRequest || timeout == 0 {
			return s, err
		}
		if !told {
			told = true
			fmt.Fprintf(notice, "Waiting for %s: %s\n", name, printable(err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return nil, fmt.Errorf("given up after %v: %w", timeout, err)
		case <-again.C:
		}
	}
}

// attach copies between a console and the terminal until either ends. Where in
// is no terminal, there is no escape, and its end leaves the output running.
func attach(ctx context.Context, s *stream, name string, in io.Reader, out, notice io.Writer) error {
	restore := func() {}
	interactive := false
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		interactive = true
		fmt.Fprintf(notice, "Connected to %s. Leave with Ctrl-]. Press Enter if nothing appears.\n", name)
		state, err := term.MakeRaw(int(f.Fd()))
		if err != nil {
			return fmt.Errorf("put the terminal into raw mode: %w", err)
		}
		restore = func() { _ = term.Restore(int(f.Fd()), state) } // nothing to be done about a failure
	}
	defer restore()

	left := make(chan error, 1)
	go func() { left <- toConsole(s, in, interactive) }()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, s)
		ended <- err
	}()
	for {
		select {
		case <-ctx.Done():
			return nil // interrupted by the user
		case err := <-left:
			if err == nil && !interactive {
				left = nil // the input has ended; the console has not
				continue
			}
			return err
		case err := <-ended:
			restore()
			return whyEnded(err, name, notice)
		}
	}
}

// toConsole copies in until it ends or, when interactive, until the escape.
func toConsole(s io.Writer, in io.Reader, interactive bool) error {
	buf := make([]byte, streamBuffer)
	for {
		n, err := in.Read(buf)
		typed := buf[:n]
		at := -1
		if interactive {
			at = bytes.IndexByte(typed, escape)
		}
		if at >= 0 {
			typed = typed[:at]
		}
		if len(typed) > 0 {
			if _, err := s.Write(typed); err != nil {
				return fmt.Errorf("connection lost: %w", err)
			}
		}
		switch {
		case at >= 0, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the input: %w", err)
		}
	}
}

// whyEnded tells the user about a stream that the other end has closed.
func whyEnded(err error, name string, notice io.Writer) error {
	if err == nil {
		fmt.Fprintf(notice, "\nThe console of %s was closed: the machine has stopped, or somebody else has opened its console.\n", name)
		return nil
	}
	if websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		return fmt.Errorf("connection to %s lost (%w): the machine or its node has stopped, the network failed, or somebody else has opened the console", name, err)
	}
	return fmt.Errorf("connection to %s lost: %w", name, err)
}
