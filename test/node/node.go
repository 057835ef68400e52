// SPDX-License-Identifier: Apache-2.0

// Package node runs one embedded cluster for the end-to-end tests and the
// benchmarks: it calls the built skerry binary as a user does, with directories
// of its own.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	cniv1 "github.com/skerry-dev/skerry/api/cni/v1"
	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

// Node is one cluster.
type Node struct {
	// Bin is the directory of the built binaries.
	Bin string
	// DataDir and RunDir are the cluster's own.
	DataDir, RunDir string
	// REST and Client are there after Connect; the user is the administrator.
	REST   *rest.Config
	Client client.WithWatch
}

// FromEnvironment takes the directories from SKERRY_BIN and SKERRY_E2E_DIR.
func FromEnvironment() (*Node, error) {
	bin, dir := os.Getenv("SKERRY_BIN"), os.Getenv("SKERRY_E2E_DIR")
	if bin == "" || dir == "" {
		return nil, errors.New("SKERRY_BIN and SKERRY_E2E_DIR must be set: start this by its script in hack/")
	}
	return &Node{Bin: bin, DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run")}, nil
}

// Kubeconfig is the administrator's.
func (n *Node) Kubeconfig() string { return filepath.Join(n.DataDir, "kubeconfig") }

// Skerry runs a command that works on the cluster's directories (up, status …)
// and returns what it printed, which is in the error too.
func (n *Node) Skerry(ctx context.Context, args ...string) (string, error) {
	args = append([]string{args[0], "--data-dir", n.DataDir, "--run-dir", n.RunDir}, args[1:]...)
	return n.run(ctx, args)
}

// CLI runs a verb that talks to the API (start, ssh …) as the administrator.
func (n *Node) CLI(ctx context.Context, verb string, args ...string) (string, error) {
	return n.run(ctx, append([]string{verb, "--kubeconfig", n.Kubeconfig()}, args...))
}

// Kubectl runs the bundled kubectl as the administrator.
func (n *Node) Kubectl(ctx context.Context, args ...string) (string, error) {
	return n.run(ctx, append([]string{"kubectl", "--kubeconfig", n.Kubeconfig()}, args...))
}

func (n *Node) run(ctx context.Context, args []string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(n.Bin, "skerry"), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("skerry %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Up starts the cluster, or what of it does not run, and shows its progress on w.
func (n *Node) Up(ctx context.Context, w io.Writer, flags ...string) error {
	args := append([]string{"up", "--detach", "--data-dir", n.DataDir, "--run-dir", n.RunDir}, flags...)
	cmd := exec.CommandContext(ctx, filepath.Join(n.Bin, "skerry"), args...)
	cmd.Stdout, cmd.Stderr = w, w
	return cmd.Run()
}

// ImportTestImages brings in the guests' and pods' images of the tests.
func (n *Node) ImportTestImages(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(n.Bin), "test-images", "*.tar"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("build/test-images has no images: run `make guests`")
	}
	_, err = n.run(ctx, append([]string{"image", "import", "--data-dir", n.DataDir, "--run-dir", n.RunDir}, files...))
	return err
}

// Reset removes the cluster and all that it made.
func (n *Node) Reset(ctx context.Context) error {
	_, err := n.Skerry(ctx, "reset", "--yes")
	return err
}

// PID is that of the running skerry process, as text.
func (n *Node) PID() (string, error) {
	b, err := os.ReadFile(filepath.Join(n.DataDir, "lock"))
	return strings.TrimSpace(string(b)), err
}

// Connect makes the clients. A restarted cluster keeps its certificates, so once
// is enough.
func (n *Node) Connect() error {
	cfg, err := clientcmd.BuildConfigFromFlags("", n.Kubeconfig())
	if err != nil {
		return err
	}
	cfg.QPS, cfg.Burst = 200, 400
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		return err
	}
	if err := errors.Join(v1.AddToScheme(s), mecs.AddToScheme(s), cniv1.AddToScheme(s)); err != nil {
		return err
	}
	n.REST = cfg
	n.Client, err = client.NewWithWatch(cfg, client.Options{Scheme: s})
	return err
}

// DumpLog writes the end of the cluster's log, for whoever reads a failed run.
func (n *Node) DumpLog(w io.Writer) {
	b, err := os.ReadFile(filepath.Join(n.DataDir, "log", "skerry.log"))
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	if len(b) > 20000 {
		b = b[len(b)-20000:]
	}
	fmt.Fprintf(w, "--- end of skerry.log\n%s\n---\n", b)
}

// PodPIDs are the processes in a pod's cgroup, its sandbox's pause among them.
func PodPIDs(podUID string) []string {
	var pids []string
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup") // the pattern is well-formed
	for _, f := range files {
		b, err := os.ReadFile(f)
		// systemd's slices have underscores where the UID has hyphens.
		if err == nil && strings.Contains(strings.ReplaceAll(string(b), "_", "-"), podUID) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}
