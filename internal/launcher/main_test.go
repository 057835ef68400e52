// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// The test binary plays three parts, told apart by the name that it is started by.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "launcher":
		var c Config
		if err := json.Unmarshal([]byte(os.Getenv("LAUNCHER_CONFIG")), &c); err != nil {
			panic(err)
		}
		if args := os.Getenv("RENEWAL"); args != "" {
			os.Unsetenv("RENEWAL")
			var list []string
			if err := json.Unmarshal([]byte(args), &list); err != nil {
				panic(err)
			}
			fmt.Fprintln(os.Stderr, Renew(c, list))
			os.Exit(1)
		}
		fmt.Fprintln(os.Stderr, Run(c))
		os.Exit(contract.ExitRefused)
	case "qemu":
		fakeQEMU(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
}

// report is what the fake QEMU found around it.
type report struct {
	PID        int
	Args       []string
	Env        []string
	NoNewPrivs int
	// FDs are the open descriptors from 3 on that were inherited.
	FDs map[int]string
}

// fakeQEMU writes a report, or serves a monitor that behaves as it is told.
func fakeQEMU(args []string) {
	if len(args) < 2 {
		os.Exit(1)
	}
	switch args[0] {
	case "report":
		r := report{PID: os.Getpid(), Args: args, Env: os.Environ(), FDs: map[int]string{}}
		r.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		for fd := 3; fd < contract.FirstClaimFD+64; fd++ {
			if fd == 64 { // what is in between may be of whoever runs the tests
				fd = contract.FirstClaimFD
			}
			// The Go runtime's own descriptors are close-on-exec, inherited ones are not.
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
				r.FDs[fd], _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			}
		}
		b, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(args[1], b, 0o600)
		}
		if err != nil {
			panic(err)
		}
		os.Exit(0)
	case "monitor":
		serveMonitor(args[1], args[2])
	case "rehearsed":
		rehearsed(args[1], args[2])
	}
	os.Exit(1)
}

// serveMonitor is a QMP server that ends the process when the guest powers off.
func serveMonitor(path, behaviour string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	fmt.Println("listening")
	status, presses := "running", 0
	switch behaviour {
	case "paused", "prelaunch":
		status = behaviour
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		say := func(s string) { fmt.Fprint(conn, s+"\r\n") }
		if behaviour == "mute" {
			continue
		}
		say(`{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}}, "capabilities": ["oob"]}}`)
		dec := json.NewDecoder(conn)
		for {
			var cmd struct{ Execute string }
			if dec.Decode(&cmd) != nil {
				break
			}
			fmt.Println(cmd.Execute)
			switch cmd.Execute {
			case "query-status":
				say(fmt.Sprintf(`{"return": {"status": %q, "running": %t}}`, status, status == "running"))
			case "cont":
				status = "running"
				say(`{"return": {}}`)
				say(`{"timestamp": {}, "event": "RESUME"}`)
			case "system_powerdown":
				if status == "running" {
					presses++
				}
				// The event comes in two parts, and before the answer.
				fmt.Fprint(conn, `{"timestamp": {"seconds": 1}, "ev`)
				say(`ent": "POWERDOWN"}`)
				say(`{"return": {}}`)
				if behaviour == "obedient" || behaviour == "paused" || behaviour == "deaf-at-first" && presses == 2 {
					say(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}`)
					os.Exit(0)
				}
			case "quit":
				say(`{"return": {}}`)
				if behaviour != "undead" {
					os.Exit(0)
				}
			default:
				say(`{"return": {}}`)
			}
		}
		conn.Close()
	}
}

// world is a pod's directories.
type world struct {
	Config
	t      *testing.T
	image  string // an image volume
	report string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Not t.TempDir: its paths are too long for sockets.
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, image: dir + "/image", report: dir + "/report", Config: Config{
		RunDir: dir + "/run", MachineDir: dir + "/machine", DiskDir: dir + "/disks",
		ClaimDir: dir + "/claims", ClaimDeviceDir: dir + "/devices",
		ImageInfoFile: dir + "/image.json", TerminationLog: dir + "/termination-log",
		TunDevice: "/dev/net/tun", QEMU: dir + "/qemu", Patience: patience,
	}}
	for _, d := range []string{w.RunDir, w.MachineDir, w.DiskDir, w.ClaimDir, w.ClaimDeviceDir, w.image, w.image + "/disk"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write(w.ImageInfoFile, `{"qemuVersion":"11.1.3","packages":{"qemu-system-x86":"1"}}`)
	w.write(w.TerminationLog, "old text")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"qemu", "launcher"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// machine writes machine.json for a fake QEMU that reports.
func (w *world) machine(m contract.Machine) {
	w.t.Helper()
	if m.Version == 0 {
		m.Version = contract.Version
	}
	if m.Argv == nil {
		m.Argv = []string{w.QEMU, "report", w.report}
	}
	b, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join(w.MachineDir, contract.MachineFile), string(b))
}

// launcher starts the launcher as a process of its own.
func (w *world) launcher() *exec.Cmd {
	w.t.Helper()
	config, err := json.Marshal(w.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(w.QEMU), "launcher"))
	cmd.Env = append(os.Environ(), "LAUNCHER_CONFIG="+string(config))
	cmd.Stderr = &strings.Builder{}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// renewal is the launcher as a QEMU execs it that is replaced, not started yet.
func (w *world) renewal(r contract.Renewal) *exec.Cmd {
	w.t.Helper()
	config, err := json.Marshal(w.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	args, err := json.Marshal(r.Args())
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(w.QEMU), "launcher"))
	cmd.Env = append(os.Environ(), "LAUNCHER_CONFIG="+string(config), "RENEWAL="+string(args))
	cmd.Stderr = &strings.Builder{}
	return cmd
}

func (w *world) readReport() report {
	w.t.Helper()
	var r report
	b, err := os.ReadFile(w.report)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		w.t.Fatalf("QEMU's report: %v", err)
	}
	return r
}
