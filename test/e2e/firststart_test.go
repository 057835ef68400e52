// SPDX-License-Identifier: Apache-2.0

//go:build e2e && failpoints

package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// firstStart are the places that only a cluster's first start reaches.
var firstStart = []string{"cluster.start.before-made", "cluster.images.", "cluster.containerd.after-exec", "cluster.definition.", "pki."}

func inFirstStart(point string) bool {
	return slices.ContainsFunc(firstStart, func(prefix string) bool { return strings.HasPrefix(point, prefix) })
}

// TestFailpointCampaignOfFirstStarts kills a cluster's first start at every place
// of the start: the next start makes a whole cluster of what is there. Without
// SKERRY_CAMPAIGN there is nothing to do: package box cuts the power there.
func TestFailpointCampaignOfFirstStarts(t *testing.T) {
	if os.Getenv("SKERRY_CAMPAIGN") == "" {
		return
	}
	for _, p := range points(t) {
		if !inFirstStart(p) && !strings.HasPrefix(p, "cluster.") {
			continue
		}
		t.Run(strings.ReplaceAll(p, ".", "-"), func(t *testing.T) {
			f := newInjector(t)
			if err := reset(shared); err != nil {
				t.Fatal(err)
			}
			f.arm([]string{p})
			if err := up(shared); err == nil {
				t.Errorf("the first start was not killed at %s", p)
			}
			f.revive()
			if hit := f.settle(); !hit[p] {
				t.Errorf("%s was not reached", p)
			}
			// The cluster has another authority than the one before.
			if err := shared.Connect(); err != nil {
				t.Fatal(err)
			}
			if err := shared.ImportTestImages(t.Context()); err != nil {
				t.Fatal(err)
			}
			ns := namespace(t)
			vm := tinyVM(ns, "first")
			create(t, vm)
			running(t, ns, "first")
			openConsole(t, ns, "first").run("true")
			if err := shared.Client.Delete(t.Context(), vm); client.IgnoreNotFound(err) != nil {
				t.Error(err)
			}
		})
	}
}
