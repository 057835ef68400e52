// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/skerry-dev/skerry/internal/contract"
)

// Control is a tiny guest that nobody but the test knows of: its QEMU is a child
// of the test, outside of every cluster. What it suffers, the machine that runs
// the tests has caused.
type Control struct {
	*Shell
	cmd *exec.Cmd
}

// StartControl starts the guest and the witness in it. QEMU, kernel and initramfs
// are those in the root file system of the process pid: the QEMU of a running
// machine that boots the tiny guest's kernel.
func StartControl(ctx context.Context, pid string) (*Control, error) {
	line, err := os.ReadFile("/proc/" + pid + "/cmdline")
	if err != nil {
		return nil, err
	}
	args := []string{"-nodefaults", "-machine", "pc", "-m", "128", "-display", "none",
		"-kernel", contract.KernelBootDir + "/boot/vmlinux", "-initrd", contract.KernelBootDir + "/boot/initrd",
		"-append", kernelArgs, "-serial", "stdio", "-no-reboot"}
	// The same kind of processor, emulated or not.
	given := strings.Split(string(line), "\x00")
	for i, a := range given[:len(given)-1] {
		if a == "-accel" || a == "-cpu" {
			args = append(args, a, given[i+1])
		}
	}
	cmd := exec.Command(contract.QEMU, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: "/proc/" + pid + "/root", Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control guest: %w", err)
	}
	c := &Control{cmd: cmd, Shell: NewShell(struct {
		io.Reader
		io.Writer
	}{out, in})}
	if _, err := c.Start(ctx); err != nil {
		c.Stop()
		return nil, fmt.Errorf("control guest: %w", err)
	}
	return c, nil
}

// Stop ends the guest.
func (c *Control) Stop() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()         // "signal: killed" is what was asked for
}
