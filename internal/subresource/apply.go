// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// maxAttempts is how often a decision is taken anew because the objects changed
// under it.
const maxAttempts = 5

// vm reads a machine. A missing one is a 404 for the user.
func (s *Server) vm(ctx context.Context, t target) (*kubevirtv1.VirtualMachine, error) {
	vm := &kubevirtv1.VirtualMachine{}
	err := s.client.Get(ctx, types.NamespacedName{Namespace: t.namespace, Name: t.name}, vm)
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewNotFound(vmResource, t.name)
	}
	if err != nil {
		return nil, fmt.Errorf("read virtual machine %s/%s: %w", t.namespace, t.name, err)
	}
	return vm, nil
}

// vmi reads an instance. A missing one is a 404 for the user.
func (s *Server) vmi(ctx context.Context, t target) (*kubevirtv1.VirtualMachineInstance, error) {
	vmi := &kubevirtv1.VirtualMachineInstance{}
	err := s.client.Get(ctx, types.NamespacedName{Namespace: t.namespace, Name: t.name}, vmi)
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewNotFound(vmiResource, t.name)
	}
	if err != nil {
		return nil, fmt.Errorf("read virtual machine instance %s/%s: %w", t.namespace, t.name, err)
	}
	return vmi, nil
}

// power reads the machine and its instance, asks decide what to write, and
// writes it; when something changed in between, it starts over.
func (s *Server) power(ctx context.Context, t target, dryRun bool, decide func(*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance) (plan, error)) error {
	var seen string
	var last error
	for range maxAttempts {
		vm, err := s.vm(ctx, t)
		if err != nil {
			return err
		}
		vmi, err := s.vmi(ctx, t)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err != nil {
			vmi = nil
		}
		now := vm.ResourceVersion
		if vmi != nil { // its version also changes by our own undo, so only what is tested counts
			now += fmt.Sprint("/", vmi.UID, graceOf(vmi), phase(vmi))
		}
		if now == seen { // what was refused is not stale: it is refused
			return last
		}
		seen = now
		p, err := decide(vm, vmi)
		if err != nil {
			return err
		}
		if last = s.apply(ctx, vm, vmi, p, dryRun); !stale(last) {
			return last
		}
	}
	return vmConflict(t.name, "it changes faster than the request can be applied: %v", last)
}

// stale tells whether a patch's tests may have failed.
func stale(err error) bool {
	return apierrors.IsConflict(err) || code(err) == http.StatusUnprocessableEntity
}

func code(err error) int32 {
	var s apierrors.APIStatus
	if errors.As(err, &s) {
		return s.Status().Code
	}
	return 0
}

func (s *Server) apply(ctx context.Context, vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance, p plan, dryRun bool) error {
	if err := s.patch(ctx, vmi, p.instance, dryRun, false); err != nil {
		return fmt.Errorf("grace period of instance %s/%s: %w", vm.Namespace, vm.Name, err)
	}
	err := s.patch(ctx, vm, p.vm, dryRun, false)
	if err == nil {
		err = s.patch(ctx, vm, p.vmStatus, dryRun, true)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("virtual machine %s/%s: %w", vm.Namespace, vm.Name, err)
	if dryRun {
		return err
	}
	if undo := s.patch(context.WithoutCancel(ctx), vmi, p.undoInstance, false, false); undo != nil {
		s.log.Warn("grace period not put back after a failed request", "namespace", vm.Namespace, "vm", vm.Name, "error", undo)
	}
	return err
}

// patch sends ops, if any, about a copy of obj.
func (s *Server) patch(ctx context.Context, obj client.Object, ops []patchOp, dryRun, status bool) error {
	if len(ops) == 0 {
		return nil
	}
	body, err := json.Marshal(ops)
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	patch := client.RawPatch(types.JSONPatchType, body)
	obj = obj.DeepCopyObject().(client.Object)
	switch {
	case status && dryRun:
		return s.client.Status().Patch(ctx, obj, patch, client.DryRunAll)
	case status:
		return s.client.Status().Patch(ctx, obj, patch)
	case dryRun:
		return s.client.Patch(ctx, obj, patch, client.DryRunAll)
	}
	return s.client.Patch(ctx, obj, patch)
}
