// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/claim"
)

// Claim is what an instance has to know of a claim that it names.
type Claim struct {
	// PVC is nil when there is none of that name.
	PVC *corev1.PersistentVolumeClaim
	// User is another instance that has the claim in use and one of them writes to
	// it; empty when there is none.
	User string
}

// claimPatience is how often an instance looks whether a claim that another one
// uses is free. A claim's own changes need no looking.
const claimPatience = 5 * time.Second

// volumePending is the phase of a volume whose claim has no volume yet.
const volumePending = "Pending"

// claimOf is the volume's claim, nil for a volume of another kind.
func claimOf(v *v1.Volume) *v1.PersistentVolumeClaimVolumeSource {
	if s := v.PersistentVolumeClaim; s != nil && s.ClaimName != "" {
		return s
	}
	return nil
}

// claims takes what is known of the instance's claims into its status. Of a claim
// that is missing stays what was known of it.
func (d *decision) claims() {
	for i := range d.vmi.Spec.Volumes {
		v := &d.vmi.Spec.Volumes[i]
		s := claimOf(v)
		if s == nil || d.in.Claims[s.ClaimName].PVC == nil {
			continue
		}
		pvc := d.in.Claims[s.ClaimName].PVC
		info := claim.Info(pvc)
		j := slices.IndexFunc(d.st.VolumeStatus, func(o v1.VolumeStatus) bool { return o.Name == v.Name })
		if j < 0 {
			d.st.VolumeStatus = append(d.st.VolumeStatus, v1.VolumeStatus{Name: v.Name})
			slices.SortFunc(d.st.VolumeStatus, func(a, b v1.VolumeStatus) int { return strings.Compare(a.Name, b.Name) })
			j = slices.IndexFunc(d.st.VolumeStatus, func(o v1.VolumeStatus) bool { return o.Name == v.Name })
		}
		st := &d.st.VolumeStatus[j]
		if !equality.Semantic.DeepEqual(st.PersistentVolumeClaimInfo, info) {
			st.PersistentVolumeClaimInfo = info
		}
		switch bound := pvc.Status.Phase == corev1.ClaimBound; {
		case !bound && st.Phase == "":
			st.Phase, st.Reason = volumePending, ReasonClaimNotReady
			st.Message = fmt.Sprintf("claim %s has no volume yet", s.ClaimName)
		case bound && st.Phase == volumePending:
			st.Phase, st.Reason, st.Message = "", "", ""
		}
	}
}

// awaitClaims says what claim the machine's pod must wait for; the reason is empty
// if for none. A claim without a volume is not waited for: the volume may be made
// only once the pod has a node, and otherwise the scheduler waits.
func (d *decision) awaitClaims() (reason, message string) {
	for i := range d.vmi.Spec.Volumes {
		s := claimOf(&d.vmi.Spec.Volumes[i])
		if s == nil {
			continue
		}
		field := fmt.Sprintf("spec.volumes[%d].persistentVolumeClaim.claimName: ", i)
		c := d.in.Claims[s.ClaimName]
		switch {
		case c.PVC == nil:
			return ReasonClaimNotFound, fmt.Sprintf("%sthere is no PersistentVolumeClaim %s in namespace %s; create it, the machine starts once it is there", field, s.ClaimName, d.vmi.Namespace)
		case c.PVC.DeletionTimestamp != nil:
			return ReasonClaimNotReady, fmt.Sprintf("%sPersistentVolumeClaim %s is being deleted; create it anew once it is gone, or name another one", field, s.ClaimName)
		case c.PVC.Status.Phase == corev1.ClaimLost:
			return ReasonClaimNotReady, fmt.Sprintf("%sPersistentVolumeClaim %s has lost its volume; restore the PersistentVolume, or name another claim", field, s.ClaimName)
		case c.User != "":
			return ReasonClaimNotReady, fmt.Sprintf("%sPersistentVolumeClaim %s is in use by machine %s; stop that one, this machine starts then", field, s.ClaimName, c.User)
		}
	}
	return "", ""
}

// readClaims reads the claims that vmi names, and for an instance without pods
// whether they are free.
func (r *Reconciler) readClaims(ctx context.Context, vmi *v1.VirtualMachineInstance, free bool) (map[string]Claim, error) {
	var out map[string]Claim
	for i := range vmi.Spec.Volumes {
		s := claimOf(&vmi.Spec.Volumes[i])
		if s == nil {
			continue
		}
		if out == nil {
			out = map[string]Claim{}
		}
		pvc := &corev1.PersistentVolumeClaim{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: vmi.Namespace, Name: s.ClaimName}, pvc)
		switch {
		case apierrors.IsNotFound(err):
			out[s.ClaimName] = Claim{}
		case err != nil:
			return nil, fmt.Errorf("read claim %s/%s: %w", vmi.Namespace, s.ClaimName, err)
		default:
			out[s.ClaimName] = Claim{PVC: pvc}
		}
	}
	if out == nil || !free {
		return out, nil
	}
	list := &v1.VirtualMachineInstanceList{}
	if err := r.Client.List(ctx, list, client.InNamespace(vmi.Namespace)); err != nil {
		return nil, fmt.Errorf("list the instances of namespace %s: %w", vmi.Namespace, err)
	}
	for name, c := range out {
		c.User = user(list.Items, vmi, name)
		out[name] = c
	}
	return out, nil
}

// user is another instance that has a pod with the claim, unless both only read it.
// Two that get this far at once are told apart by the launcher, which opens a
// device for one machine alone, and by QEMU's locks on a file.
func user(all []v1.VirtualMachineInstance, vmi *v1.VirtualMachineInstance, name string) string {
	for i := range all {
		o := &all[i]
		if o.UID == vmi.UID || o.Status.Phase == "" || o.Status.Phase == v1.Pending || o.Status.Phase.IsFinal() {
			continue
		}
		theirs, ours := writes(o, name), writes(vmi, name)
		if theirs != nil && ours != nil && (*theirs || *ours) {
			return o.Name
		}
	}
	return ""
}

// writes tells whether an instance may write to a claim; nil if it does not name it.
func writes(vmi *v1.VirtualMachineInstance, name string) *bool {
	for i := range vmi.Spec.Volumes {
		if s := claimOf(&vmi.Spec.Volumes[i]); s != nil && s.ClaimName == name {
			return new(s.ReadOnly == nil || !*s.ReadOnly)
		}
	}
	return nil
}

// blockClaims are those claims that are block devices.
func blockClaims(claims map[string]Claim) map[string]bool {
	out := map[string]bool{}
	for name, c := range claims {
		if c.PVC != nil && claim.Block(claim.Info(c.PVC)) {
			out[name] = true
		}
	}
	return out
}

// withClaim are the instances that name a claim.
func (r *Reconciler) withClaim(ctx context.Context, pvc client.Object) []reconcile.Request {
	list := &v1.VirtualMachineInstanceList{}
	if err := r.Client.List(ctx, list, client.InNamespace(pvc.GetNamespace())); err != nil {
		r.Log.Error("list instances with a claim", "error", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if vmi := &list.Items[i]; writes(vmi, pvc.GetName()) != nil && !vmi.Status.Phase.IsFinal() {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(vmi)})
		}
	}
	return out
}

// claimChanged lets only those changes of a claim pass that are looked at.
func claimChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, ok1 := e.ObjectOld.(*corev1.PersistentVolumeClaim)
		is, ok2 := e.ObjectNew.(*corev1.PersistentVolumeClaim)
		return ok1 && ok2 && (was.UID != is.UID || was.Status.Phase != is.Status.Phase || (was.DeletionTimestamp == nil) != (is.DeletionTimestamp == nil) ||
			!equality.Semantic.DeepEqual(claim.Info(was), claim.Info(is)))
	}}
}

// StripClaim keeps of a claim what is looked at, for a cache. It is a transform
// function as informers take it.
func StripClaim(obj any) (any, error) {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return obj, nil // a tombstone
	}
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: c.Name, Namespace: c.Namespace, UID: c.UID, ResourceVersion: c.ResourceVersion,
			Annotations: c.Annotations, DeletionTimestamp: c.DeletionTimestamp,
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: c.Spec.AccessModes, VolumeMode: c.Spec.VolumeMode, Resources: c.Spec.Resources, VolumeName: c.Spec.VolumeName,
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: c.Status.Phase, Capacity: c.Status.Capacity},
	}, nil
}
