// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/written"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Recorder tells Events (k8s.io/client-go/tools/events).
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Reconciler carries out what Next decides.
type Reconciler struct {
	Client client.Client // reads from a cache
	Live   client.Reader // reads from the API server
	Events Recorder
	Log    *slog.Logger
	Now    func() time.Time
	// ResizePolicy is for machines that have none of their own, "" for InPlace.
	ResizePolicy v1.ResizePolicy

	last    written.Last[*v1.VirtualMachine]
	deleted written.Deletions
	telling telling
}

// retryConflict is after how long a decision is made again that met a newer
// machine, unless the cache brings that before.
const retryConflict = 100 * time.Millisecond

// maxNote is what an Event's note may have, in bytes.
const maxNote = 1000

// SetupWithManager makes mgr run the reconciler.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).
		Named("virtualmachine").
		For(&v1.VirtualMachine{}).
		// By name, for that is what ties the two together: the end of another's
		// instance that was in the machine's way matters too.
		Watches(&v1.VirtualMachineInstance{}, &handler.EnqueueRequestForObject{}).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			SkipNameValidation:      new(true), // several managers in one process: tests
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of VirtualMachines: %w", err)
	}
	return nil
}

// Reconcile makes one pass over a machine.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	in, err := read(ctx, r.Client, req)
	if err != nil || in.VM == nil {
		r.last.Forget(req.NamespacedName)
		r.deleted.Forget(req.NamespacedName)
		return reconcile.Result{}, err
	}
	cached := in.VM.ResourceVersion
	in.VM = r.last.Newest(in.VM)
	in.Now, in.ResizePolicy = r.Now(), r.ResizePolicy
	plan := Next(in)
	if plan.Confirm {
		now := in.Now
		if in, err = read(ctx, r.Live, req); err != nil || in.VM == nil {
			return reconcile.Result{}, err
		}
		in.Live, in.Now, in.ResizePolicy = true, now, r.ResizePolicy
		plan = Next(in)
	}
	res, err := r.apply(ctx, in, plan, cached)
	if err != nil || res.RequeueAfter == retryConflict {
		r.last.Forget(req.NamespacedName)
	}
	return res, err
}

func read(ctx context.Context, from client.Reader, req reconcile.Request) (Input, error) {
	vm, vmi := &v1.VirtualMachine{}, &v1.VirtualMachineInstance{}
	if err := from.Get(ctx, req.NamespacedName, vm); apierrors.IsNotFound(err) {
		return Input{}, nil
	} else if err != nil {
		return Input{}, fmt.Errorf("read machine: %w", err)
	}
	if err := from.Get(ctx, req.NamespacedName, vmi); apierrors.IsNotFound(err) {
		return Input{VM: vm}, nil
	} else if err != nil {
		return Input{}, fmt.Errorf("read instance: %w", err)
	}
	return Input{VM: vm, VMI: vmi}, nil
}

// again is what a write that met a newer object, or none, leads to.
func again(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: retryConflict}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// apply carries the plan out. cached is the machine's version in the cache.
func (r *Reconciler) apply(ctx context.Context, in Input, plan Plan, cached string) (reconcile.Result, error) {
	stored, want := in.VM, plan.VM
	var failed error
	if plan.Create != nil {
		if failed = r.create(ctx, in.VM, plan.Create); failed == nil {
			// The new instance brings the next pass. The finalizer is there
			// already, by admission, or comes with it.
			return reconcile.Result{}, nil
		}
		if apierrors.IsAlreadyExists(failed) {
			return reconcile.Result{RequeueAfter: retryConflict}, nil // made since we looked
		}
		if apierrors.HasStatusCause(failed, corev1.NamespaceTerminatingCause) {
			return reconcile.Result{}, nil
		}
		if CreateFailed(want, failed.Error(), in.Now) {
			plan.Events = append(plan.Events, Event{corev1.EventTypeWarning, ReasonFailedCreate, "Error creating virtual machine instance: " + failed.Error()})
		}
	}
	if !equality.Semantic.DeepEqual(stored.ObjectMeta, want.ObjectMeta) || !equality.Semantic.DeepEqual(stored.Spec, want.Spec) {
		next := want.DeepCopy()
		next.Status = *stored.Status.DeepCopy()
		if err := failpoint.Hit(ctx, "controller.vm.before-write-spec"); err != nil {
			return reconcile.Result{}, err
		}
		if err := r.Client.Patch(ctx, next, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
			return again(err)
		}
		if err := failpoint.Hit(ctx, "controller.vm.after-write-spec"); err != nil {
			return reconcile.Result{}, err
		}
		r.last.Wrote(cached, next)
		if next.DeletionTimestamp != nil && len(next.Finalizers) == 0 {
			return reconcile.Result{}, nil // gone
		}
		if !equality.Semantic.DeepEqual(stored.Spec, want.Spec) {
			return reconcile.Result{}, nil // another machine now, as far as the plan goes
		}
		stored = next
	}
	if wait := r.telling.wait(in, plan); wait > 0 && failed == nil {
		plan.After = soonest(plan.After, wait)
	} else if !equality.Semantic.DeepEqual(stored.Status, want.Status) {
		next := stored.DeepCopy()
		next.Status = want.Status
		if err := failpoint.Hit(ctx, "controller.vm.before-write-status"); err != nil {
			return reconcile.Result{}, err
		}
		if err := r.Client.Status().Patch(ctx, next, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				return again(err)
			}
			return reconcile.Result{}, errors.Join(failed, fmt.Errorf("write status: %w", err))
		}
		if err := failpoint.Hit(ctx, "controller.vm.after-write-status"); err != nil {
			return reconcile.Result{}, err
		}
		r.last.Wrote(cached, next)
	}
	for _, e := range plan.Events {
		r.event(in.VM, nil, e.Type, e.Reason, "Reconcile", e.Note)
	}
	if failed != nil {
		return reconcile.Result{}, failed
	}
	if plan.Resize != nil {
		if again, err := r.resize(ctx, in, plan.Resize); err != nil || again {
			return reconcile.Result{RequeueAfter: retryConflict}, err
		}
	}
	if plan.Delete != nil {
		if err := r.delete(ctx, in.VM, plan.Delete); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: plan.After}, nil
}

func (r *Reconciler) create(ctx context.Context, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) error {
	if err := failpoint.Hit(ctx, "controller.vm.before-create-instance"); err != nil {
		return err
	}
	if err := r.Client.Create(ctx, vmi); err != nil {
		return fmt.Errorf("create instance %s: %w", vmi.Name, err)
	}
	if err := failpoint.Hit(ctx, "controller.vm.after-create-instance"); err != nil {
		return err
	}
	r.event(vm, vmi, corev1.EventTypeNormal, EventCreated, "CreateInstance",
		"Started the virtual machine by creating the new virtual machine instance "+vmi.Name)
	r.Log.Info("created instance", "namespace", vm.Namespace, "vm", vm.Name, "uid", vmi.UID)
	return nil
}

// resize changes the running instance's sizes. It returns whether to look again,
// where another has changed them since.
func (r *Reconciler) resize(ctx context.Context, in Input, c *LiveChange) (again bool, err error) {
	patch, err := c.Patch()
	if err != nil {
		return false, err
	}
	if err := failpoint.Hit(ctx, "controller.resize.before-patch-instance"); err != nil {
		return false, err
	}
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: in.VMI.Namespace, Name: in.VMI.Name}}
	err = r.Client.Patch(ctx, vmi, client.RawPatch(patchType, patch))
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsInvalid(err): // the test did not hold
		return true, nil
	case err != nil:
		return false, fmt.Errorf("change the sizes of instance %s: %w", in.VMI.Name, err)
	}
	if err := failpoint.Hit(ctx, "controller.resize.after-patch-instance"); err != nil {
		return false, err
	}
	r.event(in.VM, vmi, corev1.EventTypeNormal, EventResize, "ResizeInstance", c.Note)
	r.Log.Info("changed the instance's sizes", "namespace", in.VM.Namespace, "vm", in.VM.Name, "uid", in.VMI.UID, "change", c.Note)
	return false, nil
}

func (r *Reconciler) delete(ctx context.Context, vm *v1.VirtualMachine, d *Deletion) error {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: vm.Namespace, Name: d.Name, UID: d.UID}}
	this := written.Deletion{UID: d.UID}
	if r.deleted.Done(client.ObjectKeyFromObject(vm), this) {
		return nil
	}
	if err := failpoint.Hit(ctx, "controller.vm.before-delete-instance"); err != nil {
		return err
	}
	err := r.Client.Delete(ctx, vmi, client.Preconditions{UID: &d.UID})
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // gone; another may have its name
		return nil
	case err != nil:
		err = fmt.Errorf("delete instance %s: %w", d.Name, err)
		r.event(vm, nil, corev1.EventTypeWarning, ReasonFailedDelete, "DeleteInstance", err.Error())
		return err
	}
	if err := failpoint.Hit(ctx, "controller.vm.after-delete-instance"); err != nil {
		return err
	}
	r.deleted.Note(client.ObjectKeyFromObject(vm), this)
	r.event(vm, vmi, corev1.EventTypeNormal, EventDeleted, "DeleteInstance",
		"Stopped the virtual machine by deleting the virtual machine instance "+d.Name)
	r.Log.Info("deleted instance", "namespace", vm.Namespace, "vm", vm.Name, "uid", d.UID)
	return nil
}

func (r *Reconciler) event(vm *v1.VirtualMachine, related runtime.Object, kind, reason, action, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	r.Events.Eventf(vm, related, kind, reason, action, "%s", note)
}

// soonest is the smaller of two times to wait, of which 0 is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
