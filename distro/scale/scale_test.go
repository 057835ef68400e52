// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The controller is this test's program, started once more.
func TestMain(m *testing.M) {
	if c := os.Getenv(childVariable); c != "" {
		if err := runChild(context.Background(), c); err != nil {
			println("controller:", err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const sample = 50

// What a controller writes for each machine, beside Events. The two numbers are
// how often when all goes quickly, and when every state lasts long enough to be told
// of; a status that met a newer object is written again, so that a few may be more.
var perLife = map[string]struct{ quick, slow float64 }{
	"POST virtualmachineinstances":   {1, 1},
	"POST pods":                      {1, 1},
	"PATCH pods/status":              {1, 1}, // the readiness gate
	"PATCH virtualmachineinstances":  {3, 4}, // Scheduling, Scheduled, Ready, the finalizer
	"PATCH virtualmachines/status":   {1, 4}, // Starting, Running, Ready, Terminating
	"PATCH virtualmachines":          {1, 1}, // the finalizer
	"DELETE virtualmachineinstances": {1, 1},
	"DELETE pods":                    {1, 1},
}

// agentPerLife are the node agent's: Running with its Event, and the guest's first output.
const agentPerLife = 3

// maxQuick is what the project promises: writes of controller and agent together,
// Events apart.
const maxQuick = 12

func TestWritesOfManyLives(t *testing.T) {
	dir, err := os.MkdirTemp("", "scale-") // t.TempDir's path is too long for etcd's socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	log, err := quietly(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := grow(t.Context(), dir, []int{sample}, log)
	if err != nil {
		t.Fatal(err, tail(log))
	}
	zero, full, last := all[0], all[1], all[2]
	quick := agentPerLife - 1.0
	for _, n := range perLife {
		quick += n.quick
	}
	if quick > maxQuick {
		t.Errorf("%v writes for a life without delays, %d promised", quick, maxQuick)
	}
	const again = 0.5 // conflicts, of a busy machine
	for _, what := range slices.Sorted(maps.Keys(last.Stats.Writes)) {
		got := float64(last.Stats.Writes[what]-zero.Stats.Writes[what]) / sample
		want, known := perLife[what]
		t.Logf("%6.2f %s", got, what)
		switch {
		case strings.HasSuffix(what, " events"):
		case !known && got > 0:
			t.Errorf("%s: %v for each machine, none expected", what, got)
		case known && (got < want.quick || got > want.slow+again):
			t.Errorf("%s: %v for each machine, want %v to %v", what, got, want.quick, want.slow)
		}
	}
	if got := float64(last.Agent-zero.Agent) / sample; got < agentPerLife || got > agentPerLife+again {
		t.Errorf("%v writes of the node agent for each machine, want %d", got, agentPerLife)
	}
	if full.Machines != sample || last.Machines != 0 {
		t.Errorf("%d machines, then %d", full.Machines, last.Machines)
	}
}

func TestResourceOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/api/v1/namespaces/default/pods":                                    "pods",
		"/api/v1/namespaces/default/pods/vm-1/status":                        "pods/status",
		"/api/v1/namespaces/default":                                         "namespaces",
		"/api/v1/nodes/a/status":                                             "nodes/status",
		"/apis/kubevirt.io/v1/namespaces/default/virtualmachines/vm-1":       "virtualmachines",
		"/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances":    "virtualmachineinstances",
		"/apis/authorization.k8s.io/v1/subjectaccessreviews":                 "subjectaccessreviews",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x.y/status": "customresourcedefinitions/status",
		"/livez": "/livez",
	} {
		if got := resourceOf(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	all := []measure{
		{Stats: stats{Live: 10 << 20, Writes: map[string]int{"POST pods": 1, "POST events": 2}}},
		{Machines: 100, Took: 1e10, Stats: stats{Live: 10<<20 + 1_500_000, CPU: 2, Writes: map[string]int{"POST pods": 101}}},
		{Took: 5e9, Stats: stats{Live: 10 << 20, Passes: 700, Writes: map[string]int{"POST pods": 101, "PATCH pods/status": 100, "POST events": 402}}},
	}
	got := map[string]float64{}
	for _, r := range results(all) {
		got[r.Name] = r.Value
	}
	want := map[string]float64{
		"scale_controller_heap_mib_0": 10, "scale_controller_heap_mib_100": 10 + 1_500_000.0/(1<<20), "scale_controller_kb_per_vm_100": 15,
		"scale_controller_anon_mib_100": 0, "scale_starts_per_s_100": 10, "scale_controller_cpu_ms_per_start_100": 20, "scale_server_growth_mib_100": 0,
		"scale_deletes_per_s": 20, "scale_passes_per_life": 7, "scale_controller_writes_per_life": 2, "scale_controller_events_per_life": 4, "scale_controller_kb_left_per_vm": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
