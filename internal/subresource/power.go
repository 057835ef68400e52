// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// defaultGrace is what an instance without terminationGracePeriodSeconds gets.
const defaultGrace = 30

// plan is what a power verb writes. Each part is one JSON patch; they are sent
// in the order instance, vm, vmStatus. undoInstance takes the first back when a
// later one fails.
type plan struct {
	instance, undoInstance []patchOp
	vm                     []patchOp
	vmStatus               []patchOp
}

// runStrategy is what the machine's spec asks for, also in its deprecated form.
func runStrategy(vm *kubevirtv1.VirtualMachine) kubevirtv1.VirtualMachineRunStrategy {
	switch {
	case vm.Spec.RunStrategy != nil:
		return *vm.Spec.RunStrategy
	case vm.Spec.Running != nil && *vm.Spec.Running:
		return kubevirtv1.RunStrategyAlways
	}
	return kubevirtv1.RunStrategyHalted
}

// phase is "" for an instance whose status nobody has written yet.
func phase(vmi *kubevirtv1.VirtualMachineInstance) kubevirtv1.VirtualMachineInstancePhase {
	if vmi == nil {
		return ""
	}
	return vmi.Status.Phase
}

// active tells whether there is an instance that has not come to its end.
func active(vmi *kubevirtv1.VirtualMachineInstance) bool {
	return vmi != nil && !phase(vmi).IsFinal()
}

// planStart decides what start writes. vmi is nil when there is none.
func planStart(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance, paused bool) (plan, error) {
	if active(vmi) {
		if vmi.DeletionTimestamp != nil {
			return plan{}, vmConflict(vm.Name, "VM is already running: its instance is still being stopped, try again when it is gone")
		}
		return plan{}, vmConflict(vm.Name, "VM is already running")
	}
	start := kubevirtv1.VirtualMachineStateChangeRequest{Action: kubevirtv1.StartRequest}
	if paused {
		start.Data = map[string]string{kubevirtv1.StateChangeRequestPaused: "true"}
	}
	switch strategy := runStrategy(vm); strategy {
	case kubevirtv1.RunStrategyHalted:
		if !paused {
			return plan{vm: setRunning(vm, true)}, nil
		}
		ops, err := request(vm, start)
		return plan{vmStatus: ops}, err
	case kubevirtv1.RunStrategyManual, kubevirtv1.RunStrategyRerunOnFailure:
		requests := []kubevirtv1.VirtualMachineStateChangeRequest{start}
		if vmi != nil { // it ended, and its object stays until a request
			requests = []kubevirtv1.VirtualMachineStateChangeRequest{{Action: kubevirtv1.StopRequest, UID: vmi.UID}, start}
		}
		ops, err := request(vm, requests...)
		return plan{vmStatus: ops}, err
	default:
		return plan{}, vmConflict(vm.Name, "%s does not support manual start requests", strategy)
	}
}

// planStop decides what stop writes. grace is in seconds, nil to keep the instance's.
func planStop(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance, grace *int64) (plan, error) {
	if grace != nil && *grace < 0 {
		return plan{}, apierrors.NewBadRequest("gracePeriod: must be 0 or more")
	}
	var p plan
	if active(vmi) && grace != nil {
		p.instance, p.undoInstance = setGrace(vmi, *grace)
	}
	switch strategy := runStrategy(vm); strategy {
	case kubevirtv1.RunStrategyHalted:
		if !active(vmi) {
			return plan{}, vmConflict(vm.Name, "VM is not running")
		}
		if grace == nil || *grace >= graceOf(vmi) {
			return plan{}, vmConflict(vm.Name, "%s only supports manual stop requests with a shorter graceperiod (gracePeriod below %d)", strategy, graceOf(vmi))
		}
		return p, nil
	case kubevirtv1.RunStrategyManual, kubevirtv1.RunStrategyRerunOnFailure:
		if !active(vmi) {
			return plan{}, vmConflict(vm.Name, "VM is not running")
		}
		var err error
		p.vmStatus, err = request(vm, kubevirtv1.VirtualMachineStateChangeRequest{Action: kubevirtv1.StopRequest, UID: vmi.UID})
		return p, err
	case kubevirtv1.RunStrategyAlways, kubevirtv1.RunStrategyOnce:
		p.vm = setRunning(vm, false)
		return p, nil
	default:
		return plan{}, vmConflict(vm.Name, "%s does not support manual stop requests", strategy)
	}
}

// forcedGrace is the grace period of a forced restart.
const forcedGrace = 1

// planRestart decides what restart writes. grace is nil or, to force it, 0.
func planRestart(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance, grace *int64) (plan, error) {
	if grace != nil && *grace != 0 {
		return plan{}, apierrors.NewBadRequest("gracePeriodSeconds: a restart takes none, or 0 to force it")
	}
	switch strategy := runStrategy(vm); strategy {
	case kubevirtv1.RunStrategyAlways, kubevirtv1.RunStrategyManual, kubevirtv1.RunStrategyRerunOnFailure:
	default:
		return plan{}, vmConflict(vm.Name, "%s does not support manual restart requests", strategy)
	}
	if !active(vmi) {
		return plan{}, vmConflict(vm.Name, "VM is not running")
	}
	ops, err := request(vm,
		kubevirtv1.VirtualMachineStateChangeRequest{Action: kubevirtv1.StopRequest, UID: vmi.UID},
		kubevirtv1.VirtualMachineStateChangeRequest{Action: kubevirtv1.StartRequest})
	p := plan{vmStatus: ops}
	if grace != nil {
		p.instance, p.undoInstance = setGrace(vmi, forcedGrace)
	}
	return p, err
}

func graceOf(vmi *kubevirtv1.VirtualMachineInstance) int64 {
	if g := vmi.Spec.TerminationGracePeriodSeconds; g != nil {
		return *g
	}
	return defaultGrace
}
