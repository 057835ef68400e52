// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// resize checks what a machine says about changes of its size while it runs.
// Sizes themselves are checked where they are for a new machine; whether the
// running one can be changed to them is told by the condition RestartRequired, as
// in KubeVirt, since the machine is right and only has to be started again.
func (v *validator) resize(vm *v1.VirtualMachine) {
	template := child(v.root, "spec").Child("template", "metadata")
	for _, m := range []struct {
		path *field.Path
		list map[string]string
	}{{child(v.root, "metadata"), vm.Annotations}, {template, vm.Spec.Template.Annotations}} {
		p, ok := m.list[v1.ResizePolicyAnnotation]
		known := []string{string(v1.ResizeInPlace), string(v1.ResizeInPlaceOrMigrate), string(v1.ResizeRestartOnly)}
		if ok && !slices.Contains(known, p) {
			v.invalid(m.path.Child("annotations").Key(v1.ResizePolicyAnnotation), p, "is not a policy; use %s", orList(known))
		}
	}
	f := vm.Spec.LiveUpdateFeatures
	if f == nil {
		return
	}
	p := child(v.root, "spec").Child("liveUpdateFeatures")
	if f.CPU != nil && f.CPU.MaxSockets != nil {
		sockets := int64(1)
		if c := vm.Spec.Template.Spec.Domain.CPU; c != nil {
			sockets = max(sockets, c.Sockets)
		}
		if n := *f.CPU.MaxSockets; n < sockets {
			v.invalid(p.Child("cpu", "maxSockets"), n, "is less than the machine's sockets (%d); use as many or more", sockets)
		}
	}
	if f.Memory != nil && f.Memory.MaxGuest != nil {
		v.guestMemory(p.Child("memory", "maxGuest"), f.Memory.MaxGuest)
	}
}
