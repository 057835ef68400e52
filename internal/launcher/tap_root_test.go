// SPDX-License-Identifier: Apache-2.0

//go:build root

package launcher

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

const qemuUser = 107

// inNamespace gives the test's thread, and what it starts, a network namespace of
// their own. It is gone when the thread ends, which it does with the goroutine.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

// makeTap makes a persistent tap of the given user, as the agent does.
func makeTap(t *testing.T, name string, uid int) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, uid); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		t.Fatal(err)
	}
}

// forQEMUUser makes a world in which the launcher runs as in the pod: as QEMU's
// user, with a device node that this user can open.
func forQEMUUser(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	dir := filepath.Dir(w.QEMU)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"qemu", "launcher"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		copyFile(t, self, filepath.Join(dir, name))
	}
	w.TunDevice = filepath.Join(dir, "tun")
	if err := unix.Mknod(w.TunDevice, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{w.TunDevice: 0o666, w.TerminationLog: 0o666, dir: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{w.RunDir, w.DiskDir, dir} {
		if err := os.Chown(d, qemuUser, qemuUser); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// runAsQEMUUser runs the launcher without any capability.
func (w *world) runAsQEMUUser() *exec.Cmd {
	w.t.Helper()
	config, err := json.Marshal(w.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(w.QEMU), "launcher"))
	cmd.Dir = "/"
	cmd.Env = []string{"LAUNCHER_CONFIG=" + string(config)}
	cmd.Stderr = &strings.Builder{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: qemuUser, Gid: qemuUser}}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

func TestTapsAreInherited(t *testing.T) {
	inNamespace(t)
	makeTap(t, "tap0", qemuUser)
	makeTap(t, "tap1", qemuUser)
	w := forQEMUUser(t)
	// In an order in which a careless launcher would close one with the other.
	w.machine(contract.Machine{Taps: []contract.Tap{{Name: "tap0", FD: 31, VnetHdr: true}, {Name: "tap1", FD: 30, VnetHdr: true}}})
	cmd := w.runAsQEMUUser()
	if code := exitCode(t, cmd); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr(cmd))
	}
	rep := w.readReport()
	if len(rep.FDs) != 2 || !strings.HasSuffix(rep.FDs[30], "/tun") || !strings.HasSuffix(rep.FDs[31], "/tun") {
		t.Errorf("QEMU inherited %v, want taps at 30 and 31", rep.FDs)
	}
}

func TestTapOfAnotherUser(t *testing.T) {
	inNamespace(t)
	makeTap(t, "tap0", 1234)
	for _, name := range []string{"tap0", "tap9"} {
		w := forQEMUUser(t)
		w.machine(contract.Machine{Taps: []contract.Tap{{Name: name, FD: 30}}})
		cmd := w.runAsQEMUUser()
		if code := exitCode(t, cmd); code != contract.ExitRefused {
			t.Errorf("%s: exit code %d", name, code)
		}
		if log, _ := os.ReadFile(w.TerminationLog); !strings.Contains(string(log), "open tap "+name+": ") || !strings.Contains(string(log), "belongs to another user") {
			t.Errorf("%s: termination log %q", name, log)
		}
	}
}
