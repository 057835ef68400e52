// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-dev/skerry/test/node"
)

// shared is the one node of all tests.
var shared *node.Node

// deadline bounds every wait in these tests. It is generous, since emulated
// guests on a busy machine are slow; a wait ends as soon as its condition holds.
const deadline = 5 * time.Minute

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == hostileName { // in the pod of a machine
		os.Exit(hostile(os.Args[1:]))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// run brings the node up, runs the tests and takes the node away again; what
// reset leaves behind fails the run.
func run(m *testing.M) (code int, err error) {
	n, err := node.FromEnvironment()
	if err != nil {
		return 0, err
	}
	// What an earlier, killed run left behind goes first.
	if err := reset(n); err != nil {
		return 0, fmt.Errorf("before the start: %w", err)
	}
	before, err := takeSnapshot()
	if err != nil {
		return 0, err
	}
	if err = up(n); err == nil {
		err = errors.Join(n.Connect(), n.ImportTestImages(context.Background()))
	}
	if err != nil {
		n.DumpLog(os.Stderr)
		return 0, errors.Join(fmt.Errorf("skerry up: %w", err), reset(n))
	}
	shared = n
	code = m.Run()
	if code != 0 {
		n.DumpLog(os.Stderr)
	}
	if err := reset(n); err != nil {
		return 0, fmt.Errorf("after the tests: %w", err)
	}
	if left := leftBehind(before); left != "" {
		return 0, fmt.Errorf("skerry reset left behind:\n%s", left)
	}
	return code, nil
}

func up(n *node.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return n.Up(ctx, os.Stderr)
}

func reset(n *node.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return n.Reset(ctx)
}

// namespace makes one for the test and deletes it, with all in it, at its end.
func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.GenerateName = "e2e-" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-")) + "-"
	if err := shared.Client.Create(t.Context(), ns); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			describe(ns.Name)
		}
		if err := shared.Client.Delete(context.Background(), ns); client.IgnoreNotFound(err) != nil {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	// The default ServiceAccount must be there before a pod can be made.
	waitFor(t, "the default ServiceAccount of "+ns.Name, func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, fmt.Sprint(err)
	})
	return ns.Name
}

// describe prints what a person would look at first.
func describe(namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods,vm,vmi,svc,endpointslices", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"get", "vmi", "-o", "yaml"},
		{"describe", "pods"},
		{"logs", "--tail=60", "-l", "kubevirt.io=virt-launcher"},
	} {
		out, _ := shared.Kubectl(ctx, append([]string{"-n", namespace}, args...)...)
		fmt.Fprintf(os.Stderr, "--- kubectl -n %s %s\n%s\n", namespace, strings.Join(args, " "), out)
	}
}

// waitFor polls until done says true. What done says last is in the failure.
func waitFor(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	node.WaitFor(t, deadline, what, done)
}
