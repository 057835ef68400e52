// SPDX-License-Identifier: Apache-2.0

//go:build root

package podfs

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// cgroupRoot is a directory in which cgroups can be made, whatever the version.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"pids", "memory", "systemd", "unified", ""} {
		path := filepath.Join("/sys/fs/cgroup", dir)
		if _, err := os.Stat(filepath.Join(path, "cgroup.procs")); err == nil {
			return path
		}
	}
	t.Fatal("no cgroup hierarchy below /sys/fs/cgroup")
	return ""
}

// TestServeSocket is the pod's process of TestDialPod: it serves a socket until
// its standard input ends.
func TestServeSocket(t *testing.T) {
	path := os.Getenv("PODFS_SERVE")
	if path == "" {
		return
	}
	ln, err := net.Listen("unix", path)
	must(t, err)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello")
			c.Close()
		}
	}()
	fmt.Println("listening")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// A process in a pod's cgroup and network namespace is found by its socket,
// under the names of both cgroup drivers; for another pod it is a foreigner.
func TestDialPod(t *testing.T) {
	root := cgroupRoot(t)
	under := strings.ReplaceAll(testUID, "-", "_")
	for name, group := range map[string]string{
		"cgroupfs": "kubepods/burstable/pod" + testUID + "/container",
		"systemd":  "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-x.scope",
	} {
		t.Run(name, func(t *testing.T) {
			top := filepath.Join(root, fmt.Sprintf("skerry-podfs-test-%d", os.Getpid()))
			path := filepath.Join(top, group)
			must(t, os.MkdirAll(path, 0o755))
			t.Cleanup(func() {
				for p := path; p != root; p = filepath.Dir(p) {
					if err := os.Remove(p); err != nil {
						t.Errorf("remove cgroup: %v", err)
					}
				}
			})
			cg, err := os.Open(path)
			must(t, err)
			defer cg.Close()

			dir := t.TempDir()
			sock := dir + "/s"
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestServeSocket$")
			cmd.Env = append(os.Environ(), "PODFS_SERVE="+sock)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
			in, err := cmd.StdinPipe()
			must(t, err)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
			must(t, os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(fmt.Sprint(cmd.Process.Pid)), 0))
			line := make([]byte, len("listening\n"))
			_, err = io.ReadFull(out, line)
			must(t, err)

			d, err := OpenDir(dir)
			must(t, err)
			defer d.Close()
			conn, p, err := d.DialPod(t.Context(), "s", testUID)
			must(t, err)
			defer conn.Close()
			defer p.Close()
			if p.PID() != cmd.Process.Pid {
				t.Errorf("PID %d, want %d", p.PID(), cmd.Process.Pid)
			}
			ns, err := p.NetNS()
			must(t, err)
			defer ns.Close()
			var theirs, ours unix.Stat_t
			must(t, unix.Fstat(fdOf(ns), &theirs))
			must(t, unix.Stat("/proc/self/ns/net", &ours))
			if theirs.Ino == ours.Ino {
				t.Error("our own network namespace")
			}
			if _, _, err := d.DialPod(t.Context(), "s", "ffffffff-1c0e-4b7e-9d0e-3a9a3c1f5e11"); !errors.Is(err, ErrForeign) {
				t.Errorf("another pod: %v", err)
			}
			in.Close()
			<-p.Done()
			_, _, err = d.DialPod(t.Context(), "s", testUID)
			wantErr(t, err, unix.ECONNREFUSED)
		})
	}
}
