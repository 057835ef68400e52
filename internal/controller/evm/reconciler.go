// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/config"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Recorder tells Events (k8s.io/client-go/tools/events).
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Settings is the configuration as it is now.
type Settings interface {
	Current(ctx context.Context) (config.Config, error)
}

// Resolver asks a registry which digest an image's reference means. An error may
// have a reason of its own: Reason() string.
type Resolver interface {
	Resolve(ctx context.Context, ref string, c config.Config) (digest string, err error)
}

// Reconciler carries out what Next decides.
type Reconciler struct {
	Client   client.Client // reads from a cache
	Live     client.Reader // reads from the API server
	Events   Recorder
	Settings Settings
	Resolver Resolver
	Log      *slog.Logger
	Now      func() time.Time

	mu       sync.Mutex
	resolved map[string]resolution
}

// resolution is what a registry answered, for machines that ask at once.
type resolution struct {
	digest string
	err    error
	until  time.Time
}

// retryConflict is after how long a decision is made again that met a newer object.
const retryConflict = 100 * time.Millisecond

// maxNote is what an Event's note may have, in bytes.
const maxNote = 1000

// SetupWithManager makes mgr run the reconciler.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).
		Named("enhancedvirtualmachine").
		For(&mecs.EnhancedVirtualMachine{}).
		Watches(&v1.VirtualMachine{}, &handler.EnqueueRequestForObject{}). // of the same name
		WatchesMetadata(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.concerned)).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.unmade)). // the configuration alone is in the cache
		WithOptions(options()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of EnhancedVirtualMachines: %w", err)
	}
	return nil
}

func options() controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: 4,
		SkipNameValidation:      new(true), // several managers in one process: tests
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
	}
}

// concerned are the machines of a claim: of a boot volume the one whose it is, of a
// base those that wait for it.
func (r *Reconciler) concerned(ctx context.Context, claim client.Object) []reconcile.Request {
	if claim.GetLabels()[VolumeLabel] != BaseVolume {
		if name := claim.GetLabels()[OwnerLabel]; name != "" {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: claim.GetNamespace(), Name: name}}}
		}
		return nil
	}
	list := &mecs.EnhancedVirtualMachineList{}
	if err := r.Client.List(ctx, list); err != nil {
		r.Log.Error("list machines", "error", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		evm := &list.Items[i]
		if b := evm.Status.BaseVolume; b != nil && b.Name == claim.GetName() && b.Namespace == claim.GetNamespace() && evm.Status.VirtualMachine == "" {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(evm)})
		}
	}
	return out
}

// unmade are the machines that have no VirtualMachine yet: a configuration that is
// mended may be all that they wait for.
func (r *Reconciler) unmade(ctx context.Context, _ client.Object) []reconcile.Request {
	list := &mecs.EnhancedVirtualMachineList{}
	if err := r.Client.List(ctx, list); err != nil {
		r.Log.Error("list machines", "error", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if list.Items[i].Status.VirtualMachine == "" {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// Reconcile makes one pass over a machine.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	in, err := r.read(ctx, req.NamespacedName)
	if err != nil || in.EVM == nil {
		return reconcile.Result{}, err
	}
	return r.apply(ctx, in, Next(in))
}

// found gets an object; false if there is none.
func found(ctx context.Context, from client.Reader, key client.ObjectKey, obj client.Object) (bool, error) {
	err := from.Get(ctx, key, obj)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %T %s: %w", obj, key, err)
	}
	return true, nil
}

func (r *Reconciler) read(ctx context.Context, key types.NamespacedName) (Input, error) {
	evm := &mecs.EnhancedVirtualMachine{}
	if ok, err := found(ctx, r.Client, key, evm); err != nil || !ok {
		return Input{}, err
	}
	in := Input{EVM: evm, Now: r.Now()}
	if evm.DeletionTimestamp == nil && !slices.Contains(evm.Finalizers, Finalizer) {
		return in, nil // that comes first
	}
	in.Config, in.ConfigErr = r.Settings.Current(ctx)
	// When something is missing, or is about to be, a cache is not asked.
	var from client.Reader = r.Client
	if evm.DeletionTimestamp != nil {
		from = r.Live
	}
	vm, claim := &v1.VirtualMachine{}, &corev1.PersistentVolumeClaim{}
	if ok, err := found(ctx, from, key, vm); err != nil {
		return Input{}, err
	} else if ok {
		in.VM = vm
	}
	// Of claims the cache has the metadata alone.
	ok, err := found(ctx, r.Live, client.ObjectKey{Namespace: evm.Namespace, Name: claimName(evm)}, claim)
	if err != nil {
		return Input{}, err
	}
	if ok {
		in.Claim = claim
	}
	if evm.DeletionTimestamp != nil || in.ConfigErr != nil || ok && claim.Status.Phase == corev1.ClaimBound {
		return in, nil
	}
	class := evm.Spec.StorageClassName
	if ok && claim.Spec.StorageClassName != nil {
		class = claim.Spec.StorageClassName
	}
	if in.Class, in.ClassErr = r.class(ctx, class); in.Class == nil || ok || evm.Spec.Source.RegistryImageURL == "" {
		return in, nil
	}
	if in.Digest = evm.Status.ImageDigest; in.Digest == "" {
		if in.Digest, in.DigestErr = r.resolve(ctx, in.Config.Image(evm.Spec.Source.RegistryImageURL), in.Config); in.DigestErr != nil {
			return in, nil
		}
	}
	base := &corev1.PersistentVolumeClaim{}
	ok, err = found(ctx, r.Live, client.ObjectKey{Namespace: in.Config.BaseImageNamespace, Name: baseName(in.Digest, in.Class.Name, volumeMode(evm))}, base)
	if err != nil {
		return Input{}, err
	}
	if ok {
		in.Base = base
	}
	return in, nil
}

const defaultClass = "storageclass.kubernetes.io/is-default-class"

// class is the storage class of that name, or the default.
func (r *Reconciler) class(ctx context.Context, name *string) (*Class, error) {
	list := &storagev1.StorageClassList{}
	if err := r.Live.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list storage classes: %w", err)
	}
	var best *storagev1.StorageClass
	var names []string
	for i := range list.Items {
		c := &list.Items[i]
		names = append(names, c.Name)
		switch {
		case name != nil && c.Name == *name:
			best = c
		case name == nil && c.Annotations[defaultClass] == "true" && (best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp)):
			best = c // of several the newest, as Kubernetes does
		}
	}
	slices.Sort(names)
	there := "there is none"
	if len(names) > 0 {
		there = "there are " + strings.Join(names, ", ")
	}
	switch {
	case best == nil && name != nil:
		return nil, fmt.Errorf("there is no storage class %s: create it, or name another in spec.storageClassName of a new machine; %s", *name, there)
	case best == nil:
		return nil, fmt.Errorf("no storage class is the default: name one in spec.storageClassName of a new machine, or mark one as default; %s", there)
	}
	wait := best.VolumeBindingMode != nil && *best.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	return &Class{Name: best.Name, Provisioner: best.Provisioner, WaitForConsumer: wait}, nil
}

const (
	resolveLimit = 20 * time.Second
	// resolvedFor is how long an answer holds for others that ask; an error, shorter.
	resolvedFor, failedFor = 5 * time.Second, 1 * time.Second
	maxResolved            = 1000
)

// resolve asks the registry, once for all that ask at the same time.
func (r *Reconciler) resolve(ctx context.Context, ref string, c config.Config) (string, error) {
	if _, digest, ok := strings.Cut(ref, "@"); ok {
		return digest, nil
	}
	if r.Resolver == nil {
		return "", errors.New("tags cannot be resolved by this installation: name the image by its digest (name@sha256:...)")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Now()
	if was, ok := r.resolved[ref]; ok && now.Before(was.until) {
		return was.digest, was.err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	is := resolution{}
	is.digest, is.err = r.Resolver.Resolve(ctx, ref, c)
	is.until = r.Now().Add(resolvedFor)
	if is.err != nil {
		is.until = r.Now().Add(failedFor)
	}
	if r.resolved == nil || len(r.resolved) >= maxResolved {
		r.resolved = map[string]resolution{}
	}
	r.resolved[ref] = is
	return is.digest, is.err
}

// again is what a write that met a newer object, or none, leads to.
func again(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: retryConflict}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// patch writes what differs of an object's metadata and spec.
func patch(ctx context.Context, c client.Client, before, after client.Object) error {
	return c.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// apply carries the plan out.
func (r *Reconciler) apply(ctx context.Context, in Input, plan Plan) (reconcile.Result, error) {
	stored, want := in.EVM, plan.EVM
	if len(want.Finalizers) > len(stored.Finalizers) {
		if err := failpoint.Hit(ctx, "controller.evm.before-finalizer"); err != nil {
			return reconcile.Result{}, err
		}
		return again(patch(ctx, r.Client, stored, want)) // which brings the next pass
	}
	var failed error
	for _, obj := range plan.Create {
		if err := failpoint.Hit(ctx, "controller.evm.before-create"); err != nil {
			return reconcile.Result{}, err
		}
		err := r.Client.Create(ctx, obj)
		if err == nil {
			r.Log.Info("created", "kind", fmt.Sprintf("%T", obj), "namespace", obj.GetNamespace(), "name", obj.GetName(), "evm", want.Name)
		}
		if err == nil || apierrors.IsAlreadyExists(err) {
			continue
		}
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && obj.GetNamespace() == want.Namespace {
			return reconcile.Result{}, nil
		}
		failed = fmt.Errorf("create %s: %w", obj.GetName(), err)
		CreateFailed(want, obj, err, in.Now)
		break
	}
	for _, obj := range plan.Delete {
		if err := failpoint.Hit(ctx, "controller.evm.before-delete"); err != nil {
			return reconcile.Result{}, err
		}
		if err := remove(ctx, r.Client, obj); err != nil {
			return reconcile.Result{}, err
		}
	}
	if plan.Claim != nil && !equality.Semantic.DeepEqual(plan.Claim, in.Claim) {
		if err := failpoint.Hit(ctx, "controller.evm.before-write-claim"); err != nil {
			return reconcile.Result{}, err
		}
		if err := patch(ctx, r.Client, in.Claim, plan.Claim); err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				return reconcile.Result{RequeueAfter: retryConflict}, nil
			}
			failed = errors.Join(failed, fmt.Errorf("write claim %s: %w", plan.Claim.Name, err))
			r.event(want, corev1.EventTypeWarning, "FailedUpdate", failed.Error())
		}
	}
	if plan.VM != nil {
		if err := failpoint.Hit(ctx, "controller.evm.before-write-machine"); err != nil {
			return reconcile.Result{}, err
		}
		if err := patch(ctx, r.Client, in.VM, plan.VM); err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				return reconcile.Result{RequeueAfter: retryConflict}, nil
			}
			failed = errors.Join(failed, fmt.Errorf("write VirtualMachine %s: %w", plan.VM.Name, err))
			r.event(want, corev1.EventTypeWarning, "FailedUpdate", failed.Error())
		}
	}
	if !equality.Semantic.DeepEqual(stored.Status, want.Status) {
		next := stored.DeepCopy()
		next.Status = want.Status
		if err := failpoint.Hit(ctx, "controller.evm.before-write-status"); err != nil {
			return reconcile.Result{}, err
		}
		err := r.Client.Status().Patch(ctx, next, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
		if err != nil && failed == nil {
			return again(err)
		}
		stored = next
	}
	for _, e := range plan.Events {
		r.event(want, e.Type, e.Reason, e.Note)
	}
	if failed != nil {
		return reconcile.Result{}, failed
	}
	if len(want.Finalizers) < len(stored.Finalizers) {
		next := stored.DeepCopy()
		next.Finalizers = want.Finalizers
		if err := failpoint.Hit(ctx, "controller.evm.before-end"); err != nil {
			return reconcile.Result{}, err
		}
		return again(patch(ctx, r.Client, stored, next))
	}
	after := plan.After
	if p := in.Config.ResyncPeriod; p > 0 && (after == 0 || p < after) {
		after = p
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// remove deletes an object, if it is still the one that was read.
func remove(ctx context.Context, c client.Client, obj client.Object) error {
	var opts []client.DeleteOption
	if uid := obj.GetUID(); uid != "" {
		opts = append(opts, client.Preconditions{UID: &uid})
	}
	err := c.Delete(ctx, obj, opts...)
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("delete %s: %w", obj.GetName(), err)
}

// CreateFailed writes into the machine's status what could not be made.
func CreateFailed(evm *mecs.EnhancedVirtualMachine, obj client.Object, err error, now time.Time) {
	d := &decision{in: Input{Now: now}, evm: evm, st: &evm.Status}
	switch obj.(type) {
	case *v1.VirtualMachine:
		d.set(mecs.ConditionReady, false, ReasonFailedCreate, "the VirtualMachine is refused: %s", err)
	case *corev1.PersistentVolumeClaim:
		if obj.GetLabels()[VolumeLabel] == BaseVolume {
			d.set(mecs.ConditionImageReady, false, ReasonFailedCreate, "the base volume is refused: %s", err)
			return
		}
		d.set(mecs.ConditionBootVolumeReady, false, ReasonFailedCreate, "claim %s is refused: %s", obj.GetName(), err)
	default:
		text := err.Error()
		if apierrors.IsNotFound(err) {
			text = noSnapshots
		}
		d.set(mecs.ConditionBootVolumeReady, false, ReasonFailedCreate, "the snapshot to clone from cannot be made known in namespace %s: %s", evm.Namespace, text)
	}
}

// noSnapshots is what to do where the cluster has no snapshots at all.
const noSnapshots = "this cluster has no VolumeSnapshots: install the CustomResourceDefinitions and the controller of snapshot.storage.k8s.io/v1, and use a storage class whose driver takes snapshots"

func (r *Reconciler) event(evm *mecs.EnhancedVirtualMachine, kind, reason, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	r.Events.Eventf(evm, nil, kind, reason, "Reconcile", "%s", note)
}
