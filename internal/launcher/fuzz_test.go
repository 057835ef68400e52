// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// Whatever machine.json holds, the launcher refuses it or would start QEMU alone,
// with disks in their one directory.
func FuzzMachineFile(f *testing.F) {
	whole, err := json.Marshal(contract.Machine{
		Version: contract.Version, Argv: []string{contract.QEMU, "-nodefaults"},
		Taps:   []contract.Tap{{Name: "tap0", FD: contract.FirstTapFD, VnetHdr: true}},
		Disks:  []contract.Disk{{Path: contract.DiskDir + "/root.qcow2", Backing: &contract.Backing{Dir: contract.ImageDir + "/disk_0"}}, {Path: contract.DiskDir + "/a.qcow2", Size: 1 << 30}},
		Copies: []contract.Copy{{From: contract.OVMFVars, To: contract.DiskDir + "/vars.fd"}},
		Files:  []contract.Backing{{Dir: contract.KernelBootDir, Path: "boot/vmlinuz"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{
		``, `{}`, `null`, `{"version": 1}`, `{"version": 99, "argv": ["/bin/sh"]}`, `{"version": 1, "argv": ["/bin/sh", "-c", "id"]}`,
		`{"version": 1, "argv": ["` + contract.QEMU + `"], "unknown": 1}`,
		`{"version": 2, "argv": ["` + contract.QEMU + `"], "next": "../../etc"}`,
		`{"version": 1, "argv": ["` + contract.QEMU + `"], "disks": [{"path": "` + contract.DiskDir + `/../../etc/passwd", "size": -1}]}`,
		`{"version": 1, "argv": ["` + contract.QEMU + `"], "disks": [{"path": "/etc/shadow", "size": 9223372036854775807}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, contract.MachineFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := Config{MachineDir: dir, DiskDir: contract.DiskDir, QEMU: contract.QEMU}
		m, err := readMachine(c)
		if err != nil {
			return
		}
		if m.Version < 1 || m.Version > contract.Version || m.Argv[0] != contract.QEMU {
			t.Errorf("accepted %+v", m)
		}
		if m.Next != "" && (strings.ContainsAny(m.Next, "/.") || len(m.Next) != contract.NextDigits) {
			t.Errorf("accepted next %q", m.Next)
		}
		for _, d := range m.Disks {
			if inDisks(c, d.Path) == nil && (filepath.Dir(d.Path) != c.DiskDir || strings.Contains(d.Path, "..") && filepath.Clean(d.Path) != d.Path) {
				t.Errorf("disk %q counts as in %s", d.Path, c.DiskDir)
			}
		}
	})
}

// Whatever the agent (or whoever has its place) says, in whatever pieces, the
// launcher starts at the one word alone.
func FuzzStart(f *testing.F) {
	for _, s := range []string{`{"start":true}` + "\n", `{"start":false}` + "\n", `{"start":1}` + "\n", "\n", "start\n", "{\"start\":true}", strings.Repeat("x", 5000) + "\n", `{"start":true,"x":[[[[` + "\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		if len(b) > 16<<10 {
			return
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		piece = max(piece, 1)
		var line []byte
		start, done := false, false
		for rest := b; len(rest) > 0 && !done; {
			n := min(piece, len(rest))
			if _, err := unix.Write(fds[1], rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			start, done = readStart(fds[0], &line)
			if len(line) > 2*maxStart {
				t.Fatalf("%d bytes are kept", len(line))
			}
		}
		unix.Close(fds[1])
		if start {
			first, _, _ := strings.Cut(string(b), "\n")
			var s contract.Start
			if json.Unmarshal([]byte(first), &s) != nil || !s.Start {
				t.Errorf("started by %.80q", first)
			}
		}
	})
}
