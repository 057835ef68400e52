// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/controller/written"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podtemplate"
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

	LauncherImage      string
	LauncherPullPolicy corev1.PullPolicy
	// Overhead is the memory that QEMU needs for vmi beyond the guest's.
	Overhead func(vmi *v1.VirtualMachineInstance, kvm bool) resource.Quantity

	last    written.Last[*v1.VirtualMachineInstance]
	deleted written.Deletions
}

// retryConflict is after how long a decision is made again that met a newer
// instance, unless the cache brings that before.
const retryConflict = 100 * time.Millisecond

// Reconcile makes one pass over an instance.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	vmi := &v1.VirtualMachineInstance{}
	if err := r.Client.Get(ctx, req.NamespacedName, vmi); err != nil {
		r.last.Forget(req.NamespacedName)
		r.deleted.Forget(req.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	cached := vmi.ResourceVersion
	vmi = r.last.Newest(vmi)
	nodes := &corev1.NodeList{}
	if err := r.Client.List(ctx, nodes); err != nil {
		return reconcile.Result{}, fmt.Errorf("list nodes: %w", err)
	}
	in := Input{VMI: vmi, Nodes: Survey(nodes.Items, vmi), Now: r.Now(), Overhead: r.Overhead}
	var err error
	if in.Pods, err = pods(ctx, r.Client, vmi); err != nil {
		return reconcile.Result{}, err
	}
	if in.Claims, err = r.readClaims(ctx, vmi, len(in.Pods) == 0); err != nil {
		return reconcile.Result{}, err
	}
	plan := Next(in)
	if plan.Confirm {
		in.Live = true
		if in.Pods, err = pods(ctx, r.Live, vmi); err != nil {
			return reconcile.Result{}, err
		}
		plan = Next(in)
	}
	res, err := r.apply(ctx, in, plan, cached)
	if err != nil || res.RequeueAfter == retryConflict {
		r.last.Forget(req.NamespacedName)
	}
	return res, err
}

// pods are those that vmi controls. There can be but one, by its name; a list by
// labels would look through all pods of the namespace in each pass.
func pods(ctx context.Context, from client.Reader, vmi *v1.VirtualMachineInstance) ([]corev1.Pod, error) {
	pod := corev1.Pod{}
	name := podtemplate.PodName(vmi.Name, vmi.UID)
	err := from.Get(ctx, client.ObjectKey{Namespace: vmi.Namespace, Name: name}, &pod)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read pod %s of instance %s/%s: %w", name, vmi.Namespace, vmi.Name, err)
	case !ours(&pod, vmi) || pod.Labels[v1.AppLabel] != v1.AppLauncher || pod.Labels[v1.CreatedByLabel] != string(vmi.UID):
		return nil, nil
	}
	return []corev1.Pod{pod}, nil
}

// ours tells whether the pod is the instance's. A tenant may write labels and
// owners into pods of its own, so a pod that reaches out to the node is not, and
// no agent is ever sent to it.
func ours(pod *corev1.Pod, vmi *v1.VirtualMachineInstance) bool {
	return metav1.IsControlledBy(pod, vmi) && pod.Name == podtemplate.PodName(vmi.Name, vmi.UID) &&
		!pod.Spec.HostNetwork && !pod.Spec.HostPID && !pod.Spec.HostIPC &&
		len(pod.Spec.Containers) > 0 && pod.Spec.Containers[0].Name == v1.ComputeContainer
}

// apply carries the plan out. cached is the instance's version in the cache.
func (r *Reconciler) apply(ctx context.Context, in Input, plan Plan, cached string) (reconcile.Result, error) {
	var failed error
	if plan.Create {
		failed = r.create(ctx, in, &plan)
	}
	if len(plan.Resize) > 0 {
		if err := r.tryResize(ctx, in, &plan); err != nil {
			return reconcile.Result{}, err
		}
	}
	version := in.VMI.ResourceVersion
	if !equality.Semantic.DeepEqual(in.VMI, plan.VMI) {
		base := client.MergeFromWithOptions(in.VMI, client.MergeFromWithOptimisticLock{})
		if err := failpoint.Hit(ctx, "controller.vmi.before-write-status"); err != nil {
			return reconcile.Result{}, err
		}
		next := plan.VMI.DeepCopy()
		err := r.Client.Patch(ctx, next, base)
		switch {
		case apierrors.IsConflict(err):
			return reconcile.Result{RequeueAfter: retryConflict}, nil
		case apierrors.IsNotFound(err):
			return reconcile.Result{}, nil
		case err != nil:
			return reconcile.Result{}, errors.Join(failed, fmt.Errorf("write status: %w", err))
		}
		if err := failpoint.Hit(ctx, "controller.vmi.after-write-status"); err != nil {
			return reconcile.Result{}, err
		}
		r.last.Wrote(cached, next)
		r.logChange(in.VMI, plan.VMI)
		version = next.ResourceVersion
	}
	for _, e := range plan.Events {
		r.Events.Eventf(in.VMI, nil, e.Type, e.Reason, "Reconcile", "%s", e.Note)
	}
	if failed != nil {
		return reconcile.Result{}, failed
	}
	if plan.PodCondition != nil {
		if err := r.setPodCondition(ctx, plan.Pod, plan.PodCondition); err != nil {
			return reconcile.Result{}, err
		}
	}
	if plan.NetworkPod != nil {
		if err := r.annotate(ctx, plan.NetworkPod, netattach.StatusAnnotation, plan.NetworkStatus); err != nil {
			return reconcile.Result{}, err
		}
	}
	if len(plan.Resize) > 0 {
		if again, err := r.resize(ctx, plan, version); err != nil || again {
			return reconcile.Result{RequeueAfter: retryConflict}, err
		}
	}
	for _, d := range plan.Delete {
		if err := r.delete(ctx, in.VMI, d); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: plan.After}, nil
}

// create creates the pod. What went wrong goes into the plan's instance; only
// what may go better by itself is returned, to be tried again.
func (r *Reconciler) create(ctx context.Context, in Input, plan *Plan) error {
	vmi := in.VMI
	fail := func(err error) {
		if CreateFailed(plan.VMI, err, in.Now) {
			plan.Events = append(plan.Events, Event{corev1.EventTypeWarning, EventFailedCreate, printable("Error creating pod: " + err.Error())})
		}
	}
	pod, err := podtemplate.Render(vmi, podtemplate.Params{
		LauncherImage:      r.LauncherImage,
		LauncherPullPolicy: r.LauncherPullPolicy,
		KVM:                in.Nodes.KVM,
		VhostNet:           in.Nodes.VhostNet,
		BlockClaims:        blockClaims(in.Claims),
		MemoryOverhead:     r.Overhead(vmi, in.Nodes.KVM),
	})
	if err != nil {
		fail(err)
		return nil
	}
	if err := failpoint.Hit(ctx, "controller.vmi.before-create-pod"); err != nil {
		return err
	}
	err = r.Client.Create(ctx, pod)
	switch {
	case err == nil:
		if err := failpoint.Hit(ctx, "controller.vmi.after-create-pod"); err != nil {
			return err
		}
		r.Events.Eventf(vmi, pod, corev1.EventTypeNormal, EventCreated, "CreatePod", "Created virtual machine pod %s", pod.Name)
		r.Log.Info("created pod", "namespace", vmi.Namespace, "vm", vmi.Name, "uid", vmi.UID, "pod", pod.Name, "kvm", in.Nodes.KVM)
		return nil
	case apierrors.IsAlreadyExists(err):
		// Usually ours, from a moment ago, and not in the cache yet.
		there := &corev1.Pod{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(pod), there); err != nil {
			return fmt.Errorf("look at pod %s: %w", pod.Name, err)
		}
		if !ours(there, vmi) {
			err := fmt.Errorf("a pod %s exists that is not this instance's: delete it", pod.Name)
			fail(err)
			return err
		}
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	default:
		err = fmt.Errorf("create pod %s: %w", pod.Name, err)
		fail(err)
		return err
	}
}

// setPodCondition writes one condition of a pod's status, whatever else is in it.
func (r *Reconciler) setPodCondition(ctx context.Context, pod *corev1.Pod, c *corev1.PodCondition) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.PodCondition{*c}}})
	if err != nil {
		return fmt.Errorf("encode condition %s: %w", c.Type, err)
	}
	if err := failpoint.Hit(ctx, "controller.vmi.before-write-gate"); err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = r.Client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("set condition %s of pod %s: %w", c.Type, pod.Name, err)
	}
	return nil
}

func (r *Reconciler) delete(ctx context.Context, vmi *v1.VirtualMachineInstance, d Deletion) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: vmi.Namespace, Name: d.Name, UID: d.UID}}
	this := written.Deletion{UID: d.UID, Grace: d.Grace}
	if r.deleted.Done(client.ObjectKeyFromObject(vmi), this) {
		return nil
	}
	if err := failpoint.Hit(ctx, "controller.vmi.before-delete-pod"); err != nil {
		return err
	}
	err := r.Client.Delete(ctx, pod, client.GracePeriodSeconds(d.Grace), client.Preconditions{UID: &d.UID})
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // gone; another may have its name
		return nil
	case err != nil:
		err = fmt.Errorf("delete pod %s: %w", d.Name, err)
		r.Events.Eventf(vmi, nil, corev1.EventTypeWarning, EventFailedDelete, "DeletePod", "%s", printable(err.Error()))
		return err
	}
	if err := failpoint.Hit(ctx, "controller.vmi.after-delete-pod"); err != nil {
		return err
	}
	r.deleted.Note(client.ObjectKeyFromObject(vmi), this)
	if !d.Again {
		r.Events.Eventf(vmi, pod, corev1.EventTypeNormal, EventDeleted, "DeletePod", "Deleted virtual machine pod %s", d.Name)
		r.Log.Info("deleted pod", "namespace", vmi.Namespace, "vm", vmi.Name, "uid", vmi.UID, "pod", d.Name, "grace", d.Grace)
	}
	return nil
}

func (r *Reconciler) logChange(was, is *v1.VirtualMachineInstance) {
	if was.Status.Phase != is.Status.Phase {
		r.Log.Info("phase", "namespace", is.Namespace, "vm", is.Name, "uid", is.UID,
			"from", was.Status.Phase, "to", is.Status.Phase, "node", is.Status.NodeName, "reason", is.Status.Reason)
	}
}
