// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

// maxTerminationLog is as much as the kubelet reads.
const maxTerminationLog = 4096

// Run waits for the agent, prepares what machine.json asks for and execs QEMU. It
// returns only on failure; the error is in the termination log by then and has
// been sent to the agent. SIGTERM and SIGWINCH end the process with code 0 until
// QEMU has taken over: a machine that is deleted before it started has not failed.
func Run(c Config) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGWINCH, unix.SIGINT)
	go func() {
		<-signals
		os.Exit(contract.ExitPowerOff)
	}()
	err := run(c)
	text := err.Error()
	if len(text) > maxTerminationLog {
		text = text[:maxTerminationLog]
	}
	// The error is printed as well; a kubelet that cannot be told here takes the
	// end of the container's log.
	if werr := writeExisting(c.TerminationLog, text); werr != nil {
		return errors.Join(err, werr)
	}
	return err
}

func writeExisting(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("termination log: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("termination log: %w", err)
	}
	return nil
}

func run(c Config) error {
	ctx := context.Background() // it has no end but this process's
	if err := failpoint.Hit(ctx, "launcher.run.before-listen"); err != nil {
		return err
	}
	// Sockets and logs that QEMU makes are for the pod's user and root only.
	unix.Umask(0o077)
	socket := filepath.Join(c.RunDir, contract.LauncherSocket)
	conn := -1
	// When the container is started a second time, machine.json is there already
	// and everything around it as well.
	_, err := os.Lstat(filepath.Join(c.MachineDir, contract.MachineFile))
	if errors.Is(err, os.ErrNotExist) {
		hello, herr := hello(c)
		if herr != nil {
			return herr
		}
		if conn, err = waitForStart(socket, hello); err != nil {
			return fmt.Errorf("wait for the node agent: %w", err)
		}
	} else if err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "launcher.run.before-prepare"); err != nil {
		return err
	}
	fds, m, err := prepare(ctx, c)
	if conn >= 0 {
		result := contract.Result{}
		if err != nil {
			result.Error = err.Error()
		}
		// The agent may be gone by now; it finds QEMU, or the container's end.
		_ = sendLine(conn, result)
	}
	if err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "launcher.run.after-result"); err != nil {
		return err
	}
	// Whoever comes from now on shall find QEMU's sockets only.
	_ = os.Remove(socket)
	if err := failpoint.Hit(ctx, "launcher.run.before-exec"); err != nil {
		return err
	}
	if m.Next != "" {
		return become(contract.QEMUCommand(m.Next, m.Argv), contract.ImageEnv(m.Next), fds)
	}
	return become(m.Argv, nil, fds)
}

// baseEnv is QEMU's environment.
var baseEnv = []string{"PATH=/usr/bin:/bin", "HOME=/", "LC_ALL=C.UTF-8"}

// become replaces the process by QEMU, which inherits taps and claims at the agreed
// descriptor numbers and nothing else but standard input and output.
func become(argv, env []string, fds []inherited) error {
	// no_new_privs is a thread's attribute: the exec must come from the one that
	// has it.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors to be closed: %w", err)
	}
	for _, f := range fds {
		if err := unix.Dup3(f.opened, f.want, 0); err != nil {
			return fmt.Errorf("%s: move descriptor to %d: %w", f.name, f.want, err)
		}
	}
	err := unix.Exec(argv[0], argv, append(slices.Clone(baseEnv), env...))
	return fmt.Errorf("exec %s: %w", argv[0], err)
}
