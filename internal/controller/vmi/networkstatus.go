// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/netattach"
)

// networkStatus has the node agent's word on the pod's networks written to the pod,
// where others look for it. Without that word somebody else attached the pod and
// says so himself.
func (d *decision) networkStatus(pod *corev1.Pod) {
	if len(d.st.NetworkStatus) == 0 || pod.DeletionTimestamp != nil {
		return
	}
	text := NetworkStatus(d.st.NetworkStatus)
	if text != "" && pod.Annotations[netattach.StatusAnnotation] != text {
		d.plan.NetworkStatus, d.plan.NetworkPod = text, pod
	}
}

// NetworkStatus is the annotation's text.
func NetworkStatus(list []v1.NetworkStatus) string {
	b, err := json.MarshalIndent(list, "", "    ") // as Multus writes it
	if err != nil {
		return ""
	}
	return string(b)
}

// annotate writes one annotation of a pod.
func (r *Reconciler) annotate(ctx context.Context, pod *corev1.Pod, key, text string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "annotations": map[string]string{key: text}}})
	if err != nil {
		return fmt.Errorf("encode annotation %s: %w", key, err)
	}
	if err := failpoint.Hit(ctx, "controller.vmi.before-write-networks"); err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write annotation %s of pod %s: %w", key, pod.Name, err)
	}
	return nil
}
