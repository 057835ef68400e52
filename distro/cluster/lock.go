// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning is in the error of whoever meets a running cluster.
var ErrRunning = errors.New("already running")

// lock takes the data directory for this process. The kernel gives it back when
// the process ends, however it ends.
func lock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		pid, _ := readPID(f)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (PID %d)", ErrRunning, pid)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// RunningPID is the PID of the process that runs the cluster of c's data
// directory, 0 when none does.
func (c *Config) RunningPID() (int, error) {
	f, err := os.Open(c.LockFile())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = flock(f, unix.LOCK_SH)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return readPID(f)
	}
	return 0, err
}

const (
	// dyingLimit bounds the wait for a killed process to let go of its files.
	dyingLimit = 10 * time.Second
	// secondLook is how much later a process that seems to live is looked at once
	// more: between the signal and its effect there is a moment without a trace.
	secondLook = 50 * time.Millisecond
)

// flock takes the lock without waiting for a process that lives. One that was
// killed holds it for some milliseconds more, until its last thread is gone: that
// is waited for, as it does not run any more.
func flock(f *os.File, how int) error {
	end := time.Now().Add(dyingLimit)
	lives := false
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
		pause := 10 * time.Millisecond
		if pid, perr := readPID(f); perr != nil || !dying(pid) {
			if lives {
				return err
			}
			lives, pause = true, secondLook
		}
		time.Sleep(pause)
	}
}

// dying tells whether the process has been killed or has ended.
func dying(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || ending(string(stat), string(status))
}

// ending judges a process by /proc/PID/stat and status (proc_pid_stat(5)): its
// first thread is gone or on its way, or will be as soon as it runs again.
func ending(stat, status string) bool {
	const (
		exiting = 0x4 // PF_EXITING
		killed  = 1 << (unix.SIGKILL - 1)
	)
	_, rest, ok := cutLast(stat, ") ")
	f := strings.Fields(rest) // state, ppid, pgrp, session, tty, tpgid, flags …
	if !ok || len(f) < 7 {
		return false
	}
	if f[0] == "Z" || f[0] == "X" {
		return true
	}
	if flags, err := strconv.ParseUint(f[6], 10, 64); err == nil && flags&exiting != 0 {
		return true
	}
	for l := range strings.Lines(status) {
		name, mask, _ := strings.Cut(l, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		if set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil && set&killed != 0 {
			return true
		}
	}
	return false
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func readPID(f *os.File) (int, error) {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0, fmt.Errorf("%s holds no PID: %w", f.Name(), err)
	}
	return pid, nil
}
