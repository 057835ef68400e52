// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

const (
	// powerdownEvery: a guest that is still booting does not hear the first one,
	// one that is shutting down does not mind another.
	powerdownEvery = 3 * time.Second
	// retryEvery is how often a monitor that is not there yet is looked for. There
	// is nothing to wait on: a socket that does not answer tells nothing when it will.
	retryEvery = 50 * time.Millisecond
)

// Shutdown asks the guest to power off and returns when QEMU has ended. After the
// grace period it makes QEMU quit. If the launcher has not become QEMU yet, it is
// told to end. (QEMU is the container's first process: in a pod its end is this
// process's end as well.)
func Shutdown(c Config, grace time.Duration) error {
	ctx := context.Background() // the deadline is the end
	if err := failpoint.Hit(ctx, "launcher.shutdown.before-look"); err != nil {
		return err
	}
	deadline := time.Now().Add(grace)
	pid, err := unix.PidfdOpen(c.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", c.PID, err)
	}
	defer unix.Close(pid)
	for {
		ended, err := endsWithin(pid, 0)
		if err != nil || ended {
			return err
		}
		mon, cerr := dialMonitor(filepath.Join(c.RunDir, contract.ShutdownQMPSocket), c.Patience)
		if cerr == nil {
			err := failpoint.Hit(ctx, "launcher.shutdown.before-power-off")
			if err == nil {
				err = mon.powerOff(deadline)
			}
			mon.close()
			// The monitor closes while QEMU ends.
			if ended, perr := endsWithin(pid, c.Patience); perr != nil || ended {
				return perr
			}
			if err == nil {
				err = errors.New("QEMU closed its monitor but still runs")
			}
			cerr = err
		} else if launcherWaits(filepath.Join(c.RunDir, contract.LauncherSocket)) {
			// Should it become QEMU right now, that has nothing to save yet.
			if err := unix.PidfdSendSignal(pid, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end the waiting launcher: %w", err)
			}
		}
		if time.Now().After(deadline.Add(c.Patience)) {
			return fmt.Errorf("QEMU did not end: %w", cerr)
		}
		if ended, err := endsWithin(pid, retryEvery); err != nil || ended {
			return err
		}
	}
}

// endsWithin tells whether the process has ended, waiting for it as long as that.
func endsWithin(pid int, wait time.Duration) (bool, error) {
	until := time.Now().Add(wait)
	for {
		fds := []unix.PollFd{{Fd: int32(pid), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(until)).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait for QEMU's end: %w", err)
		}
		return n > 0, nil
	}
}

// launcherWaits tells whether the launcher listens, which it does until it execs.
func launcherWaits(path string) bool {
	f, err := dialUnix(path)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// dialUnix connects to a socket. The file has deadlines.
func dialUnix(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// On a local socket this succeeds or fails at once.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
