// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi"
)

func hasCondition(vmi *kubevirtv1.VirtualMachineInstance, t kubevirtv1.VirtualMachineInstanceConditionType) bool {
	for _, c := range vmi.Status.Conditions {
		if c.Type == t && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func isRunning(vmi *kubevirtv1.VirtualMachineInstance) bool {
	return phase(vmi) == kubevirtv1.Running
}

func isPaused(vmi *kubevirtv1.VirtualMachineInstance) bool {
	return hasCondition(vmi, kubevirtv1.VMIPaused)
}

// disabled tells whether an autoattach field says no; absent means yes.
func disabled(autoattach *bool) bool { return autoattach != nil && !*autoattach }

// checkStream says why a console or a screen cannot be opened now. 400 lets the
// client try again, as it does while a machine starts; 409 is final.
func checkStream(vmi *kubevirtv1.VirtualMachineInstance) error {
	switch phase(vmi) {
	case kubevirtv1.Running:
		return nil
	case kubevirtv1.Failed:
		why := ""
		if vmi.Status.Reason != "" {
			why = ": " + vmi.Status.Reason
		}
		return vmiConflict(vmi.Name, "VMI is in failed status%s", why)
	}
	return apierrors.NewBadRequest(notRunning(vmi))
}

func checkConsole(vmi *kubevirtv1.VirtualMachineInstance) error {
	if disabled(vmi.Spec.Domain.Devices.AutoattachSerialConsole) {
		return apierrors.NewBadRequest("No serial consoles are present: spec.domain.devices.autoattachSerialConsole is false")
	}
	return checkStream(vmi)
}

func checkGraphics(vmi *kubevirtv1.VirtualMachineInstance) error {
	if disabled(vmi.Spec.Domain.Devices.AutoattachGraphicsDevice) {
		return apierrors.NewBadRequest("No graphics devices are present: spec.domain.devices.autoattachGraphicsDevice is false")
	}
	return checkStream(vmi)
}

func notRunning(vmi *kubevirtv1.VirtualMachineInstance) string {
	p := string(phase(vmi))
	if p == "" {
		p = "not set yet"
	}
	return fmt.Sprintf("VMI is not running (its phase is %s)", p)
}

// checkVerb says why a power verb cannot be carried out now.
func checkVerb(verb nodeapi.Verb, vmi *kubevirtv1.VirtualMachineInstance) error {
	if !isRunning(vmi) {
		return vmiConflict(vmi.Name, "%s", notRunning(vmi))
	}
	switch verb {
	case nodeapi.Pause:
		if p := vmi.Spec.LivenessProbe; p != nil && p.GuestAgentPing == nil {
			return apierrors.NewForbidden(vmiResource, vmi.Name, fmt.Errorf("a VMI with a livenessProbe other than guestAgentPing cannot be paused: the probe would kill it"))
		}
		if isPaused(vmi) {
			return vmiConflict(vmi.Name, "VMI is already paused")
		}
	case nodeapi.Unpause:
		if !isPaused(vmi) {
			return vmiConflict(vmi.Name, "VMI is not paused")
		}
	case nodeapi.SoftReboot:
		if isPaused(vmi) {
			return vmiConflict(vmi.Name, "VMI is paused")
		}
		if !hasCondition(vmi, kubevirtv1.VMIAgentConnected) && !hasACPI(vmi) {
			return vmiConflict(vmi.Name, "VMI has neither the guest agent connected nor ACPI: reset or restart it instead")
		}
	}
	return nil
}

func hasACPI(vmi *kubevirtv1.VirtualMachineInstance) bool {
	f := vmi.Spec.Domain.Features
	return f == nil || f.ACPI == nil || f.ACPI.Enabled == nil || *f.ACPI.Enabled
}

// nodeOf is the node whose agent has the instance.
func nodeOf(vmi *kubevirtv1.VirtualMachineInstance) (string, error) {
	if vmi.Status.NodeName != "" {
		return vmi.Status.NodeName, nil
	}
	if n := vmi.Labels[kubevirtv1.NodeNameLabel]; n != "" {
		return n, nil
	}
	return "", apierrors.NewBadRequest("VMI is on no node yet: status.nodeName is empty")
}

func refOf(vmi *kubevirtv1.VirtualMachineInstance) nodeapi.VMIRef {
	return nodeapi.VMIRef{Namespace: vmi.Namespace, Name: vmi.Name, UID: vmi.UID}
}
