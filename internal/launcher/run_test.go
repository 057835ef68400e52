// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/qcow2"
)

// patience is how long a test waits for what must happen; it only bounds a hang.
const patience = 30 * time.Second

// dial connects to the launcher as soon as it listens and reads its greeting.
func (w *world) dial() (net.Conn, *bufio.Reader, contract.Hello) {
	w.t.Helper()
	var conn net.Conn
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		conn, err = net.Dial("unix", filepath.Join(w.RunDir, contract.LauncherSocket))
		if err == nil {
			break
		}
		if time.Now().After(end) {
			w.t.Fatal(err)
		}
	}
	w.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	var h contract.Hello
	w.readLine(r, &h)
	return conn, r, h
}

func (w *world) readLine(r *bufio.Reader, v any) {
	w.t.Helper()
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		w.t.Fatalf("read %T: %v", v, err)
	}
}

func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func stderr(cmd *exec.Cmd) string { return cmd.Stderr.(*strings.Builder).String() }

func TestRunBecomesQEMU(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(w.image+"/disk/disk.img", strings.Repeat("\x00", 1<<20))
	cmd := w.launcher()
	conn, r, h := w.dial()
	if h.Contract != contract.Version || h.Image.QEMUVersion != "11.1.3" {
		t.Errorf("greeting: %+v", h)
	}
	w.machine(contract.Machine{Disks: []contract.Disk{
		{Path: w.DiskDir + "/root.qcow2", Backing: &contract.Backing{Dir: w.image}},
		{Path: w.DiskDir + "/empty.qcow2", Size: 1 << 30},
	}})
	if _, err := conn.Write([]byte("{\"start\":true}\n")); err != nil {
		t.Fatal(err)
	}
	var res contract.Result
	w.readLine(r, &res)
	if res.Error != "" {
		t.Fatal(res.Error)
	}
	if code := exitCode(t, cmd); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr(cmd))
	}
	rep := w.readReport()
	if rep.PID != cmd.Process.Pid {
		t.Errorf("QEMU is process %d, not the launcher's %d", rep.PID, cmd.Process.Pid)
	}
	if rep.NoNewPrivs != 1 {
		t.Error("no_new_privs is not set")
	}
	if len(rep.FDs) > 0 {
		t.Errorf("QEMU inherited %v", rep.FDs)
	}
	for _, e := range rep.Env {
		if strings.HasPrefix(e, "LAUNCHER_CONFIG=") {
			t.Error("QEMU inherited the launcher's environment")
		}
	}
	for file, want := range map[string]qcow2.Info{"empty.qcow2": {Format: "qcow2", Size: 1 << 30}} {
		if got := vetFile(t, w.DiskDir+"/"+file); got != want {
			t.Errorf("%s: got %v, want %v", file, got, want)
		}
	}
	head, err := os.ReadFile(w.DiskDir + "/root.qcow2")
	if err != nil || !strings.Contains(string(head[:4096]), w.image+"/disk/disk.img") {
		t.Errorf("overlay does not name its backing file: %v", err)
	}
	if left, _ := filepath.Glob(w.RunDir + "/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if st, err := os.Stat(w.DiskDir + "/empty.qcow2"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("empty.qcow2: %v, %v; want mode 0600", st.Mode(), err)
	}
}

func vetFile(t *testing.T, path string) qcow2.Info {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	info, err := qcow2.Vet(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// A container that is started again must not touch the guest's data, and has
// nobody to wait for.
func TestRestartedContainerKeepsDisks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(w.DiskDir+"/data.qcow2", "the guest's data")
	w.write(w.DiskDir+"/.half.qcow2.new", "left by a launcher that was killed")
	w.machine(contract.Machine{Disks: []contract.Disk{
		{Path: w.DiskDir + "/data.qcow2", Size: 1 << 20},
		{Path: w.DiskDir + "/half.qcow2", Size: 1 << 20},
	}})
	cmd := w.launcher()
	if code := exitCode(t, cmd); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr(cmd))
	}
	if b, _ := os.ReadFile(w.DiskDir + "/data.qcow2"); string(b) != "the guest's data" {
		t.Error("the disk was made anew")
	}
	if got := vetFile(t, w.DiskDir+"/half.qcow2"); got.Size != 1<<20 {
		t.Errorf("half.qcow2: %v", got)
	}
	names, _ := filepath.Glob(w.DiskDir + "/.*")
	if len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestNewConnectionReplacesOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := w.launcher()
	old, _, _ := w.dial()
	if _, err := old.Write([]byte(`{"start":`)); err != nil { // and the agent dies
		t.Fatal(err)
	}
	bad, r, _ := w.dial()
	if n, err := old.Read(make([]byte, 1)); err == nil {
		t.Errorf("the old connection is still open: read %d bytes", n)
	}
	if _, err := bad.Write([]byte("nonsense\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("a connection that talks nonsense is still open")
	}
	long, r, _ := w.dial()
	if _, err := long.Write([]byte(strings.Repeat(" ", maxStart+1))); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("a connection without an end of line is still open")
	}
	conn, r, _ := w.dial()
	w.machine(contract.Machine{})
	if _, err := conn.Write([]byte("{\"start\":true}\n")); err != nil {
		t.Fatal(err)
	}
	var res contract.Result
	w.readLine(r, &res)
	if code := exitCode(t, cmd); code != 0 || res.Error != "" {
		t.Errorf("exit code %d, %q", code, res.Error)
	}
}

func TestSignalWhileWaitingIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGWINCH} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cmd := w.launcher()
			w.dial()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if code := exitCode(t, cmd); code != contract.ExitPowerOff {
				t.Errorf("exit code %d: %s", code, stderr(cmd))
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	raw := func(text string) func(*world) {
		return func(w *world) { w.write(filepath.Join(w.MachineDir, contract.MachineFile), text) }
	}
	disk := func(d contract.Disk) func(*world) {
		return func(w *world) {
			if d.Backing != nil {
				d.Backing.Dir = w.image
			}
			if !strings.HasPrefix(d.Path, "/") {
				d.Path = w.DiskDir + "/" + d.Path
			}
			w.machine(contract.Machine{Disks: []contract.Disk{d}})
		}
	}
	overlay := func(path string) func(*world) {
		return disk(contract.Disk{Path: "root.qcow2", Backing: &contract.Backing{Path: path}})
	}
	both := func(fs ...func(*world)) func(*world) {
		return func(w *world) {
			for _, f := range fs {
				f(w)
			}
		}
	}
	inImage := func(name, text string) func(*world) {
		return func(w *world) { w.write(filepath.Join(w.image, name), text) }
	}
	link := func(name, target string) func(*world) {
		return func(w *world) {
			if err := os.Symlink(target, filepath.Join(w.image, name)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	head, _, err := qcow2.Image{Size: 1 << 20, Backing: "/etc/shadow", BackingFormat: "raw"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prepare func(*world)
		want    string
	}{
		"not JSON":        {raw("{"), "unexpected end of JSON"},
		"newer version":   {raw(`{"version":99,"argv":["x"],"new":1}`), fmt.Sprintf("version 99: this launcher knows 1 to %d", contract.Version)},
		"unknown word":    {raw(`{"version":1,"argv":["x"],"surprise":1}`), `unknown field "surprise"`},
		"too large":       {raw(strings.Repeat(" ", maxMachineFile+1)), "larger than"},
		"another program": {func(w *world) { w.machine(contract.Machine{Argv: []string{"/bin/sh"}}) }, "argv must begin with"},
		"FIFO": {func(w *world) {
			if err := syscall.Mkfifo(filepath.Join(w.MachineDir, contract.MachineFile), 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, "not a regular file"},
		"disk elsewhere":    {disk(contract.Disk{Path: "/etc/passwd", Size: 512}), "is not a file in"},
		"disk without size": {disk(contract.Disk{Path: "a.qcow2"}), "virtual size 0"},
		"no image volume": {func(w *world) {
			w.machine(contract.Machine{Disks: []contract.Disk{{Path: w.DiskDir + "/a.qcow2", Backing: &contract.Backing{Dir: w.image + "-gone"}}}})
		}, "image volume image-gone is not mounted"},
		"empty image":     {overlay(""), "/disk of the image is empty"},
		"several files":   {both(inImage("disk/a", "x"), inImage("disk/b", "y"), overlay("")), "holds several files"},
		"no such path":    {overlay("/disk/other.qcow2"), "/disk/other.qcow2 is not in the image"},
		"link to outside": {both(link("disk/evil", "/etc/passwd"), overlay("")), "leads out of the image"},
		"link upwards":    {both(link("disk/evil", "../../report"), overlay("")), "leads out of the image"},
		"directory":       {overlay("/disk"), "not a regular file"},
		"backing file":    {both(inImage("disk/evil.qcow2", string(head)), overlay("")), "has a backing file"},
		"vmdk":            {both(inImage("disk/a.vmdk", "KDMV"+strings.Repeat("x", 1000)), overlay("")), "a VMDK image"},
		"shrunk": {both(inImage("disk/a.img", strings.Repeat("\x00", 4096)),
			disk(contract.Disk{Path: "root.qcow2", Size: 512, Backing: &contract.Backing{}})), "smaller than the image"},
		"missing kernel": {func(w *world) {
			w.machine(contract.Machine{Files: []contract.Backing{{Dir: w.image, Path: "boot/vmlinuz"}}})
		}, "image: /boot/vmlinuz is not in the image"},
		"missing firmware": {func(w *world) {
			w.machine(contract.Machine{Copies: []contract.Copy{{From: w.image + "/OVMF_VARS_4M.fd", To: w.DiskDir + "/efi-vars.fd"}}})
		}, "UEFI layer"},
		"missing tap": {func(w *world) {
			w.TunDevice = w.image + "/tun"
			w.machine(contract.Machine{Taps: []contract.Tap{{Name: "tap0", FD: 30}}})
		}, "open tap tap0"},
		"tap number": {func(w *world) {
			w.machine(contract.Machine{Taps: []contract.Tap{{Name: "tap0", FD: 2}}})
		}, "descriptor 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.prepare(w)
			cmd := w.launcher()
			if code := exitCode(t, cmd); code != contract.ExitRefused {
				t.Errorf("exit code %d, want %d", code, contract.ExitRefused)
			}
			log, err := os.ReadFile(w.TerminationLog)
			if err != nil || !strings.Contains(string(log), c.want) {
				t.Errorf("termination log: %q, %v; want %q", log, err, c.want)
			}
			if !strings.Contains(stderr(cmd), c.want) {
				t.Errorf("standard error: %q", stderr(cmd))
			}
			if made, _ := filepath.Glob(w.DiskDir + "/*"); len(made) > 0 {
				t.Errorf("made %v", made)
			}
		})
	}
}

// The agent hears of an error too.
func TestRefusalIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd := w.launcher()
	conn, r, _ := w.dial()
	w.machine(contract.Machine{Disks: []contract.Disk{{Path: w.DiskDir + "/a.qcow2", Backing: &contract.Backing{Dir: w.image}}}})
	if _, err := conn.Write([]byte("{\"start\":true}\n")); err != nil {
		t.Fatal(err)
	}
	var res contract.Result
	w.readLine(r, &res)
	if code := exitCode(t, cmd); code != contract.ExitRefused {
		t.Errorf("exit code %d", code)
	}
	log, _ := os.ReadFile(w.TerminationLog)
	if d := cmp.Diff(string(log), res.Error); d != "" || !strings.HasPrefix(res.Error, "disk a.qcow2: ") {
		t.Errorf("termination log and result differ, or name no disk: %s\n%s", d, res.Error)
	}
}

// Links inside an image may be used: images of distributions have them.
func TestLinkInsideImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(w.image+"/vmlinuz-6.1", "kernel")
	if err := os.Symlink("vmlinuz-6.1", w.image+"/vmlinuz"); err != nil {
		t.Fatal(err)
	}
	w.machine(contract.Machine{Files: []contract.Backing{{Dir: w.image, Path: "vmlinuz"}}})
	cmd := w.launcher()
	if code := exitCode(t, cmd); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr(cmd))
	}
}

// What an agent of an earlier contract writes must be understood for ever: a
// fixture is never changed, each contract adds one.
func TestEveryContractSoFar(t *testing.T) {
	t.Parallel()
	for version := 1; version <= contract.Version; version++ {
		b, err := os.ReadFile(fmt.Sprintf("testdata/machine.v%d.json", version))
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		w.write(filepath.Join(w.MachineDir, contract.MachineFile),
			strings.NewReplacer("DISKS", w.DiskDir, "QEMU", w.QEMU).Replace(string(b)))
		got, err := readMachine(w.Config)
		if err != nil {
			t.Fatal(err)
		}
		want := contract.Machine{
			Version: version,
			Taps:    []contract.Tap{{Name: "tap0", FD: 30, VnetHdr: true}},
			Disks: []contract.Disk{
				{Path: w.DiskDir + "/root.qcow2", Backing: &contract.Backing{Dir: "/var/run/kubevirt-image-volume/disk_0", Path: "disk/a.img"}},
				{Path: w.DiskDir + "/data.qcow2", Size: 1 << 30},
			},
			Copies: []contract.Copy{{From: "/usr/share/OVMF/OVMF_VARS_4M.fd", To: w.DiskDir + "/efi-vars.fd"}},
			Files:  []contract.Backing{{Dir: "/var/run/kubevirt-kernel-boot", Path: "boot/vmlinuz"}},
			Argv:   []string{w.QEMU, "-S"},
		}
		if version >= contract.NextSince {
			want.Next = "0123456789ab"
		}
		if version >= contract.ClaimsSince {
			want.Claims = []contract.Claim{{Volume: "data", FD: 320, Size: 1 << 30}, {Volume: "raw", FD: 321, Block: true, ReadOnly: true}}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("version %d (-want +got):\n%s", version, d)
		}
	}
}
