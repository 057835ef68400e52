// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package multus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
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
		fmt.Fprintln(os.Stderr, "multus:", err)
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
	before, err := links()
	if err != nil {
		return 0, err
	}
	if err := up(); err != nil {
		box.DumpLog(os.Stderr)
		return 0, errors.Join(fmt.Errorf("skerry up: %w", err), reset())
	}
	if err := errors.Join(box.Connect(), box.ImportTestImages(context.Background())); err != nil {
		return 0, errors.Join(err, reset())
	}
	if code = m.Run(); code != 0 {
		box.DumpLog(os.Stderr)
	}
	// A machine still runs: reset takes away what it has, the network's bridge too.
	if err := reset(); err != nil {
		return code, fmt.Errorf("after the tests: %w", err)
	}
	if _, err := os.Stat(box.DataDir); err == nil {
		return code, fmt.Errorf("skerry reset left %s behind", box.DataDir)
	}
	after, err := links()
	if err != nil {
		return code, err
	}
	if left := slices.DeleteFunc(after, func(l string) bool { return slices.Contains(before, l) }); len(left) > 0 {
		return code, fmt.Errorf("skerry reset left links behind: %s", strings.Join(left, ", "))
	}
	return code, nil
}

func up() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return box.Up(ctx, os.Stderr)
}

func reset() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return box.Reset(ctx)
}

// links are the names of the node's network interfaces.
func links() ([]string, error) {
	all, err := net.Interfaces()
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return names, err
}

// waitFor polls until done says true. What done says last is in the failure.
func waitFor(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	node.WaitFor(t, deadline, what, done)
}
