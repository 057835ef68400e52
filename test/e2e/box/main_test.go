// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/test/node"
)

// box is the node of all tests.
var box *node.Node

// deadline bounds every wait; a wait ends as soon as its condition holds.
const deadline = 3 * time.Minute

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	n, err := node.FromEnvironment()
	if err != nil {
		return 0, err
	}
	box = n
	if err := reset(); err != nil {
		return 0, fmt.Errorf("before the tests: %w", err)
	}
	// Whatever a failed test left: the box is empty in the end.
	defer func() {
		err = errors.Join(err, reset())
	}()
	return m.Run(), nil
}

func reset() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return box.Reset(ctx)
}

// fresh brings a new cluster up for one test and removes it at its end. Flags are up's.
func fresh(t *testing.T, flags ...string) {
	t.Helper()
	resetAfter(t)
	up(t, flags...)
	connect(t)
}

// connect connects to a cluster that is up, and brings the guests' image in.
func connect(t *testing.T) {
	t.Helper()
	err := box.Connect()
	if err == nil {
		_, err = box.Skerry(t.Context(), "image", "import", filepath.Join(filepath.Dir(box.Bin), "test-images", "tiny-kernel.tar"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func resetAfter(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			box.DumpLog(os.Stderr)
		}
		if err := reset(); err != nil {
			t.Errorf("reset: %v", err)
		}
	})
}

// up starts the cluster and fails the test if it does not come up.
func up(t *testing.T, flags ...string) string {
	t.Helper()
	out, err := tryUp(t, flags...)
	if err != nil {
		box.DumpLog(os.Stderr)
		t.Fatalf("skerry up: %v\n%s", err, out)
	}
	return out
}

// tryUp starts the cluster and returns what it printed.
func tryUp(t *testing.T, flags ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var out strings.Builder
	err := box.Up(ctx, &out, flags...)
	return out.String(), err
}

// waitFor polls until done says true. What done says last is in the failure.
func waitFor(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	node.WaitFor(t, deadline, what, done)
}
