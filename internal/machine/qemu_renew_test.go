// SPDX-License-Identifier: Apache-2.0

//go:build qemu

package machine

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/renew"
)

// Every golden machine's QEMU is replaced by one from another place, by the real
// launcher with a real rehearsal: what runs goes on, and what is refused leaves
// the machine with the old one.
func TestQEMURenewsEveryMachine(t *testing.T) {
	root, version := qemuRoot(t)
	if v, err := parseVersion(version); err != nil || tooOld(v) {
		t.Logf("QEMU %s cannot be replaced while the guest runs", version)
		return
	}
	bin := buildLauncher(t)
	const next = "0123456789ab"
	for _, file := range vmiFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			vmi := readVMI(t, file)
			att := attachmentsFor(vmi)
			m, err := New(vmi, Host{QEMUVersion: version, Accel: TCG, Arch: "amd64"}, att)
			if err != nil {
				t.Fatal(err)
			}
			c := m.Contract()
			setup := podSetup{QEMURoot: root, Launcher: bin, QEMUVersion: version, Mounts: map[string]string{
				contract.NextRoot(next): root, contract.NextDir + "/launcher": filepath.Dir(bin),
			}}
			status, output := runMachine(t, setup, c, att, func(q *qmpConn, pid int) string {
				q.ask("cont", nil)
				argv, err := renew.Argv(c.Argv, renew.Plugged{})
				if err != nil {
					t.Fatal(err)
				}
				// First one that does not know an option, then a good one, and from that
				// one to itself.
				for _, try := range []struct {
					from, extra, want string
				}{{"", "-skerry-no-such-option", ""}, {"", "", next}, {next, "", next}} {
					commands, err := renew.Commands(argv, try.from, next)
					if err != nil {
						t.Fatal(err)
					}
					commands.Limit = patience
					if try.extra != "" {
						commands.Rehearsal = append(commands.Rehearsal, try.extra)
					}
					exchangeQEMU(t, q, commands)
					// The container is a chroot: its paths begin somewhere on this machine.
					exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
					if i := strings.Index(exe, contract.NextDir+"/"); i > 0 {
						exe = exe[i:]
					}
					if err != nil || contract.NextOf(exe) != try.want {
						t.Errorf("from %q with %q: %s runs, %v; want one of %q", try.from, try.extra, exe, err, try.want)
					}
				}
				return q.status()
			})
			if status != "running" {
				t.Errorf("query-status says %q", status)
			}
			if !strings.Contains(output, "no-such-option") {
				t.Errorf("the refusal was not told: %s", output)
			}
		})
	}
}

// exchangeQEMU has QEMU exec the launcher and connects to what it becomes.
func exchangeQEMU(t *testing.T, q *qmpConn, commands contract.Renewal) {
	t.Helper()
	launcher := contract.NextDir + "/launcher/skerry-launcher"
	q.ask("migrate-set-parameters", map[string]any{"mode": "cpr-exec", "cpr-exec-command": append([]string{launcher}, commands.Args()...)})
	q.ask("migrate", map[string]any{"uri": "file:" + contract.RunDir + "/" + contract.RenewState})
	if _, err := io.Copy(io.Discard, q.r); err != nil && os.IsTimeout(err) {
		t.Fatalf("QEMU did not execute the launcher: %v", q.ask("query-migrate", nil))
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		q.connect()
		if s := q.status(); s == "running" {
			return
		} else if time.Now().After(end) {
			t.Fatalf("it stays %q", s)
		}
	}
}

// tooOld tells whether a QEMU is from before the mode cpr-exec.
func tooOld(v version) bool { return v.less(version{11, 1}) }
