// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/distro/cluster"
)

func TestStagePrinter(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := stagePrinter{&b, cluster.Config{DataDir: cluster.DefaultDataDir}}
	p.begin("v1.2.3", "v1.37.2")
	p.event(cluster.Event{Stage: "certificates", Detail: "all good", At: 12 * time.Millisecond, Took: 10 * time.Millisecond})
	p.event(cluster.Event{Stage: "API server", Detail: "https://127.0.0.1:6443", At: 12345 * time.Millisecond, Took: 2 * time.Second})
	p.event(cluster.Event{Ready: true, At: 13 * time.Second})
	p.next(true)
	p.cfg.DataDir = "/tmp/d"
	p.next(false)
	want := `skerry v1.2.3 with Kubernetes v1.37.2, data in /var/lib/skerry
   0.01s  certificates             0.01s  all good
  12.35s  API server               2.00s  https://127.0.0.1:6443
  13.00s  ready
Try now: skerry kubectl get nodes,pods,vms -A   (or export KUBECONFIG=/var/lib/skerry/kubeconfig)
Try in another terminal: skerry kubectl --data-dir /tmp/d get nodes,pods,vms -A   (or export KUBECONFIG=/tmp/d/kubeconfig)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLeadingFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, rest []string
		data     string
		given    bool
	}{
		{in: []string{"get", "pods"}, rest: []string{"get", "pods"}, data: "default"},
		{in: []string{"--data-dir", "/d", "--run-dir=/r", "get"}, rest: []string{"get"}, data: "/d", given: true},
		{in: []string{"--data-dir=/d", "--kubeconfig", "k", "get"}, rest: []string{"--kubeconfig", "k", "get"}, data: "/d", given: true},
		{in: []string{"get", "--data-dir", "/d"}, rest: []string{"get", "--data-dir", "/d"}, data: "default"},
		{in: []string{"--data-dir"}, rest: []string{}, given: true},
	} {
		o := &options{dataDir: "default"}
		rest, given := leadingFlags(o, c.in)
		if diff := cmp.Diff(c.rest, rest); diff != "" || given != c.given || o.dataDir != c.data {
			t.Errorf("%q: data dir %q given %v, rest (-want +got):\n%s", c.in, o.dataDir, given, diff)
		}
	}
}

func TestAttached(t *testing.T) {
	t.Parallel()
	got := attached([]string{"up", "--detach", "--data-dir", "/d", "--detach=true"})
	if diff := cmp.Diff([]string{"up", "--data-dir", "/d"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
