// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCgroupsNamePod(t *testing.T) {
	t.Parallel()
	const under = "0d2c5a54_1c0e_4b7e_9d0e_3a9a3c1f5e11"
	const other = "ffffffff-1c0e-4b7e-9d0e-3a9a3c1f5e11"
	for name, tc := range map[string]struct {
		file string
		want bool
	}{
		"v1 cgroupfs burstable":  {"9:name=systemd:/\n4:memory:/kubepods/burstable/pod" + testUID + "/abc\n0::/\n", true},
		"v1 cgroupfs guaranteed": {"4:memory:/kubepods/pod" + testUID + "/abc\n", true},
		"v1 nested":              {"4:memory:/process_api/x/kubepods/besteffort/pod" + testUID + "/abc\n", true},
		"v2 cgroupfs":            {"0::/kubepods/burstable/pod" + testUID + "/abc\n", true},
		"v2 systemd":             {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-abc.scope\n", true},
		"v2 systemd guaranteed":  {"0::/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-abc.scope\n", true},
		"v2 from a namespace":    {"0::/../../kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/x\n", true},
		"another pod":            {"0::/kubepods/burstable/pod" + other + "/abc\n", false},
		"named like it below":    {"0::/kubepods/burstable/pod" + other + "/pod" + testUID + "\n", false},
		"named like it, systemd": {"0::/kubepods.slice/kubepods-pod" + "ffffffff_1c0e" + ".slice/kubepods-pod" + under + ".slice\n", false},
		"not under kubepods":     {"0::/user.slice/pod" + testUID + "\n", false},
		"host":                   {"0::/init.scope\n", false},
		"longer name":            {"0::/kubepods/pod" + testUID + "x/abc\n", false},
		"empty":                  {"", false},
		"garbage":                {"::::\n\n/kubepods/pod" + testUID, false},
	} {
		if got := cgroupsNamePod(tc.file, testUID); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if cgroupsNamePod("0::/kubepods/pod/x\n", "") {
		t.Error("an empty UID matches")
	}
}

func FuzzCgroupsNamePod(f *testing.F) {
	f.Add("0::/kubepods.slice/kubepods-pod0.slice/x\n")
	f.Fuzz(func(t *testing.T, file string) { cgroupsNamePod(file, testUID) })
}

// helper starts this test binary as a process that waits for its standard input
// to end, with what is given as its standard output.
func helper(t *testing.T, stdout *os.File) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), "PODFS_HELPER=1")
	in, err := cmd.StdinPipe()
	must(t, err)
	cmd.Stdout = stdout
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return cmd, in
}

func TestHelperProcess(t *testing.T) {
	if os.Getenv("PODFS_HELPER") == "" {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func TestProcess(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd, in := helper(t, w)
	w.Close()
	p, err := OpenProcess(cmd.Process.Pid)
	must(t, err)
	defer p.Close()
	if p.Exited() {
		t.Error("ended already")
	}
	if ok, err := p.InPod(testUID); ok || err != nil {
		t.Errorf("in pod: %v, %v", ok, err)
	}
	ns, err := p.NetNS()
	must(t, err)
	defer ns.Close()
	var a, b unix.Stat_t
	must(t, unix.Fstat(fdOf(ns), &a))
	must(t, unix.Stat("/proc/self/ns/net", &b))
	if a.Ino != b.Ino {
		t.Error("another network namespace")
	}

	out, err := p.OpenStdout()
	must(t, err)
	_, err = out.Write([]byte("line\n"))
	must(t, err)
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "line\n" {
		t.Errorf("read %q, %v", line, err)
	}
	// A full pipe gives up at a deadline instead of waiting.
	must(t, out.SetWriteDeadline(time.Now().Add(time.Millisecond)))
	if _, err := out.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing to a full pipe: %v", err)
	}
	out.Close()

	in.Close()
	<-p.Done()
	if !p.Exited() {
		t.Error("not ended")
	}
	_ = cmd.Wait()
	// The PID is free now and may be anybody's: nothing is opened any more.
	_, err = p.NetNS()
	wantErr(t, err, ErrExited)
	_, err = p.OpenStdout()
	wantErr(t, err, ErrExited)
	_, err = p.InPod(testUID)
	wantErr(t, err, ErrExited)
	_, err = OpenProcess(cmd.Process.Pid)
	wantErr(t, err, ErrExited)
}

func TestReadInRoot(t *testing.T) {
	t.Parallel()
	p, err := OpenProcess(os.Getpid())
	must(t, err)
	defer p.Close()
	dir := t.TempDir()
	write(t, dir+"/file", "text")
	must(t, os.Symlink(dir+"/file", dir+"/link"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o666))
	for _, name := range []string{"/file", "/link"} {
		b, err := p.ReadInRoot(dir+name, 4)
		must(t, err)
		if string(b) != "text" {
			t.Errorf("%s: read %q", name, b)
		}
		_, err = p.ReadInRoot(dir+name, 3)
		wantErr(t, err, ErrTooLarge)
	}
	_, err = p.ReadInRoot(dir+"/fifo", 10)
	wantType(t, err, "FIFO")
	_, err = p.ReadInRoot(dir+"/none", 10)
	wantErr(t, err, os.ErrNotExist)
	if _, err := p.ReadInRoot("/proc/self/exe", 10); err == nil {
		t.Error("followed a magic link")
	}
}

func TestHasDevice(t *testing.T) {
	t.Parallel()
	p, err := OpenProcess(os.Getpid())
	must(t, err)
	defer p.Close()
	for path, want := range map[string]bool{"/dev/null": true, "/dev/no-such": false, "/proc/self/status": false} {
		if got, err := p.HasDevice(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}

func TestCloseEndsTheWatch(t *testing.T) {
	t.Parallel()
	p, err := OpenProcess(os.Getpid())
	must(t, err)
	must(t, p.Close())
	must(t, p.Close())
	<-p.Done()
}

func TestStdoutMustBeAPipe(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	defer f.Close()
	cmd, _ := helper(t, f)
	p, err := OpenProcess(cmd.Process.Pid)
	must(t, err)
	defer p.Close()
	_, err = p.OpenStdout()
	wantType(t, err, "regular file")
}

func TestStdoutWithoutReader(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	must(t, err)
	cmd, _ := helper(t, w)
	w.Close()
	r.Close()
	p, err := OpenProcess(cmd.Process.Pid)
	must(t, err)
	defer p.Close()
	out, err := p.OpenStdout()
	must(t, err)
	defer out.Close()
	_, err = out.WriteString("x")
	wantErr(t, err, unix.EPIPE)
}

func TestNotifier(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := NewNotifier()
	must(t, err)
	defer n.Close()
	f, err := os.OpenFile(dir+"/log", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close()
	w1, err := n.WatchFile(f)
	must(t, err)
	w2, err := n.WatchFile(f)
	must(t, err)
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	w3, err := n.WatchDir(d)
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	<-w1.C
	<-w2.C
	w1.Close()
	w1.Close()
	_, err = f.WriteString("x")
	must(t, err)
	<-w2.C
	write(t, dir+"/new", "")
	<-w3.C
	// A symbolic link in place of the file changes nothing: the inode is watched.
	must(t, os.Remove(dir+"/log"))
	must(t, os.Symlink("/etc/passwd", dir+"/log"))
	_, err = f.WriteString("x")
	must(t, err)
	<-w2.C
	// Losing events wakes everybody.
	n.signal([]byte{0xff, 0xff, 0xff, 0xff, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	<-w2.C
	n.signal([]byte{1, 2, 3})
	must(t, n.Close())
	w2.Close()
	if _, err := n.WatchFile(f); err == nil {
		t.Error("a watch after the end")
	}
}
