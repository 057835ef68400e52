// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// node is the one shared node of all tests.
type node struct {
	bin     string // directory of the built binaries
	dataDir string
	runDir  string
	rest    *rest.Config
	client  client.WithWatch
}

var shared *node

// deadline bounds every wait in these tests. It is generous, since emulated
// guests on a busy machine are slow; a wait ends as soon as its condition holds.
const deadline = 5 * time.Minute

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	n := &node{
		bin:     os.Getenv("SKERRY_BIN"),
		dataDir: os.Getenv("SKERRY_E2E_DIR"),
	}
	if n.bin == "" || n.dataDir == "" {
		fmt.Fprintln(os.Stderr, "e2e: SKERRY_BIN and SKERRY_E2E_DIR must be set; run hack/e2e.sh")
		return 2
	}
	n.runDir = filepath.Join(n.dataDir, "run")
	n.dataDir = filepath.Join(n.dataDir, "data")

	// What an earlier, killed run left behind goes first.
	if err := n.reset(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: reset before the start:", err)
		return 1
	}
	before, err := takeSnapshot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	if err := n.up(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: skerry up:", err)
		n.dumpLog()
		n.reset()
		return 1
	}
	if err := n.connect(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		n.reset()
		return 1
	}
	shared = n
	code = m.Run()
	if code != 0 {
		n.dumpLog()
	}
	if err := n.reset(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: reset after the tests:", err)
		return 1
	}
	if left := leftBehind(before); left != "" {
		fmt.Fprintln(os.Stderr, "e2e: skerry reset left behind:\n"+left)
		return 1
	}
	fmt.Println("e2e: skerry reset left nothing behind")
	return code
}

// skerry runs the binary with this node's directories.
func (n *node) skerry(ctx context.Context, args ...string) *exec.Cmd {
	args = append(args[:1:1], append([]string{"--data-dir", n.dataDir, "--run-dir", n.runDir}, args[1:]...)...)
	cmd := exec.CommandContext(ctx, filepath.Join(n.bin, "skerry"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=")
	return cmd
}

// output runs it and returns what it printed, with the output in the error.
func (n *node) output(ctx context.Context, args ...string) (string, error) {
	out, err := n.skerry(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("skerry %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (n *node) up() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := n.skerry(ctx, "up", "--detach")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func (n *node) reset() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	_, err := n.output(ctx, "reset", "--yes")
	return err
}

// connect makes the clients anew; a restarted skerry keeps its certificates, so
// once is enough.
func (n *node) connect() error {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(n.dataDir, "kubeconfig"))
	if err != nil {
		return err
	}
	cfg.QPS, cfg.Burst = 100, 200
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		return err
	}
	if err := v1.AddToScheme(s); err != nil {
		return err
	}
	n.rest = cfg
	n.client, err = client.NewWithWatch(cfg, client.Options{Scheme: s})
	return err
}

// dumpLog prints the end of the cluster's log, for whoever reads a failed run.
func (n *node) dumpLog() {
	b, err := os.ReadFile(filepath.Join(n.dataDir, "log", "skerry.log"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return
	}
	if len(b) > 20000 {
		b = b[len(b)-20000:]
	}
	fmt.Fprintf(os.Stderr, "--- end of skerry.log\n%s\n---\n", b)
}

// namespace makes one for the test and deletes it, with all in it, at its end.
func (n *node) namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.GenerateName = "e2e-" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-")) + "-"
	if err := n.client.Create(t.Context(), ns); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			n.describe(ns.Name)
		}
		if err := n.client.Delete(context.Background(), ns); err != nil {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	// The default ServiceAccount must be there before a pod can be made.
	waitFor(t, "the default ServiceAccount of "+ns.Name, func() (bool, string) {
		err := n.client.Get(t.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, fmt.Sprint(err)
	})
	return ns.Name
}

// describe prints what a person would look at first.
func (n *node) describe(namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods,vm,vmi,svc,endpointslices", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"get", "vmi", "-o", "yaml"},
		{"describe", "pods"},
		{"logs", "--tail=60", "-l", "kubevirt.io=virt-launcher"},
	} {
		out, _ := n.kubectl(ctx, append([]string{"-n", namespace}, args...)...)
		fmt.Fprintf(os.Stderr, "--- kubectl -n %s %s\n%s\n", namespace, strings.Join(args, " "), out)
	}
}

// kubectl runs the bundled kubectl as the cluster's administrator.
func (n *node) kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(n.bin, "skerry"), append([]string{"kubectl", "--kubeconfig", filepath.Join(n.dataDir, "kubeconfig")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// waitFor polls until done says true. What done says last is in the failure.
func waitFor(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	end := time.Now().Add(deadline)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, last := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s; last: %s", deadline, what, last)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: %v; last: %s", what, t.Context().Err(), last)
		case <-tick.C:
		}
	}
}

// cli runs skerry's own verbs (console, start, ssh …) as the administrator.
func (n *node) cli(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(n.bin, "skerry"), append(verbFirst(args), "--kubeconfig", filepath.Join(n.dataDir, "kubeconfig"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("skerry %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// verbFirst moves the namespace behind the verb, where every command takes it.
func verbFirst(args []string) []string {
	if len(args) > 2 && args[0] == "-n" {
		return append(append([]string{}, args[2:]...), "-n", args[1])
	}
	return args
}
