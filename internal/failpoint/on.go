// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

package failpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Enabled says whether this build has failpoints.
const Enabled = true

// letGoInterval is how often a process that hangs looks whether it is let go.
const letGoInterval = 10 * time.Millisecond

// Hit does what a test has armed at the place of that name, if anything.
func Hit(ctx context.Context, name string) error {
	dir := os.Getenv(Environment)
	if dir == "" {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, ArmedDir, name)); err != nil {
		return nil // the usual case: not armed
	}
	a, armed, err := take(dir, name)
	if err != nil {
		// A test that armed something must not go on as if it had not.
		fmt.Fprintf(os.Stderr, "failpoint %s: %v\n", name, err)
		os.Exit(70)
	}
	if !armed {
		return nil
	}
	switch a.Kind {
	case Error:
		return fmt.Errorf("failpoint %s: %s", name, a.Text)
	case Delay:
		select {
		case <-time.After(a.Time):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case Crash:
		crash()
	case Exit:
		os.Exit(a.Code)
	case Hang:
		return hang(ctx, dir, name)
	}
	return nil
}

// take takes one hit off what is armed and leaves a file that says so. It holds a
// lock, since several processes may be at the same place.
func take(dir, name string) (a Action, armed bool, err error) {
	lock, err := os.Open(dir)
	if err != nil {
		return a, false, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return a, false, fmt.Errorf("lock %s: %w", dir, err)
	}
	file := filepath.Join(dir, ArmedDir, name)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, false, nil // another was faster
	}
	if err != nil {
		return a, false, err
	}
	if a, err = Parse(string(b)); err != nil {
		return a, false, err
	}
	left := a
	left.Count--
	if left.Count == 0 {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, []byte(left.String()), 0o666)
	}
	if err != nil {
		return a, false, err
	}
	if a.Kind == Hang {
		// Before the hit: who sees the hit may let go at once.
		if err := os.WriteFile(filepath.Join(dir, HangingDir, name), pid(), 0o666); err != nil {
			return a, false, err
		}
	}
	for n := 1; ; n++ {
		f, err := os.OpenFile(filepath.Join(dir, HitsDir, name+"."+strconv.Itoa(n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return a, false, err
		}
		_, err = f.Write(pid())
		return a, true, errors.Join(err, f.Close())
	}
}

func pid() []byte { return []byte(strconv.Itoa(os.Getpid())) }

// crash ends the process as kill -9 does. The first process of a PID namespace
// is immune to its own SIGKILL, so there it exits, equally without a clean-up.
func crash() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	os.Exit(137)
}

func hang(ctx context.Context, dir, name string) error {
	tick := time.NewTicker(letGoInterval)
	defer tick.Stop()
	file := filepath.Join(dir, HangingDir, name)
	for {
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = os.Remove(file)
			return context.Cause(ctx)
		}
	}
}
