// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package box

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// upUntil starts the cluster and returns when it has printed a line with text, or
// has ended.
func upUntil(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(box.Bin, "skerry"), "up", "--data-dir", box.DataDir, "--run-dir", box.RunDir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it is killed with the rest of the node
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("skerry up ended before it printed %q", text)
}

// The power is cut in the middle of the first start, while containerd unpacks
// images and, in the campaign, at every other stage: the next start
// makes one whole cluster of what is on the disk, and a machine boots on it, for
// which the launcher's image must be whole.
func TestPowerCutDuringFirstStart(t *testing.T) {
	stages := []string{"images"}
	if os.Getenv("SKERRY_CAMPAIGN") != "" {
		stages = []string{"certificates", "host", "containerd", "images", "etcd", "API server", "DNS", "API objects", "node ", "Skerry", "ready"}
	}
	for _, stage := range stages {
		t.Run(strings.TrimSpace(stage), func(t *testing.T) {
			d := ownDisk(t, 2048)
			resetAfter(t)
			upUntil(t, stage)
			d.powerCut()
			t.Logf("cut after %q, then:\n%s", stage, up(t))
			connect(t)
			create(t, machine("default", "first", v1.RunStrategyAlways))
			ready(t, "first", nil)
		})
	}
}

// The power is cut while the first machine starts, and again when it has run for a
// moment: there is one machine afterwards, and it runs. What was stored is there,
// Secrets among it. Without SKERRY_CAMPAIGN there is nothing to do.
func TestPowerCutDuringFirstMachine(t *testing.T) {
	if os.Getenv("SKERRY_CAMPAIGN") == "" {
		return
	}
	d := ownDisk(t, 2048)
	fresh(t)
	secret := &corev1.Secret{StringData: map[string]string{"word": "kept"}}
	secret.Namespace, secret.Name = "default", "kept"
	create(t, secret, machine("default", "first", v1.RunStrategyAlways))
	waitFor(t, "the machine to have a pod", func() (bool, string) {
		vmi := instance(t, "first")
		return vmi != nil && vmi.Status.Phase != "" && vmi.Status.Phase != v1.Pending, "not yet"
	})
	d.powerCut()
	up(t)
	vmi, _ := ready(t, "first", nil)
	d.powerCut()
	up(t)
	ready(t, "first", vmi)
	got := &corev1.Secret{}
	if err := box.Client.Get(t.Context(), client.ObjectKeyFromObject(secret), got); err != nil || string(got.Data["word"]) != "kept" {
		t.Errorf("the Secret is %q, %v", got.Data["word"], err)
	}
	pods := &corev1.PodList{}
	if err := box.Client.List(t.Context(), pods, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	live := 0
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning {
			live++
		}
	}
	if live != 1 {
		t.Errorf("%d pods run, want 1", live)
	}
}
