// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func (o Options) mutateVM(req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	var vm, old v1.VirtualMachine
	if resp, err := decode(req, &vm, &old); resp != nil || err != nil {
		return resp, err
	}
	before, err := json.Marshal(&vm)
	if err != nil {
		return nil, fmt.Errorf("encode VirtualMachine: %w", err)
	}
	switch {
	case req.Operation == admissionv1.Create:
		DefaultVM(&vm, o.Cluster)
	case vm.DeletionTimestamp == nil:
		KeepIdentity(&vm, &old)
	}
	return patched(req, before, &vm)
}

func (o Options) mutateVMI(req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	trusted := o.Trusted.Includes(req.UserInfo)
	if req.Operation != admissionv1.Create {
		if trusted {
			return allow(), nil
		}
		return restoreStatus(req)
	}
	var vmi v1.VirtualMachineInstance
	if resp, err := decode(req, &vmi, nil); resp != nil || err != nil {
		return resp, err
	}
	before, err := json.Marshal(&vmi)
	if err != nil {
		return nil, fmt.Errorf("encode VirtualMachineInstance: %w", err)
	}
	if !trusted {
		vmi.Status = v1.VirtualMachineInstanceStatus{}
	}
	DefaultVMI(&vmi, o.Cluster)
	return patched(req, before, &vmi)
}

func (o Options) validateVM(req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	var vm, old v1.VirtualMachine
	if resp, err := decode(req, &vm, &old); resp != nil || err != nil {
		return resp, err
	}
	if req.Operation == admissionv1.Create {
		return answer(req, ValidateVM(&vm, nil, o.Cluster)), nil
	}
	// What is stored stays usable: a machine that an older version accepted can
	// still be labelled, and one that is going can go.
	if vm.DeletionTimestamp != nil || apiequality.Semantic.DeepEqual(vm.Spec, old.Spec) {
		return allow(), nil
	}
	return answer(req, ValidateVM(&vm, &old, o.Cluster)), nil
}

func (o Options) validateVMI(req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	trusted := o.Trusted.Includes(req.UserInfo)
	if trusted && req.Operation != admissionv1.Create {
		return allow(), nil
	}
	var vmi, old v1.VirtualMachineInstance
	if resp, err := decode(req, &vmi, &old); resp != nil || err != nil {
		return resp, err
	}
	if req.Operation != admissionv1.Create {
		return answer(req, ValidateVMI(&vmi, &old, o.Cluster)), nil
	}
	return answer(req, ValidateVMI(&vmi, nil, o.Cluster)), nil
}

// decode reads the request's objects. A response means that a value is of the
// wrong form, which is the user's mistake; an error is anybody else's.
func decode(req *admissionv1.AdmissionRequest, obj, old any) (*admissionv1.AdmissionResponse, error) {
	causes, err := decodeInto(req.Object.Raw, obj)
	if err != nil {
		return nil, err
	}
	if len(causes) > 0 {
		return answer(req, Result{Causes: causes}), nil
	}
	if old != nil && req.Operation == admissionv1.Update {
		if _, err := decodeInto(req.OldObject.Raw, old); err != nil {
			return nil, fmt.Errorf("object before the change: %w", err)
		}
	}
	return nil, nil
}

// patched answers with the difference between before, the object as it was
// decoded, and obj. Only that difference is applied to what was sent, so that
// nothing is lost that the Go types do not know.
func patched(req *admissionv1.AdmissionRequest, before []byte, obj any) (*admissionv1.AdmissionResponse, error) {
	after, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode defaulted object: %w", err)
	}
	diff, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil {
		return nil, fmt.Errorf("compare object with its defaulted form: %w", err)
	}
	merged, err := jsonpatch.MergePatch(req.Object.Raw, diff)
	if err != nil {
		return nil, fmt.Errorf("apply defaults: %w", err)
	}
	return replaceParts(req.Object.Raw, merged)
}

// restoreStatus puts back the status of an instance that an ordinary user
// changed: the kind has no status subresource, so a user who sends a whole
// object sends a status too, usually an old one.
func restoreStatus(req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	var obj, old map[string]json.RawMessage
	if err := json.Unmarshal(req.Object.Raw, &obj); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
		return nil, fmt.Errorf("decode object before the change: %w", err)
	}
	if status, ok := old["status"]; ok {
		obj["status"] = status
	} else {
		delete(obj, "status")
	}
	want, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode object: %w", err)
	}
	return replaceParts(req.Object.Raw, want)
}

type patchOperation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
}

// replaceParts makes the JSON patch (RFC 6902) that turns one object into
// another by replacing whole metadata, spec and status.
func replaceParts(from, to []byte) (*admissionv1.AdmissionResponse, error) {
	var a, b map[string]json.RawMessage
	if err := json.Unmarshal(from, &a); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	if err := json.Unmarshal(to, &b); err != nil {
		return nil, fmt.Errorf("decode changed object: %w", err)
	}
	var ops []patchOperation
	for _, part := range []string{"metadata", "spec", "status"} {
		was, had := a[part]
		is, has := b[part]
		switch {
		case !has && had:
			ops = append(ops, patchOperation{Op: "remove", Path: "/" + part})
		case has && (!had || !sameJSON(was, is)):
			ops = append(ops, patchOperation{Op: "add", Path: "/" + part, Value: is})
		}
	}
	resp := allow()
	if len(ops) == 0 {
		return resp, nil
	}
	patch, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	t := admissionv1.PatchTypeJSONPatch
	resp.Patch, resp.PatchType = patch, &t
	return resp, nil
}

func sameJSON(a, b []byte) bool {
	return bytes.Equal(a, b) || jsonpatch.Equal(a, b)
}
