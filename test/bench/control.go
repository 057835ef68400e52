// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
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

// begin moves QEMU into the cgroup and starts the witness.
func (c *controlGuest) begin(ctx context.Context, pid, serial string) error {
	procs, err := cpuCgroup(pid)
	if err != nil {
		return err
	}
	if err := os.WriteFile(procs, fmt.Append(nil, c.cmd.Process.Pid), 0o644); err != nil {
		return err
	}
	if err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
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
	// The echo of the command does not have the sum.
	if _, err := io.WriteString(c.conn, command+"; echo SKERRY-$((40+2))\n"); err != nil {
		return witness.Report{}, err
	}
	var text strings.Builder
	for !strings.Contains(text.String(), "SKERRY-42") {
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
	os.RemoveAll(c.dir)
}

// cpuCgroup is the file that takes a process into the cgroup that shares out the CPU
// to the process pid: of cgroup v2, or of v1's controller cpu.
func cpuCgroup(pid string) (string, error) {
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		// hierarchy:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[0] == "0" {
			if p := filepath.Join("/sys/fs/cgroup", f[2], "cgroup.procs"); exists(p) {
				return p, nil
			}
		}
		for _, c := range strings.Split(f[1], ",") {
			if p := filepath.Join("/sys/fs/cgroup", f[1], f[2], "cgroup.procs"); c == "cpu" && exists(p) {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("process %s is in no cgroup that shares out the CPU", pid)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
