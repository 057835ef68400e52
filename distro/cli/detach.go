// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	k8sversion "k8s.io/component-base/version"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/internal/version"
)

// upDetached starts this binary again in the background, with the same
// arguments, and shows its stages until the cluster is ready.
func upDetached(ctx context.Context, cfg cluster.Config, out io.Writer, args []string) error {
	if pid, err := cfg.RunningPID(); err != nil {
		return err
	} else if pid != 0 {
		fmt.Fprintf(out, "skerry runs already (PID %d)\n", pid)
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.LogDir(), 0o755); err != nil {
		return err
	}
	// What the child prints beside its log: errors, a panic.
	outPath := filepath.Join(cfg.LogDir(), "skerry.out")
	childOut, err := os.OpenFile(outPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer childOut.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()

	child := exec.Command(exe, append(attached(args), "--events-fd=3")...)
	child.Stdout, child.Stderr = childOut, childOut
	child.ExtraFiles = []*os.File{w}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start skerry in the background: %w", err)
	}
	w.Close()
	// Whoever interrupts the wait wants the start to end, too.
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer stop()

	p := stagePrinter{out, cfg}
	p.begin(version.Version, k8sversion.Get().GitVersion)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var e cluster.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("skerry in the background (PID %d) spoke nonsense: %w", child.Process.Pid, err)
		}
		p.event(e)
		if e.Ready {
			p.next(true)
			return child.Process.Release()
		}
	}
	// The pipe ended without "ready": the child is ending.
	err = child.Wait()
	said, _ := os.ReadFile(outPath)
	if text := strings.TrimSpace(string(said)); text != "" {
		fmt.Fprintln(os.Stderr, text)
		return errReported
	}
	return fmt.Errorf("skerry in the background ended before it was ready (%v); the logs are in %s", err, cfg.LogDir())
}

// attached is the command line without --detach.
func attached(args []string) []string {
	var out []string
	for _, a := range args {
		if a != "--detach" && !strings.HasPrefix(a, "--detach=") {
			out = append(out, a)
		}
	}
	return out
}
