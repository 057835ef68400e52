// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	always   = kubevirtv1.RunStrategyAlways
	rerun    = kubevirtv1.RunStrategyRerunOnFailure
	manual   = kubevirtv1.RunStrategyManual
	once     = kubevirtv1.RunStrategyOnce
	halted   = kubevirtv1.RunStrategyHalted
	receiver = kubevirtv1.RunStrategyWaitAsReceiver
)

// written is what a plan sends, as one string for each object.
func written(t *testing.T, p plan) map[string]string {
	t.Helper()
	got := map[string]string{}
	for name, ops := range map[string][]patchOp{"vmi": p.instance, "vm": p.vm, "status": p.vmStatus} {
		if len(ops) > 0 {
			b, err := json.Marshal(ops)
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(b)
		}
	}
	return got
}

func TestPlans(t *testing.T) {
	t.Parallel()
	type (
		VM  = *kubevirtv1.VirtualMachine
		VMI = *kubevirtv1.VirtualMachineInstance
	)
	start := func(vm VM, vmi VMI) (plan, error) { return planStart(vm, vmi, false) }
	startPaused := func(vm VM, vmi VMI) (plan, error) { return planStart(vm, vmi, true) }
	stop := func(vm VM, vmi VMI) (plan, error) { return planStop(vm, vmi, nil) }
	stopIn := func(s int64) func(VM, VMI) (plan, error) {
		return func(vm VM, vmi VMI) (plan, error) { return planStop(vm, vmi, &s) }
	}
	restart := func(vm VM, vmi VMI) (plan, error) { return planRestart(vm, vmi, nil) }
	restartIn := func(s int64) func(VM, VMI) (plan, error) {
		return func(vm VM, vmi VMI) (plan, error) { return planRestart(vm, vmi, &s) }
	}
	none := func() VMI { return nil }
	running := func() VMI { return newVMI(kubevirtv1.Running) }
	succeeded := func() VMI { return newVMI(kubevirtv1.Succeeded) }
	failed := func() VMI { return newVMI(kubevirtv1.Failed) }
	queued := func(vm VM) {
		vm.Status.StateChangeRequests = []kubevirtv1.VirtualMachineStateChangeRequest{{Action: kubevirtv1.StartRequest}}
	}
	failing := func(vm VM) { vm.Status.StartFailure = &kubevirtv1.VirtualMachineStartFailure{} }
	const (
		test   = `{"op":"test","path":"/status/stateChangeRequests","value":null},`
		add    = `{"op":"add","path":"/status/stateChangeRequests","value":`
		sStart = `{"action":"Start"}`
		sStop  = `{"action":"Stop","uid":"uid-of-vm1"}`
	)
	for _, c := range []struct {
		name string
		do   func(VM, VMI) (plan, error)
		vm   VM
		vmi  func() VMI
		want map[string]string
		err  string
	}{
		{"start halted", start, newVM(halted), none, map[string]string{"vm": `[{"op":"test","path":"/spec/runStrategy","value":"Halted"},{"op":"replace","path":"/spec/runStrategy","value":"Always"}]`}, ""},
		{"start running=false", start, oldVM(false), none, map[string]string{"vm": `[{"op":"test","path":"/spec/running","value":false},{"op":"replace","path":"/spec/running","value":true}]`}, ""},
		{"start halted paused", startPaused, newVM(halted), none, map[string]string{"status": "[" + test + add + `[{"action":"Start","data":{"paused":"true"}}]}]`}, ""},
		{"start running=true", start, oldVM(true), none, nil, "Always does not support manual start requests"},
		{"start always", start, newVM(always), none, nil, "Always does not support manual start requests"},
		{"start once", start, newVM(once), none, nil, "Once does not support manual start requests"},
		{"start receiver", start, newVM(receiver), none, nil, "WaitAsReceiver does not support manual start requests"},
		{"start manual", start, newVM(manual), none, map[string]string{"status": "[" + test + add + "[" + sStart + "]}]"}, ""},
		{"start rerun", start, newVM(rerun), none, map[string]string{"status": "[" + test + add + "[" + sStart + "]}]"}, ""},
		{"start manual after its end", start, newVM(manual), succeeded, map[string]string{"status": "[" + test + add + "[" + sStop + "," + sStart + "]}]"}, ""},
		{"start rerun after its end", start, newVM(rerun), succeeded, map[string]string{"status": "[" + test + add + "[" + sStop + "," + sStart + "]}]"}, ""},
		{"start twice", start, newVM(manual, queued), none, nil, "unable to complete request: stop/start already underway"},
		{"start running", start, newVM(manual), running, nil, "VM is already running"},
		{"start halted but running", start, newVM(halted), running, nil, "VM is already running"},
		{"start before the first phase", start, newVM(manual), func() VMI { return newVMI("") }, nil, "VM is already running"},
		{"start while stopping", start, newVM(halted), func() VMI {
			return newVMI(kubevirtv1.Running, func(v VMI) { v.DeletionTimestamp = &metav1.Time{} })
		}, nil, "VM is already running: its instance is still being stopped"},
		{"start forgets failures", start, newVM(manual, failing), none, map[string]string{"status": "[" + test + add + "[" + sStart + `]},{"op":"remove","path":"/status/startFailure"}]`}, ""},
		{"start without a status", start, newVM(manual, func(vm VM) { vm.Status = kubevirtv1.VirtualMachineStatus{}; vm.ResourceVersion = "5" }), none,
			map[string]string{"status": `[{"op":"test","path":"/metadata/resourceVersion","value":"5"},{"op":"add","path":"/status","value":{"stateChangeRequests":[` + sStart + `]}}]`}, ""},

		{"stop always", stop, newVM(always), running, map[string]string{"vm": `[{"op":"test","path":"/spec/runStrategy","value":"Always"},{"op":"replace","path":"/spec/runStrategy","value":"Halted"}]`}, ""},
		{"stop always that has none", stop, newVM(always), none, map[string]string{"vm": `[{"op":"test","path":"/spec/runStrategy","value":"Always"},{"op":"replace","path":"/spec/runStrategy","value":"Halted"}]`}, ""},
		{"stop once", stop, newVM(once), running, map[string]string{"vm": `[{"op":"test","path":"/spec/runStrategy","value":"Once"},{"op":"replace","path":"/spec/runStrategy","value":"Halted"}]`}, ""},
		{"stop running=true", stop, oldVM(true), running, map[string]string{"vm": `[{"op":"test","path":"/spec/running","value":true},{"op":"replace","path":"/spec/running","value":false}]`}, ""},
		{"stop manual", stop, newVM(manual), running, map[string]string{"status": "[" + test + add + "[" + sStop + "]}]"}, ""},
		{"stop rerun", stop, newVM(rerun), running, map[string]string{"status": "[" + test + add + "[" + sStop + "]}]"}, ""},
		{"stop takes the queue's place", stop, newVM(manual, queued), running, map[string]string{"status": `[{"op":"test","path":"/status/stateChangeRequests","value":[` + sStart + `]},{"op":"replace","path":"/status/stateChangeRequests","value":[` + sStop + `]}]`}, ""},
		{"stop manual that has none", stop, newVM(manual), none, nil, "VM is not running"},
		{"stop manual after its end", stop, newVM(manual), failed, nil, "VM is not running"},
		{"stop halted", stop, newVM(halted), none, nil, "VM is not running"},
		{"stop halted that still runs", stop, newVM(halted), running, nil, "Halted only supports manual stop requests with a shorter graceperiod"},
		{"stop halted no sooner", stopIn(30), newVM(halted), running, nil, "shorter graceperiod (gracePeriod below 30)"},
		{"stop halted sooner", stopIn(5), newVM(halted), running, map[string]string{"vmi": `[{"op":"test","path":"/spec/terminationGracePeriodSeconds","value":null},{"op":"add","path":"/spec/terminationGracePeriodSeconds","value":5}]`}, ""},
		{"stop with a grace period", stopIn(0), newVM(always), func() VMI {
			return newVMI(kubevirtv1.Running, func(v VMI) { v.Spec.TerminationGracePeriodSeconds = ptr.To[int64](60) })
		}, map[string]string{
			"vmi": `[{"op":"test","path":"/spec/terminationGracePeriodSeconds","value":60},{"op":"replace","path":"/spec/terminationGracePeriodSeconds","value":0}]`,
			"vm":  `[{"op":"test","path":"/spec/runStrategy","value":"Always"},{"op":"replace","path":"/spec/runStrategy","value":"Halted"}]`}, ""},
		{"stop with a negative grace period", stopIn(-1), newVM(always), running, nil, "gracePeriod: must be 0 or more"},
		{"stop receiver", stop, newVM(receiver), running, nil, "WaitAsReceiver does not support manual stop requests"},

		{"restart always", restart, newVM(always), running, map[string]string{"status": "[" + test + add + "[" + sStop + "," + sStart + "]}]"}, ""},
		{"restart manual", restart, newVM(manual), running, map[string]string{"status": "[" + test + add + "[" + sStop + "," + sStart + "]}]"}, ""},
		{"restart rerun", restart, newVM(rerun), running, map[string]string{"status": "[" + test + add + "[" + sStop + "," + sStart + "]}]"}, ""},
		{"restart halted", restart, newVM(halted), running, nil, "Halted does not support manual restart requests"},
		{"restart once", restart, newVM(once), running, nil, "Once does not support manual restart requests"},
		{"restart one that has none", restart, newVM(always), none, nil, "VM is not running"},
		{"restart after its end", restart, newVM(manual), succeeded, nil, "VM is not running"},
		{"restart twice", restart, newVM(always, queued), running, nil, "unable to complete request: stop/start already underway"},
		{"restart by force", restartIn(0), newVM(always), running, map[string]string{
			"vmi":    `[{"op":"test","path":"/spec/terminationGracePeriodSeconds","value":null},{"op":"add","path":"/spec/terminationGracePeriodSeconds","value":1}]`,
			"status": "[" + test + add + "[" + sStop + "," + sStart + "]}]"}, ""},
		{"restart with another grace period", restartIn(10), newVM(always), running, nil, "gracePeriodSeconds: a restart takes none, or 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := c.do(c.vm, c.vmi())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, written(t, p)); d != "" {
				t.Fatal(d)
			}
		})
	}
}

// oldVM uses the deprecated spec.running.
func oldVM(running bool) *kubevirtv1.VirtualMachine {
	return newVM(halted, func(vm *kubevirtv1.VirtualMachine) { vm.Spec.RunStrategy, vm.Spec.Running = nil, &running })
}

func TestStart(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted))
	e.want(http.MethodPut, "virtualmachines/vm1/start", `{"dryRun":["All"]}`, 202, "")
	if s := *e.getVM("vm1").Spec.RunStrategy; s != halted {
		t.Fatalf("a dry run wrote %s", s)
	}
	e.want(http.MethodPut, "virtualmachines/vm1/start", "", 202, "")
	if s := *e.getVM("vm1").Spec.RunStrategy; s != always {
		t.Fatalf("got %s", s)
	}
	e.want(http.MethodPut, "virtualmachines/vm1/start", "", 409, `virtualmachine.kubevirt.io "vm1": Always does not support manual start requests`)
	e.want(http.MethodPut, "virtualmachines/vm2/start", "", 404, `virtualmachine.kubevirt.io "vm2" not found`)
}

func TestStartPaused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(manual))
	e.want(http.MethodPut, "virtualmachines/vm1/start", "paused: true\n", 202, "") // YAML is allowed
	want := []kubevirtv1.VirtualMachineStateChangeRequest{{Action: "Start", Data: map[string]string{"paused": "true"}}}
	if d := cmp.Diff(want, e.getVM("vm1").Status.StateChangeRequests); d != "" {
		t.Fatal(d)
	}
}

func TestStartWithoutStatus(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(manual, func(vm *kubevirtv1.VirtualMachine) { vm.Status = kubevirtv1.VirtualMachineStatus{} }))
	e.want(http.MethodPut, "virtualmachines/vm1/start", "{}", 202, "")
	if len(e.getVM("vm1").Status.StateChangeRequests) != 1 {
		t.Fatal("no request was written")
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(always), newVMI(kubevirtv1.Running))
	e.want(http.MethodPut, "virtualmachines/vm1/stop", `{"gracePeriod":7}`, 202, "")
	if s := *e.getVM("vm1").Spec.RunStrategy; s != halted {
		t.Fatalf("got %s", s)
	}
	if g := e.getVMI("vm1").Spec.TerminationGracePeriodSeconds; g == nil || *g != 7 {
		t.Fatalf("grace period %v", g)
	}
	e.want(http.MethodPut, "virtualmachines/vm1/stop", `{"gracePeriod":7}`, 409, "shorter graceperiod")
	e.want(http.MethodPut, "virtualmachines/vm1/stop", `{"gracePeriod":0}`, 202, "")
}

func TestRestart(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(always), newVMI(kubevirtv1.Running))
	e.want(http.MethodPut, "virtualmachines/vm1/restart", `{"gracePeriodSeconds":5}`, 400, "gracePeriodSeconds")
	e.want(http.MethodPut, "virtualmachines/vm1/restart", `{"gracePeriodSeconds":0}`, 202, "")
	want := []kubevirtv1.VirtualMachineStateChangeRequest{{Action: "Stop", UID: "uid-of-vm1"}, {Action: "Start"}}
	if d := cmp.Diff(want, e.getVM("vm1").Status.StateChangeRequests); d != "" {
		t.Fatal(d)
	}
	if g := e.getVMI("vm1").Spec.TerminationGracePeriodSeconds; g == nil || *g != 1 {
		t.Fatalf("grace period %v", g)
	}
	e.want(http.MethodPut, "virtualmachines/vm1/restart", ``, 409, "already underway")
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(manual), newVMI(kubevirtv1.Running))
	for body, text := range map[string]string{
		`{"dryRun":["Some"]}`: `dryRun[0]: "Some" is not supported: the only value is "All"`,
		`{"paused":"yes"`:     "cannot read the request's body",
		`{"graceful":true}`:   "graceful",
		`[1,2]`:               "cannot read the request's body",
		strings.Repeat(" ", maxBody) + `{"dryRun":[]}`: "at most",
	} {
		code := 400
		if len(body) > maxBody {
			code = 413
		}
		for _, path := range []string{"virtualmachines/vm1/start", "virtualmachineinstances/vm1/pause"} {
			e.want(http.MethodPut, path, body, code, text)
		}
	}
}

// Somebody else writes between reading and patching: the decision is taken anew.
func TestRaces(t *testing.T) {
	t.Parallel()
	t.Run("status", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t, newVM(manual), newVMI(kubevirtv1.Running))
		done := false
		e.beforePatch = func(what string) {
			if what != "vm status" || done {
				return
			}
			done = true
			vm := e.getVM("vm1")
			vm.Status.StateChangeRequests = []kubevirtv1.VirtualMachineStateChangeRequest{{Action: "Start"}}
			if err := e.client.Status().Update(t.Context(), vm); err != nil {
				t.Error(err)
			}
		}
		e.want(http.MethodPut, "virtualmachines/vm1/stop", "", 202, "")
		if r := e.getVM("vm1").Status.StateChangeRequests; len(r) != 1 || r[0].Action != "Stop" {
			t.Fatalf("got %v", r)
		}
	})
	t.Run("strategy", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t, newVM(halted))
		done := false
		e.beforePatch = func(what string) {
			if what != "vm spec" || done {
				return
			}
			done = true
			vm := e.getVM("vm1")
			vm.Spec.RunStrategy = ptr.To(always)
			if err := e.client.Update(t.Context(), vm); err != nil {
				t.Error(err)
			}
		}
		e.want(http.MethodPut, "virtualmachines/vm1/start", "", 409, "Always does not support manual start requests")
	})
	t.Run("grace period is put back", func(t *testing.T) {
		t.Parallel()
		e := newEnv(t, newVM(always), newVMI(kubevirtv1.Running))
		n := 0
		e.beforePatch = func(what string) {
			if what != "vm status" {
				return
			}
			n++
			vm := e.getVM("vm1")
			vm.Status.StateChangeRequests = []kubevirtv1.VirtualMachineStateChangeRequest{{Action: "Start"}}
			if err := e.client.Status().Update(t.Context(), vm); err != nil {
				t.Error(err)
			}
		}
		e.want(http.MethodPut, "virtualmachines/vm1/restart", `{"gracePeriodSeconds":0}`, 409, "already underway")
		if g := e.getVMI("vm1").Spec.TerminationGracePeriodSeconds; g != nil {
			t.Fatalf("grace period %d", *g)
		}
		if n != 1 {
			t.Fatalf("%d attempts", n)
		}
	})
}
