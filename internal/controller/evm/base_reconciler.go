// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Logs reads what a pod's container said last.
type Logs interface {
	LastLine(ctx context.Context, namespace, pod string) (string, error)
}

// BaseReconciler carries out what NextBase decides, and deletes boot volumes that
// are past their retention.
type BaseReconciler struct {
	Client   client.Client // reads from a cache
	Live     client.Reader // reads from the API server
	Logs     Logs
	Settings Settings
	Log      *slog.Logger
	Now      func() time.Time

	// Importer is the image of the pods that fetch images, "" for none.
	Importer   string
	PullPolicy corev1.PullPolicy
}

// SetupWithManager makes mgr run the reconciler.
func (r *BaseReconciler) SetupWithManager(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).
		Named("basevolume").
		For(&corev1.PersistentVolumeClaim{}, builder.OnlyMetadata, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return o.GetLabels()[VolumeLabel] != ""
		}))).
		WithOptions(options()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of base volumes: %w", err)
	}
	return nil
}

// Reconcile makes one pass over a claim.
func (r *BaseReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if ok, err := found(ctx, r.Live, req.NamespacedName, claim); err != nil || !ok {
		return reconcile.Result{}, err
	}
	settings, err := r.Settings.Current(ctx)
	if err != nil {
		return reconcile.Result{RequeueAfter: time.Minute}, nil // told of elsewhere
	}
	if claim.Labels[VolumeLabel] == BootVolume {
		return r.expire(ctx, claim, settings.ReleasedVolumeRetention)
	}
	// Users may label claims as they like; only those in the images' namespace count.
	if claim.Labels[VolumeLabel] != BaseVolume || claim.Namespace != settings.BaseImageNamespace || claim.Annotations[digestAnnotation] == "" {
		return reconcile.Result{}, nil
	}
	in := BaseInput{Base: claim, Now: r.Now(), Config: settings, Importer: r.Importer, PullPolicy: r.PullPolicy}
	if err := r.read(ctx, &in); err != nil {
		return reconcile.Result{}, err
	}
	return r.apply(ctx, in, NextBase(in))
}

// expire deletes a boot volume that was released long enough ago.
func (r *BaseReconciler) expire(ctx context.Context, claim *corev1.PersistentVolumeClaim, keep time.Duration) (reconcile.Result, error) {
	expired, next := Expired([]corev1.PersistentVolumeClaim{*claim}, keep, r.Now())
	if len(expired) == 0 {
		return reconcile.Result{RequeueAfter: next}, nil
	}
	if err := failpoint.Hit(ctx, "controller.evm.before-expire"); err != nil {
		return reconcile.Result{}, err
	}
	// A machine may have taken it since the cache was filled.
	version, uid := claim.ResourceVersion, claim.UID
	err := r.Client.Delete(ctx, claim, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if err != nil {
		return again(err)
	}
	r.Log.Info("deleted a boot volume after its retention", "namespace", claim.Namespace, "claim", claim.Name)
	return reconcile.Result{}, nil
}

// read fills in what a decision about a base needs.
func (r *BaseReconciler) read(ctx context.Context, in *BaseInput) error {
	base, state := in.Base, stateOf(in.Base)
	ending := base.DeletionTimestamp != nil
	if !ending {
		var from client.Reader = r.Client
		if base.Annotations[collectAnnotation] != "" {
			from = r.Live
		}
		used, err := inUse(ctx, from, base)
		if err != nil {
			return err
		}
		in.Used = used
	}
	if state.Handle != "" && !ending {
		return nil
	}
	pod := &corev1.Pod{}
	ok, err := found(ctx, r.Live, client.ObjectKey{Namespace: base.Namespace, Name: importerName(base.Name)}, pod)
	if err != nil {
		return err
	}
	if ok {
		in.Pod = pod
		if pod.Status.Phase == corev1.PodRunning && r.Logs != nil {
			in.Progress = r.progress(ctx, pod)
		}
	}
	if !ending && (ok || !state.Imported) {
		return nil
	}
	if in.Snapshot, in.SnapshotErr = r.snapshot(ctx, base); in.Snapshot != nil || in.SnapshotErr != nil || ending {
		if ending {
			in.SnapshotErr = nil // there is none to delete, then
		}
		return nil
	}
	in.SnapshotClass, in.SnapshotErr = r.snapshotClass(ctx, base, in.Config.SnapshotClass)
	return nil
}

// inUse tells whether a machine refers to a base.
func inUse(ctx context.Context, from client.Reader, base *corev1.PersistentVolumeClaim) (bool, error) {
	list := &mecs.EnhancedVirtualMachineList{}
	if err := from.List(ctx, list); err != nil {
		return false, fmt.Errorf("list machines: %w", err)
	}
	for i := range list.Items {
		if b := list.Items[i].Status.BaseVolume; b != nil && b.Name == base.Name && b.Namespace == base.Namespace {
			return true, nil
		}
	}
	return false, nil
}

func (r *BaseReconciler) progress(ctx context.Context, pod *corev1.Pod) *mecs.Progress {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	line, err := r.Logs.LastLine(ctx, pod.Namespace, pod.Name)
	if err != nil {
		return nil // it only tells how far the import is
	}
	res, err := ParseResult(strings.TrimSpace(line))
	if err != nil {
		return nil
	}
	return res.Progress
}

// snapshot reads the base's snapshot and its content.
func (r *BaseReconciler) snapshot(ctx context.Context, base *corev1.PersistentVolumeClaim) (*Snapshot, error) {
	u := plain(SnapshotKind, "", "")
	ok, err := found(ctx, r.Live, client.ObjectKeyFromObject(base), u)
	if meta.IsNoMatchError(err) {
		return nil, errors.New(noSnapshots)
	}
	if err != nil || !ok {
		return nil, err
	}
	s := &Snapshot{Deleting: u.GetDeletionTimestamp() != nil}
	s.Ready, _, _ = unstructured.NestedBool(u.Object, "status", "readyToUse")
	s.Message, _, _ = unstructured.NestedString(u.Object, "status", "error", "message")
	name, _, _ := unstructured.NestedString(u.Object, "status", "boundVolumeSnapshotContentName")
	if name == "" || !s.Ready {
		return s, nil
	}
	content := plain(SnapshotContentKind, "", "")
	if ok, err := found(ctx, r.Live, client.ObjectKey{Name: name}, content); err != nil || !ok {
		return s, err
	}
	s.Handle, _, _ = unstructured.NestedString(content.Object, "status", "snapshotHandle")
	s.Driver, _, _ = unstructured.NestedString(content.Object, "spec", "driver")
	return s, nil
}

// snapshotClass chooses the class of the base's snapshot.
func (r *BaseReconciler) snapshotClass(ctx context.Context, base *corev1.PersistentVolumeClaim, configured string) (string, error) {
	class := &storagev1.StorageClass{}
	if name := base.Spec.StorageClassName; name == nil {
		return "", fmt.Errorf("base volume %s has no storage class", base.Name)
	} else if ok, err := found(ctx, r.Live, client.ObjectKey{Name: *name}, class); err != nil {
		return "", err
	} else if !ok {
		return "", fmt.Errorf("storage class %s is gone: create it again", *name)
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(SnapshotClassKind.GroupVersion().WithKind(SnapshotClassKind.Kind + "List"))
	err := r.Live.List(ctx, list)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return "", errors.New(noSnapshots)
	}
	if err != nil {
		return "", fmt.Errorf("list snapshot classes: %w", err)
	}
	var classes []SnapshotClass
	for i := range list.Items {
		u := &list.Items[i]
		driver, _, _ := unstructured.NestedString(u.Object, "driver")
		classes = append(classes, SnapshotClass{Name: u.GetName(), Driver: driver, Default: u.GetAnnotations()[defaultSnapshotClass] == "true"})
	}
	return chooseSnapshotClass(classes, configured, class.Provisioner)
}

// apply carries the plan out.
func (r *BaseReconciler) apply(ctx context.Context, in BaseInput, plan BasePlan) (reconcile.Result, error) {
	stored, want := in.Base, plan.Base
	next := want.DeepCopy()
	next.Finalizers = stored.Finalizers
	if !equality.Semantic.DeepEqual(stored, next) {
		if err := failpoint.Hit(ctx, "controller.base.before-write"); err != nil {
			return reconcile.Result{}, err
		}
		if err := patch(ctx, r.Client, stored, next); err != nil {
			return again(err)
		}
		stored = next
	}
	if plan.Create != nil {
		if err := failpoint.Hit(ctx, "controller.base.before-create"); err != nil {
			return reconcile.Result{}, err
		}
		if err := r.Client.Create(ctx, plan.Create); err == nil {
			r.Log.Info("created", "kind", fmt.Sprintf("%T", plan.Create), "base", want.Name, "image", want.Annotations[imageAnnotation])
		} else if !apierrors.IsAlreadyExists(err) {
			return reconcile.Result{}, fmt.Errorf("create %s: %w", plan.Create.GetName(), err)
		}
	}
	for _, obj := range plan.Delete {
		if err := failpoint.Hit(ctx, "controller.base.before-delete"); err != nil {
			return reconcile.Result{}, err
		}
		if err := remove(ctx, r.Client, obj); err != nil {
			return reconcile.Result{}, err
		}
	}
	if len(want.Finalizers) < len(stored.Finalizers) {
		next := stored.DeepCopy()
		next.Finalizers = want.Finalizers
		if err := failpoint.Hit(ctx, "controller.base.before-end"); err != nil {
			return reconcile.Result{}, err
		}
		return again(patch(ctx, r.Client, stored, next))
	}
	return reconcile.Result{RequeueAfter: plan.After}, nil
}
