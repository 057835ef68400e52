// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Signals that stop a process where it stands, and let it go on.
const (
	stopSignal     = syscall.SIGSTOP
	continueSignal = syscall.SIGCONT
)

func kill(pid string) error { return signalProcess(pid, syscall.SIGKILL) }

func signalProcess(pid string, sig syscall.Signal) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	return syscall.Kill(n, sig)
}

// kubectl's own commands work: client-side and server-side apply, explain, a
// wrong field refused, and the node says what was found out about the machine.
func TestKubectl(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	f := filepath.Join(t.TempDir(), "cm.yaml")
	if err := os.WriteFile(f, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"apply", "-f", f}, "configmap/x created"},
		{[]string{"apply", "--server-side", "--force-conflicts", "-f", f}, "configmap/x serverside-applied"},
		{[]string{"explain", "pod.spec.containers.resizePolicy"}, "FIELD: resizePolicy"},
		{[]string{"explain", "vm.spec.runStrategy"}, "FIELD: runStrategy"},
		{[]string{"get", "nodes"}, " Ready "},
		{[]string{"get", "virtualmachines.v1alpha3.kubevirt.io"}, "No resources found"},
		{[]string{"auth", "can-i", "create", "vm"}, "yes"},
	} {
		out, err := shared.Kubectl(t.Context(), append([]string{"-n", ns}, c.args...)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("kubectl %s: %v\n%s\nwant %q", strings.Join(c.args, " "), err, out, c.want)
		}
	}
	nodes := &corev1.NodeList{}
	if err := shared.Client.List(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range nodes.Items[0].Status.Conditions {
		found = found || strings.HasPrefix(string(c.Type), "Skerry") && c.Message != ""
	}
	if !found {
		t.Errorf("no node condition says what was found out about the machine: %+v", nodes.Items[0].Status.Conditions)
	}
}

// Secrets are not readable in the database's files.
func TestSecretsAreEncryptedAtRest(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	const nonce = "nonce-4f1c9b7e2d"
	s := &corev1.Secret{StringData: map[string]string{"k": nonce}}
	s.Namespace, s.Name = ns, "secret"
	cm := &corev1.ConfigMap{Data: map[string]string{"k": "plain-" + strings.TrimPrefix(nonce, "nonce-")}}
	cm.Namespace, cm.Name = ns, "plain"
	create(t, s, cm)
	if inFiles(t, filepath.Join(shared.DataDir, "etcd"), nonce) {
		t.Error("the Secret's value is in etcd's files")
	}
	// The same search finds what is not secret, so it would have found the Secret.
	waitFor(t, "the ConfigMap to be in etcd's files", func() (bool, string) {
		return inFiles(t, filepath.Join(shared.DataDir, "etcd"), cm.Data["k"]), "not found"
	})
}

func inFiles(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		found = found || strings.Contains(string(b), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// containerdPID finds this cluster's by the directory in its command line.
func containerdPID() (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		args := strings.Split(string(b), "\x00")
		if err == nil && filepath.Base(args[0]) == "containerd" && strings.Contains(string(b), shared.RunDir) {
			return filepath.Base(filepath.Dir(f)), nil
		}
	}
	return "", errors.New("no containerd runs")
}

// skerry status answers with what a person wants to know.
func TestStatus(t *testing.T) {
	t.Parallel()
	out, err := shared.Skerry(t.Context(), "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Kubernetes", "containerd", "Node", "VMs", "Disk", "Certificates", "Host"} {
		if !strings.Contains(out, want) {
			t.Errorf("skerry status does not tell about %s:\n%s", want, out)
		}
	}
	fmt.Println(out)
}
