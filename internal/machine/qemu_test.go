// SPDX-License-Identifier: Apache-2.0

//go:build qemu

package machine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/launcher"
)

// These tests start every golden machine with a real launcher and a real QEMU, as
// the pod would: in namespaces of its own, chrooted into the launcher image's root
// file system, as uid 107 without capabilities. They need root and one of
//
//	SKERRY_LAUNCHER_IMAGE  the launcher image as an OCI archive (build/images/launcher.tar)
//	SKERRY_QEMU_ROOT       a directory with any root file system that has QEMU in it
//
// and leave nothing behind: every mount and link is in the namespaces.

// patience only bounds a hang.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if setup := os.Getenv("SKERRY_QEMU_INSIDE"); setup != "" {
		fmt.Fprintln(os.Stderr, inside(setup))
		os.Exit(99)
	}
	os.Exit(m.Run())
}

func TestQEMUStartsEveryMachine(t *testing.T) {
	root, version := qemuRoot(t)
	bin := buildLauncher(t)
	_, noEFI := os.Stat(root + contract.OVMFCode)
	for _, file := range vmiFiles(t) {
		for _, accel := range []Accel{TCG, KVM} {
			name := strings.TrimSuffix(filepath.Base(file), ".yaml")
			t.Run(name+"."+string(accel), func(t *testing.T) {
				vmi := readVMI(t, file)
				att := attachmentsFor(vmi)
				m, err := New(vmi, Host{QEMUVersion: version, Accel: accel, Arch: "amd64"}, att)
				if err != nil {
					t.Fatal(err)
				}
				want := "prelaunch"
				c := m.Contract()
				if m.Firmware.EFI && noEFI != nil {
					t.Fatalf("%s has no UEFI layer", root)
				}
				if accel == KVM {
					withoutKVM(c.Argv)
				}
				if !m.Paused {
					c.Argv = append(c.Argv, "-S")
				}
				status, output := startMachine(t, podSetup{QEMURoot: root, Launcher: bin, QEMUVersion: version}, c, att)
				if status != want {
					t.Errorf("query-status says %q, want %q", status, want)
				}
				if s := unexpected(output); s != "" {
					t.Errorf("QEMU said: %s", s)
				}
			})
		}
	}
}

// withoutKVM makes a command line for KVM one that can be tried without it: the
// options stay, only the accelerator and the model that needs it are replaced.
func withoutKVM(argv []string) {
	for i := range argv {
		switch {
		case argv[i] == "-accel":
			argv[i+1] = "tcg"
		case argv[i] == "-cpu":
			flags := strings.Split(argv[i+1], ",")
			if flags[0] == "host" {
				flags[0] = "max"
			}
			kept := flags[:0]
			for _, f := range flags {
				if f != "enforce=on" { // emulation lacks something of most models
					kept = append(kept, f)
				}
			}
			argv[i+1] = strings.Join(kept, ",")
		}
	}
}

// unexpected gives what QEMU printed beyond what emulation is known to say.
func unexpected(output string) string {
	var rest []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.Contains(line, "TCG doesn't support requested feature") || strings.Contains(line, "doesn't support hyperthreading") {
			continue
		}
		rest = append(rest, line)
	}
	return strings.Join(rest, "\n")
}

// startMachine runs a machine up to QMP's query-status and ends it by quit.
func startMachine(t *testing.T, s podSetup, c contract.Machine, att Attachments) (status, output string) {
	t.Helper()
	return runMachine(t, s, c, att, nil)
}

// runMachine is startMachine with something to do before the end: during gets
// QEMU's process and returns the state that counts.
func runMachine(t *testing.T, s podSetup, c contract.Machine, att Attachments, during func(*qmpConn, int) string) (status, output string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.Dir, s.Taps = dir, c.Taps
	next := s.Mounts
	s.Mounts = map[string]string{
		contract.RunDir: dir + "/run", contract.MachineDir: dir + "/machine", contract.LogDir: dir + "/log",
		contract.DiskDir: dir + "/disks", contract.ImageDir: dir + "/images", contract.KernelBootDir: dir + "/kernel",
		contract.ClaimDir: dir + "/claims",
	}
	for _, d := range []string{"root", "scratch", "run", "machine", "log", "disks", "images", "kernel", "claims"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, d), 107, 107); err != nil {
			t.Fatal(err)
		}
	}
	maps.Copy(s.Mounts, next)
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	host := func(path string) string {
		for in, out := range s.Mounts {
			if rest, ok := strings.CutPrefix(path, in+"/"); ok {
				return filepath.Join(out, rest)
			}
		}
		t.Fatalf("%s is in no volume", path)
		return ""
	}
	for _, d := range c.Disks {
		if b := d.Backing; b != nil && b.Dir != contract.MachineDir {
			path := b.Path
			if path == "" {
				path = "disk/disk.img"
			}
			write(host(b.Dir+"/"+path), make([]byte, 1<<20))
		}
	}
	for _, f := range c.Files {
		write(host(f.Dir+"/"+f.Path), fakeKernel())
	}
	for _, iso := range att.CloudInit {
		write(host(iso), make([]byte, 64<<10))
	}

	s.Devices = map[string]uint64{}
	for _, k := range c.Claims {
		if k.Block {
			s.Devices[k.Volume] = loopDevice(t, filepath.Join(dir, k.Volume+".device"))
			continue
		}
		claim := filepath.Join(dir, "claims", k.Volume)
		if err := os.Mkdir(claim, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(claim, 107, 107); err != nil {
			t.Fatal(err)
		}
		if k.Size == 0 {
			write(filepath.Join(claim, contract.ClaimImage), make([]byte, 1<<20))
		}
	}
	setup, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SKERRY_QEMU_INSIDE="+string(setup))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("output: %s\nargv: %q", out.String(), c.Argv)
		}
	}()

	conn := dialWhen(t, filepath.Join(dir, "run", contract.LauncherSocket), ended)
	r := bufio.NewReader(conn)
	var hello contract.Hello
	readJSON(t, r, &hello)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "machine", contract.MachineFile), b)
	if _, err := conn.Write([]byte("{\"start\":true}\n")); err != nil {
		t.Fatal(err)
	}
	var res contract.Result
	readJSON(t, r, &res)
	if res.Error != "" {
		t.Fatal(res.Error)
	}
	conn.Close()

	mon := &qmpConn{t: t, path: filepath.Join(dir, "run", contract.QMPSocket), ended: ended}
	mon.connect()
	status = mon.status()
	if during != nil {
		status = during(mon, cmd.Process.Pid)
	}
	// The end comes over the second monitor, as the pod's preStop hook does it.
	hook := launcher.Config{RunDir: filepath.Join(dir, "run"), PID: cmd.Process.Pid, Patience: patience}
	if err := launcher.Shutdown(hook, 0); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("QEMU ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("QEMU did not end")
	}
	return status, out.String()
}

// qmpConn is a monitor for one client.
type qmpConn struct {
	t     *testing.T
	path  string
	ended chan error
	conn  net.Conn
	r     *bufio.Reader
}

func (q *qmpConn) connect() {
	q.t.Helper()
	if q.conn != nil {
		q.conn.Close()
	}
	// One that connects to a QEMU that is about to go is hung up on.
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		q.conn = dialWhen(q.t, q.path, q.ended)
		q.r = bufio.NewReader(q.conn)
		if _, err := q.r.Peek(1); err == nil {
			break
		} else if time.Now().After(end) {
			q.t.Fatalf("QMP: %v", err)
		}
		q.conn.Close()
	}
	var greeting map[string]any
	readJSON(q.t, q.r, &greeting)
	q.ask("qmp_capabilities", nil)
}

// ask sends a command and returns its answer.
func (q *qmpConn) ask(command string, args any) any {
	q.t.Helper()
	b, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if args == nil {
		b, err = json.Marshal(map[string]any{"execute": command})
	}
	if err == nil {
		_, err = q.conn.Write(append(b, '\n'))
	}
	if err != nil {
		q.t.Fatalf("%s: %v", command, err)
	}
	for {
		var msg map[string]any
		readJSON(q.t, q.r, &msg)
		if msg["error"] != nil {
			q.t.Fatalf("%s: %v", command, msg["error"])
		}
		if msg["event"] == nil {
			return msg["return"]
		}
	}
}

func (q *qmpConn) status() string {
	q.t.Helper()
	info, _ := q.ask("query-status", nil).(map[string]any)
	s, _ := info["status"].(string)
	return s
}

func dialWhen(t *testing.T, path string, ended chan error) net.Conn {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		select {
		case end := <-ended:
			t.Fatalf("the container ended: %v", end)
		default:
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func readJSON(t *testing.T, r *bufio.Reader, v any) {
	t.Helper()
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no answer: %w", err)
		}
		t.Fatalf("read %T: %v", v, err)
	}
}

// loopDevice makes a device of 8 MiB and gives its number.
func loopDevice(t *testing.T, file string) uint64 {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	var st syscall.Stat_t
	if err := syscall.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	return st.Rdev
}
