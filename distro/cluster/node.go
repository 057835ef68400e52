// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// waitNode returns when the node is there and missing has nothing to say about it.
func waitNode(ctx context.Context, client kubernetes.Interface, name string, missing func(*corev1.Node) string) error {
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()}
	last := "it is not registered"
	for {
		list, err := client.CoreV1().Nodes().List(ctx, opts)
		if err != nil {
			return fmt.Errorf("wait for node %s (%s): %w", name, last, errors.Join(context.Cause(ctx), err))
		}
		for i := range list.Items {
			if last = missing(&list.Items[i]); last == "" {
				return nil
			}
		}
		opts.ResourceVersion = list.ResourceVersion
		w, err := client.CoreV1().Nodes().Watch(ctx, opts)
		if err != nil {
			return fmt.Errorf("wait for node %s (%s): %w", name, last, errors.Join(context.Cause(ctx), err))
		}
		opts.ResourceVersion = ""
		for ev := range w.ResultChan() {
			node, ok := ev.Object.(*corev1.Node)
			if !ok {
				continue
			}
			if last = missing(node); last == "" {
				w.Stop()
				return nil
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return fmt.Errorf("node %s is not ready (%s): %w", name, last, context.Cause(ctx))
		}
	}
}

// notReady says why the node is not ready, empty if it is. It counts only what
// the kubelet wrote after since: the node of an earlier start says Ready for a
// while although nobody is there.
func notReady(node *corev1.Node, since time.Time) string {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		switch {
		// The API keeps whole seconds.
		case c.LastHeartbeatTime.Time.Before(since.Truncate(time.Second)):
			return "its kubelet has not reported yet"
		case c.Status != corev1.ConditionTrue:
			return c.Reason + ": " + c.Message
		}
		for _, t := range node.Spec.Taints {
			if t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable {
				return "taint " + t.Key + " is still there"
			}
		}
		return ""
	}
	return "its kubelet has not reported yet"
}

// unaddressed says that the node has no address yet, empty if it has.
func unaddressed(node *corev1.Node) string {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return ""
		}
	}
	return "its kubelet has not said its address yet"
}
