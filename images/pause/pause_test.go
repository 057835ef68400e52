// SPDX-License-Identifier: Apache-2.0

package pause

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEndsOnTermAndInt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	binary := filepath.Join(dir, "pause")
	if err := compile(dir, binary); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), binary)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Sent before the process has blocked it, the signal ends it the
			// other way; SIGCHLD alone never does.
			waitBlocked(t, cmd.Process.Pid)
			if err := cmd.Process.Signal(syscall.SIGCHLD); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("ended with %v, want exit code 0", err)
			}
		})
	}
}

// Uses the same compiler twice: nothing of the place or time may show.
func TestReproducible(t *testing.T) {
	t.Parallel()
	a, b := filepath.Join(t.TempDir(), "a.tar"), filepath.Join(t.TempDir(), "b.tar")
	for _, out := range []string{a, b} {
		if err := Build("v1", out); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cmp", a, b).CombinedOutput(); err != nil {
		t.Errorf("two builds differ: %s", out)
	}
}

// waitBlocked waits until the process sleeps in rt_sigtimedwait, system call 128.
func waitBlocked(t *testing.T, pid int) {
	t.Helper()
	for t.Context().Err() == nil {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(b), "128 ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the process never waited for signals")
}
