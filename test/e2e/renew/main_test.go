// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package renew

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/test/node"
)

// box is the node of all tests.
var box *node.Node

// deadline bounds every wait; a wait ends as soon as its condition holds.
const deadline = 10 * time.Minute

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "renew:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if box, err = node.FromEnvironment(); err != nil {
		return 0, err
	}
	if err := reset(); err != nil {
		return 0, fmt.Errorf("before the tests: %w", err)
	}
	if err := up(context.Background(), os.Stderr); err != nil {
		box.DumpLog(os.Stderr)
		return 0, errors.Join(fmt.Errorf("skerry up: %w", err), reset())
	}
	if err := errors.Join(box.Connect(), box.ImportTestImages(context.Background())); err != nil {
		return 0, errors.Join(err, reset())
	}
	if code = m.Run(); code != 0 {
		box.DumpLog(os.Stderr)
	}
	return code, reset()
}

func reset() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return box.Reset(ctx)
}

func up(ctx context.Context, w io.Writer, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return box.Up(ctx, w, flags...)
}

// upgrade ends the skerry process and starts it with other images, as after an
// upgrade: machines run on.
func upgrade(t *testing.T, images string, flags ...string) {
	t.Helper()
	pid, err := box.PID()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatalf("PID %q: %v", pid, err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatalf("kill skerry: %v", err)
	}
	waitFor(t, "the skerry process to be gone", func() (bool, string) {
		_, err := os.Stat("/proc/" + pid + "/exe")
		return err != nil, fmt.Sprint(err)
	})
	var out strings.Builder
	if err := up(t.Context(), &out, append(flags, "--images-dir", images)...); err != nil {
		t.Fatalf("skerry up: %v\n%s", err, out.String())
	}
	if strings.Contains(out.String(), "runs already") {
		t.Fatalf("skerry up took the killed process for a running one: %s", out.String())
	}
}

// waitFor polls until done says true. What done says last is in the failure.
func waitFor(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	node.WaitFor(t, deadline, what, done)
}
