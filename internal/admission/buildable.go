// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/machine"
)

// buildable has a machine built from a spec that no other check found fault
// with, on a host of each kind. What cannot be built anywhere is refused here
// and not by the node agent, when nobody looks any more.
func (v *validator) buildable(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if len(v.result.Causes) > 0 {
		return
	}
	vmi := &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "namespace", Name: "name", UID: "00000000-0000-4000-8000-000000000000"},
		Spec:       *spec.DeepCopy(),
	}
	// Which versions of the machine type there are is the node's affair.
	vmi.Spec.Domain.Machine = nil
	attachments := machine.Attachments{
		Interfaces: map[string]machine.Interface{},
		CloudInit:  map[string]string{},
		Claims:     map[string]machine.Claim{},
		Now:        time.Unix(0, 0),
	}
	for i, nic := range spec.Domain.Devices.Interfaces {
		mac := nic.MacAddress
		if mac == "" {
			mac = "02:00:00:00:00:01"
		}
		attachments.Interfaces[nic.Name] = machine.Interface{Tap: "tap", FD: machine.TapFD(i), MAC: mac}
	}
	for _, vol := range spec.Volumes {
		// Which claims are block devices is the cluster's affair.
		attachments.Claims[vol.Name] = machine.Claim{Direct: true}
		attachments.CloudInit[vol.Name] = contract.MachineDir + "/" + vol.Name + ".iso"
	}
	for _, accel := range []machine.Accel{machine.KVM, machine.TCG} {
		host := machine.Host{QEMUVersion: referenceQEMU, Accel: accel, Arch: v.cluster.Architecture}
		_, err := machine.New(vmi, host, attachments)
		for _, e := range flatten(err) {
			v.unbuildable(p, e)
		}
	}
}

// referenceQEMU stands for any QEMU that a launcher image may hold.
const referenceQEMU = "10.0.0"

func flatten(err error) []error {
	if agg := utilerrors.Aggregate(nil); errors.As(err, &agg) {
		return utilerrors.Flatten(agg).Errors()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

func (v *validator) unbuildable(p *field.Path, err error) {
	cause := metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: p.String(), Message: p.String() + ": no machine can be built from it: " + err.Error()}
	if fe := (*field.Error)(nil); errors.As(err, &fe) {
		if rest, ok := strings.CutPrefix(fe.Field, "spec"); ok {
			cause.Field = p.String() + rest
		} else {
			cause.Field = fe.Field
		}
		cause.Message = cause.Field + ": " + fe.ErrorBody()
	}
	if !slices.Contains(v.result.Causes, cause) { // both kinds of host may say the same
		v.result.Causes = append(v.result.Causes, cause)
	}
}
