// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
)

// monitored starts a fake QEMU with a monitor; its output are the commands it got.
func (w *world) monitored(behaviour string) (*exec.Cmd, *bytes.Buffer) {
	w.t.Helper()
	socket := filepath.Join(w.RunDir, contract.ShutdownQMPSocket)
	cmd := exec.Command(w.QEMU, "monitor", socket, behaviour)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	w.PID = cmd.Process.Pid
	return cmd, &out
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		behaviour string
		grace     time.Duration
		want      string // commands, in order
	}{
		{"obedient", time.Hour, "qmp_capabilities query-status system_powerdown"},
		{"paused", time.Hour, "qmp_capabilities query-status cont system_powerdown"},
		{"prelaunch", time.Hour, "qmp_capabilities query-status quit"},
		{"deaf-at-first", time.Hour, "qmp_capabilities query-status system_powerdown system_powerdown"},
		{"deaf", time.Second, "qmp_capabilities query-status system_powerdown quit"},
		{"obedient", 0, "qmp_capabilities query-status quit"},
		{"paused", 0, "qmp_capabilities query-status quit"},
	} {
		t.Run(c.behaviour+" "+c.grace.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			// Not waiting for the monitor: that is Shutdown's business.
			cmd, out := w.monitored(c.behaviour)
			if err := Shutdown(w.Config, c.grace); err != nil {
				t.Fatal(err)
			}
			if code := exitCode(t, cmd); code != 0 {
				t.Errorf("QEMU's exit code is %d", code)
			}
			got := strings.Join(strings.Fields(out.String()), " ")
			if got != "listening "+c.want {
				t.Errorf("commands: %q, want %q", got, c.want)
			}
		})
	}
}

func TestShutdownEndsWaitingLauncher(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := w.launcher()
	w.PID = cmd.Process.Pid
	if err := Shutdown(w.Config, time.Hour); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, cmd); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr(cmd))
	}
}

func TestShutdownOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	w.PID = cmd.Process.Pid
	if err := Shutdown(w.Config, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.RunDir); err != nil {
		t.Fatal(err)
	}
}

// A QEMU that does not answer, or does not end, must not hold the hook up for ever.
func TestShutdownGivesUp(t *testing.T) {
	t.Parallel()
	for _, behaviour := range []string{"mute", "undead"} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Patience = 100 * time.Millisecond
			w.monitored(behaviour)
			if err := Shutdown(w.Config, 0); err == nil || !strings.Contains(err.Error(), "QEMU did not end") {
				t.Errorf("got %v", err)
			}
		})
	}
}
