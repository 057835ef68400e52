// SPDX-License-Identifier: Apache-2.0

//go:build e2e && failpoints

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// A pod that was bound but not started when the kubelet died is refused for good
// by the next one, which looks at it before the device plugins are there again. The
// instance gets another pod and runs; it does not fail.
func TestFailpointPodIsRefused(t *testing.T) {
	f := newInjector(t)
	ns := namespace(t)
	const kubelet, devices = "cluster.kubelet.before-start", "agent.devices.before-register"
	for name, action := range map[string]string{kubelet: "hang", devices: "100*hang"} {
		if err := f.dir.Arm(name, action); err != nil {
			t.Fatal(err)
		}
	}
	hangs := func(place string) {
		t.Helper()
		waitFor(t, "skerry to hang at "+place, func() (bool, string) {
			at, err := f.dir.Hanging()
			return err == nil && strings.Contains(strings.Join(at, " "), place), fmt.Sprint(at, err)
		})
	}
	killProcess(t)
	// The start is over only when the node offers its devices.
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- shared.Up(ctx, os.Stderr) }()

	// Without a kubelet: the scheduler takes the node as it was.
	hangs(kubelet)
	waitFor(t, "the machine to be created", func() (bool, string) {
		err := shared.Client.Create(t.Context(), tinyVM(ns, "lost"))
		return err == nil || apierrors.IsAlreadyExists(err), fmt.Sprint(err)
	})
	vmi := vmiWhen(t, ns, "lost", "bound to a node", func(v *v1.VirtualMachineInstance) bool { return len(v.Status.ActivePods) == 1 })
	bound := podOf(t, vmi)

	// With one, but without the device that the pod asks for.
	if err := f.dir.LetGo(kubelet); err != nil {
		t.Fatal(err)
	}
	rejected := vmiWhen(t, ns, "lost", "without its pod, and saying why", func(v *v1.VirtualMachineInstance) bool {
		c := v.Status.Condition(v1.VMISynchronized)
		return c != nil && c.Reason == "PodRejected"
	})
	if c := rejected.Status.Condition(v1.VMISynchronized); !strings.Contains(c.Message, "UnexpectedAdmissionError") {
		t.Errorf("the condition does not tell the kubelet's reason: %s", c.Message)
	}

	if _, err := f.dir.Disarm(devices); err != nil {
		t.Fatal(err)
	}
	for {
		at, err := f.dir.Hanging()
		if err != nil {
			t.Fatal(err)
		}
		if len(at) == 0 {
			break
		}
		if err := f.dir.LetGo(at[0]); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := <-started; err != nil {
		t.Fatalf("skerry up: %v", err)
	}
	now := running(t, ns, "lost")
	openConsole(t, ns, "lost").run("true")
	pod := podOf(t, now)
	if now.UID != vmi.UID {
		t.Errorf("the instance was given up: UID %s, was %s", now.UID, vmi.UID)
	}
	if pod.UID == bound.UID {
		t.Error("the pod is the one that was refused")
	}
	for _, p := range now.Status.PhaseTransitionTimestamps {
		if p.Phase == v1.Failed {
			t.Errorf("the instance had failed: %+v", now.Status.PhaseTransitionTimestamps)
		}
	}
	events := &corev1.EventList{}
	if err := shared.Client.List(t.Context(), events, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range events.Items {
		if e.Reason == "PodRejected" && e.InvolvedObject.UID == vmi.UID {
			told++
		}
	}
	if told == 0 {
		t.Error("no Event tells that the pod was refused")
	}
}
