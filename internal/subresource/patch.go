// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/equality"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// patchOp is one operation of a JSON patch (RFC 6902).
type patchOp struct {
	Op    string
	Path  string
	Value any // not sent by "remove"
}

// MarshalJSON sends the value of a test even when it is null: that tests for
// absence.
func (o patchOp) MarshalJSON() ([]byte, error) {
	if o.Op == "remove" {
		return json.Marshal(map[string]any{"op": o.Op, "path": o.Path})
	}
	return json.Marshal(map[string]any{"op": o.Op, "path": o.Path, "value": o.Value})
}

// setRunning flips the machine's spec between Always and Halted, in the form in
// which it is written.
func setRunning(vm *kubevirtv1.VirtualMachine, on bool) []patchOp {
	if vm.Spec.RunStrategy != nil {
		want := kubevirtv1.RunStrategyHalted
		if on {
			want = kubevirtv1.RunStrategyAlways
		}
		return []patchOp{
			{"test", "/spec/runStrategy", *vm.Spec.RunStrategy},
			{"replace", "/spec/runStrategy", want},
		}
	}
	if vm.Spec.Running != nil {
		return []patchOp{
			{"test", "/spec/running", *vm.Spec.Running},
			{"replace", "/spec/running", on},
		}
	}
	return []patchOp{
		{"test", "/spec/running", nil},
		{"add", "/spec/running", on},
	}
}

// request queues state changes for the controller. Whatever is queued already
// must be carried out first; only a lone stop takes its place. What earlier
// failed starts have left behind is forgotten.
func request(vm *kubevirtv1.VirtualMachine, changes ...kubevirtv1.VirtualMachineStateChangeRequest) ([]patchOp, error) {
	if equality.Semantic.DeepEqual(vm.Status, kubevirtv1.VirtualMachineStatus{}) {
		// There may be no status to add to, so all of it is written. Nobody else
		// may have written it meanwhile.
		return []patchOp{
			{"test", "/metadata/resourceVersion", vm.ResourceVersion},
			{"add", "/status", map[string]any{"stateChangeRequests": changes}},
		}, nil
	}
	const path = "/status/stateChangeRequests"
	queued := vm.Status.StateChangeRequests
	var ops []patchOp
	switch {
	case queued == nil:
		ops = []patchOp{{"test", path, nil}, {"add", path, changes}}
	case len(queued) == 0, len(changes) == 1 && changes[0].Action == kubevirtv1.StopRequest:
		ops = []patchOp{{"test", path, queued}, {"replace", path, changes}}
	default:
		return nil, vmConflict(vm.Name, "unable to complete request: stop/start already underway")
	}
	if vm.Status.StartFailure != nil {
		ops = append(ops, patchOp{Op: "remove", Path: "/status/startFailure"})
	}
	return ops, nil
}

// setGrace gives the instance another grace period; the second patch undoes the first.
func setGrace(vmi *kubevirtv1.VirtualMachineInstance, seconds int64) (do, undo []patchOp) {
	const path = "/spec/terminationGracePeriodSeconds"
	if old := vmi.Spec.TerminationGracePeriodSeconds; old != nil {
		return []patchOp{{"test", path, *old}, {"replace", path, seconds}},
			[]patchOp{{"test", path, seconds}, {"replace", path, *old}}
	}
	return []patchOp{{"test", path, nil}, {"add", path, seconds}},
		[]patchOp{{"test", path, seconds}, {"remove", path, nil}}
}
