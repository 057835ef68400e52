// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/test/witness"
)

// controlGuest is a tiny guest in a QEMU that nobody manages, with the witness in it.
type controlGuest struct {
	cmd  *exec.Cmd
	dir  string
	conn net.Conn
	in   *bufio.Reader
	// cgroup is its own, asked the number of questions so far.
	cgroup string
	asked  int
}

// startControl starts one like the machine whose QEMU has the PID: with its program,
// and in its cgroup, so that both have the same share of the CPU. boot has the bare
// files of the tiny guest.
func startControl(ctx context.Context, pid, boot string) (*controlGuest, error) {
	root := "/proc/" + pid + "/root"
	dir, err := os.MkdirTemp("", "control-")
	if err != nil {
		return nil, err
	}
	c := &controlGuest{dir: dir}
	serial := filepath.Join(dir, "serial.sock")
	c.cmd = exec.CommandContext(ctx, root+"/lib64/ld-linux-x86-64.so.2",
		"--library-path", root+"/usr/lib/x86_64-linux-gnu:"+root+"/lib/x86_64-linux-gnu", root+"/usr/bin/qemu-system-x86_64",
		"-L", root+"/usr/share/qemu", "-L", root+"/usr/share/seabios",
		"-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=16", "-cpu", "max", "-smp", "1", "-m", "128M",
		"-display", "none", "-kernel", filepath.Join(boot, "tiny-vmlinux"), "-initrd", filepath.Join(boot, "tiny-initrd"),
		"-append", "console=ttyS0 quiet cryptomgr.notests no_timer_check skerry.heartbeat=off",
		"-chardev", "socket,id=serial,path="+serial+",server=on,wait=off", "-serial", "chardev:serial")
	var said bytes.Buffer
	c.cmd.Stdout, c.cmd.Stderr = &said, &said
	if err := c.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := c.begin(ctx, pid, serial); err != nil {
		c.stop()
		return nil, fmt.Errorf("%w\n%s", err, said.String())
	}
	return c, nil
}

// join gives the guest's QEMU a cgroup beside that of all pods, with the same weight:
// where one machine is all that runs in pods, both have the same share of the CPU. In
// the pod's own it would not stay, as who starts again takes it out.
func (c *controlGuest) join(pid string) error {
	hierarchy, path, err := cpuCgroup(pid)
	if err != nil {
		return err
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) < 2 {
		return fmt.Errorf("QEMU's cgroup %s is not below one of all pods", path)
	}
	pods := filepath.Join(hierarchy, parts[0], parts[1])
	c.cgroup = filepath.Join(hierarchy, parts[0], "control")
	if err := os.MkdirAll(c.cgroup, 0o755); err != nil {
		return err
	}
	for _, weight := range []string{"cpu.shares", "cpu.weight"} { // cgroup v1, v2
		b, err := os.ReadFile(filepath.Join(pods, weight))
		if err != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(c.cgroup, weight), b, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(c.cgroup, "cgroup.procs"), fmt.Append(nil, c.cmd.Process.Pid), 0o644)
}

// begin moves QEMU into the cgroup and starts the witness.
func (c *controlGuest) begin(ctx context.Context, pid, serial string) error {
	if err := c.join(pid); err != nil {
		return err
	}
	if err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
		var err error
		c.conn, err = net.Dial("unix", serial)
		return err == nil, nil
	}); err != nil {
		return err
	}
	c.in = bufio.NewReader(c.conn)
	// What is typed before there is a shell is lost, so it is typed until it is heard.
	return poll(ctx, time.Second, func() (bool, error) {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := c.ask(short, "witness start")
		return err == nil, nil
	})
}

// ask runs a command of the witness in the guest's shell.
func (c *controlGuest) ask(ctx context.Context, command string) (witness.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	limit, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(limit); err != nil {
		return witness.Report{}, err
	}
	// The echo of the command does not have the sum, and an answer that came too late
	// has another one.
	c.asked++
	if _, err := fmt.Fprintf(c.conn, "%s; echo SKERRY-$((%d+1000))\n", command, c.asked); err != nil {
		return witness.Report{}, err
	}
	end := fmt.Sprintf("SKERRY-%d", c.asked+1000)
	var text strings.Builder
	for !strings.Contains(text.String(), end) {
		line, err := c.in.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			return witness.Report{}, fmt.Errorf("%s: %w", command, err)
		}
	}
	return witness.ParseReport(text.String())
}

// stop ends it.
func (c *controlGuest) stop() {
	if c.conn != nil {
		c.conn.Close()
	}
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()
	if c.cgroup != "" {
		_ = os.Remove(c.cgroup) // skerry reset takes it away otherwise
	}
	os.RemoveAll(c.dir)
}

// cpuCgroup is the cgroup that shares out the CPU to the process pid: the directory
// of its hierarchy, cgroup v2's or that of v1's controller cpu, and its path there.
func cpuCgroup(pid string) (hierarchy, path string, err error) {
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(b)) {
		// hierarchy:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			dir := filepath.Join("/sys/fs/cgroup", f[1])
			if (f[0] == "0" || c == "cpu") && exists(filepath.Join(dir, f[2], "cgroup.procs")) {
				return dir, f[2], nil
			}
		}
	}
	return "", "", fmt.Errorf("process %s is in no cgroup that shares out the CPU", pid)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
