// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/contract"
)

// rehearsed is a fake QEMU that is being rehearsed: its monitor is for one client
// after the other, and it is "inmigrate" for the first answers.
func rehearsed(socket, behaviour string) {
	switch behaviour {
	case "exit":
		fmt.Fprintln(os.Stderr, "qemu: no such option")
		os.Exit(3)
	case "hang":
		time.Sleep(time.Hour)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	for asked := 0; ; {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		fmt.Fprint(conn, `{"QMP": {"version": {}, "capabilities": []}}`+"\r\n")
		dec := json.NewDecoder(conn)
		for {
			var cmd struct{ Execute string }
			if dec.Decode(&cmd) != nil {
				break
			}
			status := "inmigrate"
			if cmd.Execute == "query-status" {
				asked++
			}
			if asked > 3 && behaviour != "stuck" {
				status = "paused"
			}
			if asked > 3 && behaviour == "wrong" {
				status = "internal-error"
			}
			fmt.Fprintf(conn, "{\"return\": {\"status\": %q}}\r\n", status)
		}
		conn.Close()
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	for behaviour, c := range map[string]struct {
		new    bool
		reason string
	}{
		"good":  {new: true},
		"exit":  {reason: "ended while it took the machine over (exit status 3): qemu: no such option"},
		"hang":  {reason: "did not take the machine over within 1s: connect to"},
		"stuck": {reason: "did not take the machine over within 1s: "},
		"wrong": {reason: `is "internal-error" after it took the machine over`},
		"gone":  {reason: "start the new QEMU: "},
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rehearsal := []string{w.QEMU, "rehearsed", filepath.Join(w.RunDir, contract.RehearsalDir, contract.RehearsalSocket), behaviour}
			if behaviour == "gone" {
				rehearsal[0] = w.QEMU + ".gone"
			}
			limit := time.Second
			if c.new {
				limit = patience
			}
			r := contract.Renewal{
				Limit: limit, Rehearsal: rehearsal,
				New: []string{w.QEMU, "report", w.report, "new"}, Old: []string{w.QEMU, "report", w.report, "old"},
			}
			// Descriptors that QEMU inherits: their numbers count.
			inherited := make([]*os.File, 40)
			for n, want := range map[int]string{27: "tap", 3: "state"} {
				f, err := os.Create(filepath.Join(w.DiskDir, want))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				inherited[n-3] = f
			}
			cmd := w.renewal(r)
			cmd.ExtraFiles = inherited
			cmd.Env = append(cmd.Env, "QEMU_CPR_EXEC_STATE=3", contract.ModuleDirEnv+"=/old")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			if code := exitCode(t, cmd); code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr(cmd))
			}
			rep := w.readReport()
			which := "old"
			if c.new {
				which = "new"
			}
			if d := cmp.Diff([]string{"report", w.report, which}, rep.Args); d != "" {
				t.Error(d)
			}
			if rep.PID != cmd.Process.Pid {
				t.Errorf("process %d, want %d", rep.PID, cmd.Process.Pid)
			}
			if d := cmp.Diff(map[int]string{3: w.DiskDir + "/state", 27: w.DiskDir + "/tap"}, rep.FDs); d != "" {
				t.Errorf("descriptors (-want +got):\n%s", d)
			}
			env := strings.Join(rep.Env, "\n")
			if !strings.Contains(env, "QEMU_CPR_EXEC_STATE=3") || strings.Contains(env, contract.ModuleDirEnv) {
				t.Errorf("environment: %s", env)
			}
			var result contract.Renewed
			b, err := os.ReadFile(filepath.Join(w.RunDir, contract.RenewResult))
			if err == nil {
				err = json.Unmarshal(b, &result)
			}
			if err != nil || (result.Error == "") != c.new || !strings.Contains(result.Error, c.reason) {
				t.Errorf("result %+v, %v; want %q", result, err, c.reason)
			}
			if _, err := os.Stat(filepath.Join(w.RunDir, contract.RehearsalDir)); !os.IsNotExist(err) {
				t.Errorf("the rehearsal's directory is still there: %v", err)
			}
		})
	}
}

// Whoever sends a signal in the middle of it must not end the machine.
func TestRenewSurvivesSignals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(w.RunDir, contract.RehearsalDir)
	cmd := w.renewal(contract.Renewal{
		Limit: time.Second, Rehearsal: []string{w.QEMU, "rehearsed", filepath.Join(dir, contract.RehearsalSocket), "stuck"},
		New: []string{w.QEMU, "report", w.report, "new"}, Old: []string{w.QEMU, "report", w.report, "old"},
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, contract.RehearsalSocket)); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGWINCH} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if code := exitCode(t, cmd); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr(cmd))
	}
	if rep := w.readReport(); rep.Args[2] != "old" {
		t.Errorf("it became %v", rep.Args)
	}
}
