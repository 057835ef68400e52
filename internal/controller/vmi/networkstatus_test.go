// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/netattach"
)

// The agent's word on the pod's networks comes to the pod, once, and nothing else
// of the pod is touched.
func TestNetworkStatusReachesThePod(t *testing.T) {
	t.Parallel()
	p := pod(running)
	p.Annotations = map[string]string{"other": "stays"}
	c := fake.NewClientBuilder().WithObjects(&p).Build()
	decide := func() Plan {
		stored := &corev1.Pod{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(&p), stored); err != nil {
			t.Fatal(err)
		}
		cached, err := StripPod(stored)
		if err != nil {
			t.Fatal(err)
		}
		d := decision{plan: Plan{}, st: &v1.VirtualMachineInstanceStatus{NetworkStatus: []v1.NetworkStatus{
			{Name: "default", Interface: "eth0", Default: true},
			{Name: "x/lan", Interface: "pod1", IPs: []string{"10.9.0.5"}, MAC: "02:00:00:00:00:09"},
		}}}
		d.networkStatus(cached.(*corev1.Pod))
		return d.plan
	}
	plan := decide()
	if plan.NetworkPod == nil {
		t.Fatal("nothing is written")
	}
	r := &Reconciler{Client: c}
	if err := r.annotate(t.Context(), plan.NetworkPod, netattach.StatusAnnotation, plan.NetworkStatus); err != nil {
		t.Fatal(err)
	}
	if plan := decide(); plan.NetworkPod != nil {
		t.Errorf("it is written again: %s", plan.NetworkStatus)
	}
	got := &corev1.Pod{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(&p), got); err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(got.Annotations[netattach.StatusAnnotation]), &list); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"name": "default", "interface": "eth0", "default": true, "dns": map[string]any{}},
		{"name": "x/lan", "interface": "pod1", "ips": []any{"10.9.0.5"}, "mac": "02:00:00:00:00:09", "dns": map[string]any{}},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Annotations["other"] != "stays" {
		t.Errorf("annotations %v", got.Annotations)
	}
	// Somebody else attached the pod, and says so himself.
	d := decision{st: &v1.VirtualMachineInstanceStatus{}}
	d.networkStatus(&p)
	if d.plan.NetworkPod != nil {
		t.Error("the annotation is written without a word of the agent's")
	}
}
