// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/netattach"
)

// SetupWithManager makes mgr run the reconciler. The manager's cache need hold
// only pods with the label kubevirt.io=virt-launcher.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	stages, err := register(metrics.Registry)
	if err != nil {
		return fmt.Errorf("register metric: %w", err)
	}
	err = builder.ControllerManagedBy(mgr).
		Named("virtualmachineinstance").
		For(&v1.VirtualMachineInstance{}, builder.WithPredicates(observeStages(stages))).
		Owns(&corev1.Pod{}).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(r.withClaim), builder.WithPredicates(claimChanged())).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.withoutPod), builder.WithPredicates(offersChanged())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			SkipNameValidation:      new(true), // several managers in one process: tests
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of VirtualMachineInstances: %w", err)
	}
	return nil
}

// withoutPod are the instances that may wait for a node.
func (r *Reconciler) withoutPod(ctx context.Context, _ client.Object) []reconcile.Request {
	list := &v1.VirtualMachineInstanceList{}
	if err := r.Client.List(ctx, list); err != nil {
		r.Log.Error("list instances that wait for a node", "error", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if p := list.Items[i].Status.Phase; p == v1.Pending || p == "" {
			out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: list.Items[i].Namespace, Name: list.Items[i].Name}})
		}
	}
	return out
}

// offersChanged lets only those changes of a node pass that may let a waiting
// instance go on.
func offersChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, ok1 := e.ObjectOld.(*corev1.Node)
			is, ok2 := e.ObjectNew.(*corev1.Node)
			if !ok1 || !ok2 {
				return false
			}
			none := &v1.VirtualMachineInstance{}
			return Survey([]corev1.Node{*was}, none) != Survey([]corev1.Node{*is}, none)
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

// StripPod keeps of a machine's pod what Next looks at, for a cache. It is a
// transform function as informers take it.
func StripPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil // a tombstone
	}
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion,
			Labels: p.Labels, OwnerReferences: p.OwnerReferences, CreationTimestamp: p.CreationTimestamp,
			DeletionTimestamp: p.DeletionTimestamp, DeletionGracePeriodSeconds: p.DeletionGracePeriodSeconds,
			Generation: p.Generation,
		},
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, NodeSelector: p.Spec.NodeSelector,
			HostNetwork: p.Spec.HostNetwork, HostPID: p.Spec.HostPID, HostIPC: p.Spec.HostIPC,
			ImagePullSecrets: p.Spec.ImagePullSecrets,
		},
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, Reason: p.Status.Reason, Message: p.Status.Message, QOSClass: p.Status.QOSClass,
			Conditions: strippedConditions(p.Status.Conditions), ContainerStatuses: strippedStatuses(p.Status.ContainerStatuses),
			ObservedGeneration: p.Status.ObservedGeneration,
		},
	}
	for _, key := range []string{v1.MemoryOverheadAnnotation, netattach.StatusAnnotation} {
		if text, ok := p.Annotations[key]; ok {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[key] = text
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.Secret != nil {
			out.Spec.Volumes = append(out.Spec.Volumes, v)
		}
	}
	for _, c := range p.Spec.Containers {
		out.Spec.Containers = append(out.Spec.Containers, corev1.Container{Name: c.Name, Image: c.Image, Resources: c.Resources})
	}
	return out, nil
}

// strippedConditions are those that say something of their own.
func strippedConditions(all []corev1.PodCondition) (out []corev1.PodCondition) {
	for _, c := range all {
		switch c.Type {
		case corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers:
		default:
			out = append(out, c)
		}
	}
	return out
}

// strippedStatuses are a few hundred bytes less each.
func strippedStatuses(all []corev1.ContainerStatus) (out []corev1.ContainerStatus) {
	for _, c := range all {
		c.Image, c.ImageID, c.ContainerID = "", "", ""
		c.VolumeMounts, c.User, c.AllocatedResourcesStatus = nil, nil, nil
		out = append(out, c)
	}
	return out
}
