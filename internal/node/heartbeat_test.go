// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/hostinfo"
	"github.com/skerry-dev/skerry/internal/machine"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := now
	h := &heart{
		client: w.client, reader: w.client, node: testNode, arch: "amd64", log: slog.New(slog.DiscardHandler),
		condition: nodeCondition(machine.TCG, AccelAuto, hostinfo.Info{KVMReason: "there is no /dev/kvm"}),
		now:       func() time.Time { return at }, every: time.Millisecond, retry: time.Millisecond,
	}
	if err := h.beat(t.Context()); !apierrors.IsNotFound(err) {
		t.Fatalf("without a node: %v", err)
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	must(t, w.client.Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: testNode, Labels: map[string]string{"mine": "x"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{ready}},
	}))
	get := func() *corev1.Node {
		n := &corev1.Node{}
		must(t, w.client.Get(t.Context(), client.ObjectKey{Name: testNode}, n))
		return n
	}
	must(t, h.beat(t.Context()))
	n := get()
	if n.Labels[v1.SchedulableLabel] != "true" || n.Labels["kubevirt.io/vm-arch-amd64"] != "true" || n.Labels["mine"] != "x" {
		t.Errorf("labels = %v", n.Labels)
	}
	if n.Annotations[v1.HeartbeatAnnotation] != "2026-11-24T12:00:00Z" {
		t.Errorf("annotations = %v", n.Annotations)
	}
	find := func(n *corev1.Node) corev1.NodeCondition {
		for _, c := range n.Status.Conditions {
			if c.Type == NodeCondition {
				return c
			}
		}
		return corev1.NodeCondition{}
	}
	c := find(n)
	if len(n.Status.Conditions) != 2 || c.Status != corev1.ConditionFalse || c.Reason != nodeEmulation || !strings.Contains(c.Message, "there is no /dev/kvm") {
		t.Errorf("conditions = %+v", n.Status.Conditions)
	}
	at = at.Add(time.Minute)
	must(t, h.beat(t.Context()))
	n = get()
	if n.Annotations[v1.HeartbeatAnnotation] != "2026-11-24T12:01:00Z" || !find(n).LastTransitionTime.Time.Equal(now) {
		t.Errorf("second beat: %v, %+v", n.Annotations, find(n))
	}
	h.condition = nodeCondition(machine.KVM, AccelAuto, hostinfo.Info{KVM: true, Tun: true})
	must(t, h.beat(t.Context()))
	if c := find(get()); c.Status != corev1.ConditionTrue || c.Reason != nodeKVM || !c.LastTransitionTime.Time.Equal(at) {
		t.Errorf("condition = %+v", c)
	}
}

// The agent may be up before the kubelet has registered its node.
func TestHeartWaitsForTheNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := &heart{
		client: w.client, reader: w.client, node: testNode, arch: "amd64", log: slog.New(slog.DiscardHandler),
		condition: nodeCondition(machine.KVM, AccelAuto, hostinfo.Info{KVM: true}), now: time.Now, every: time.Hour, retry: time.Millisecond,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.run(ctx) }()
	must(t, w.client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: testNode}}))
	w.poll(func() bool {
		n := &corev1.Node{}
		must(t, w.client.Get(t.Context(), client.ObjectKey{Name: testNode}, n))
		return n.Labels[v1.SchedulableLabel] == "true"
	}, func() string { return "no heartbeat" })
	cancel()
	<-done
}

func TestAccelerator(t *testing.T) {
	t.Parallel()
	kvm, none := hostinfo.Info{KVM: true}, hostinfo.Info{KVMReason: "there is no /dev/kvm"}
	for _, tc := range []struct {
		want string
		host hostinfo.Info
		got  machine.Accel
		err  string
	}{
		{AccelAuto, kvm, machine.KVM, ""},
		{AccelAuto, none, machine.TCG, ""},
		{AccelTCG, kvm, machine.TCG, ""},
		{AccelKVM, kvm, machine.KVM, ""},
		{AccelKVM, none, "", "there is no /dev/kvm"},
	} {
		got, err := accelerator(tc.want, tc.host)
		if got != tc.got || (err == nil) != (tc.err == "") || (err != nil && !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %s, %v", tc.want, got, err)
		}
	}
	if c := nodeCondition(machine.TCG, AccelTCG, kvm); !strings.Contains(c.Message, "was told to use software emulation") {
		t.Errorf("%+v", c)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), Config{KubeletRoot: "relative", Accel: "xen"})
	for _, want := range []string{"REST", "NodeName", "ListenAddress", "TLSCertFile", "TLSKeyFile", "ClientCAFile", `root directory "relative"`, `accelerator "xen": must be auto, kvm or tcg`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
