// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/resize"
)

// tryResize asks the API server, in a dry run, for the plan's changes of the pod:
// for all at once, as they are made, and where that is refused for each alone. What
// it refuses is written into the plan's instance and taken out of the plan; only
// what may go better by itself is returned.
func (r *Reconciler) tryResize(ctx context.Context, in Input, plan *Plan) error {
	if len(plan.Resize) > 1 {
		if refused, err := r.dryRun(ctx, plan.ResizePod, plan.Resize); err != nil || refused == nil {
			return err
		}
	}
	var keep []PodChange
	for _, c := range plan.Resize {
		if c.Step.Action == resize.RevertPod {
			keep = append(keep, c) // to what it has: there is nothing to ask
			continue
		}
		refused, err := r.dryRun(ctx, plan.ResizePod, []PodChange{c})
		if err != nil {
			return err
		}
		if refused == nil {
			keep = append(keep, c)
			continue
		}
		if refused.Gone {
			continue
		}
		if ResizeRefused(in.VMI, plan.VMI, c, *refused, in.Now) {
			plan.Events = append(plan.Events, Event{corev1.EventTypeWarning, EventResizeRefused, printable(fmt.Sprintf("%s: %s: %s", c.Resource, refused.Reason, refused.Message))})
		}
		// What it was to say of this step is not so.
		plan.Events = slices.DeleteFunc(plan.Events, func(e Event) bool {
			return e.Reason == EventResize && strings.HasPrefix(e.Note, string(c.Resource)+":")
		})
		if wait := minRefused; plan.After == 0 || plan.After > wait {
			plan.After = wait
		}
	}
	plan.Resize = keep
	return nil
}

// Refusal is why the API server will not have a change of the pod.
type Refusal struct {
	Reason, Message string
	Gone            bool // the pod is
}

// ResizeRefused writes into vmi, which was stored before, that a change of its pod
// was refused. It returns whether that is news.
func ResizeRefused(stored, vmi *v1.VirtualMachineInstance, c PodChange, why Refusal, now time.Time) bool {
	r := c.Resource
	old := resize.PodPart(stored, r)
	part := partOf(r, resize.Refuse(c.Step), old, now)
	// When it was first refused, and when last.
	var first []v1.ResizeTime
	if old != nil {
		for _, t := range old.Times {
			if t.Step == string(v1.PodResizeRefused) && sameQuantity(old.Target, part.Target) {
				first = []v1.ResizeTime{t}
				break
			}
		}
	}
	part.Times = append(first, v1.ResizeTime{Step: string(v1.PodResizeRefused), Time: metav1.NewMicroTime(now.Truncate(time.Microsecond))})
	part.Reason, part.Message = why.Reason, printable(why.Message)
	resize.SetPodPart(&vmi.Status, r, part)
	setResizeCondition(vmi, r, now)
	was, is := stored.Status.Condition(resizeCondition(r)), vmi.Status.Condition(resizeCondition(r))
	if was != nil && is != nil && was.Status == is.Status {
		is.LastTransitionTime = was.LastTransitionTime // what was asked for in between is not so
	}
	return was == nil || is == nil || was.Reason != is.Reason || was.Message != is.Message
}

// dryRun asks for changes in one. A refusal of the API server's is not an error; its
// text is about the first of them.
func (r *Reconciler) dryRun(ctx context.Context, pod *corev1.Pod, changes []PodChange) (*Refusal, error) {
	for _, c := range changes {
		if c.Step.Action == resize.RevertPod {
			continue // to what it has
		}
		if why := foreignLimit(pod, c); why != nil {
			return why, nil
		}
	}
	got, err := r.patchResize(ctx, pod, changes, metav1.DryRunAll)
	switch {
	case apierrors.IsNotFound(err) && !strings.Contains(err.Error(), pod.Name):
		return &Refusal{Reason: ReasonResizeUnsupported,
			Message: "the API server has no pods/resize: Kubernetes 1.33 or newer is needed. Restart the machine to change its size"}, nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err) && !isQuota(err):
		return &Refusal{Gone: true}, nil
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), isQuota(err):
		return &Refusal{Reason: string(apierrors.ReasonForError(err)), Message: refusalText(pod, changes[0], err)}, nil
	case err != nil:
		return nil, fmt.Errorf("ask whether pod %s can be resized: %w", pod.Name, err)
	}
	if diff := unasked(pod, got, changes); diff != "" {
		return &Refusal{Reason: ReasonAdmissionChanged, Message: fmt.Sprintf("something in the cluster's admission changes more than was asked for: %s. "+
			"A LimitRange in namespace %s does so with its defaults (kubectl -n %s get limitrange); the machine would be throttled or killed by it. "+
			"Say what it should have in spec.template.spec.domain.resources and restart it, or take the LimitRange away", diff, pod.Namespace, pod.Namespace)}, nil
	}
	return nil, nil
}

func isQuota(err error) bool { return err != nil && strings.Contains(err.Error(), "exceeded quota") }

// foreignLimit refuses to grow a pod under a limit that the machine's spec does
// not have.
func foreignLimit(pod *corev1.Pod, c PodChange) *Refusal {
	have := amounts(pod.Spec.Containers[0].Resources, c.Resource)
	if have.Limit == 0 || c.To.Limit != 0 {
		return nil
	}
	return &Refusal{Reason: ReasonForeignLimit, Message: fmt.Sprintf(
		"the pod has a limit of %s for %s that is not in the machine's spec, as a LimitRange of namespace %s fills in. "+
			"A limit cannot be taken from a running pod, and a bigger guest would be held to it: set spec.template.spec.domain.resources.limits.%s and restart the machine",
		resize.Quantity(c.Resource, have.Limit), c.Resource, pod.Namespace, c.Resource)}
}

// refusalText is the API server's text and what to do about it.
func refusalText(pod *corev1.Pod, c PodChange, err error) string {
	text := err.Error()
	var hint string
	switch {
	case isQuota(err):
		hint = fmt.Sprintf("raise the quota of namespace %s (kubectl -n %s get resourcequota), or stop something in it", pod.Namespace, pod.Namespace)
	case strings.Contains(text, "allocatable"):
		hint = fmt.Sprintf("node %s is too small for it: ask for less, or move the machine. Nothing was changed", pod.Spec.NodeName)
	case strings.Contains(text, "QOS Class"):
		hint = "a running pod keeps its QoS class: keep requests equal to limits if they are equal now, and different if they are, or restart the machine"
	case strings.Contains(text, "per Container") || strings.Contains(text, "per Pod") || strings.Contains(text, "limit to request ratio"):
		hint = fmt.Sprintf("stay within the LimitRange of namespace %s (kubectl -n %s get limitrange)", pod.Namespace, pod.Namespace)
	case strings.Contains(text, "cannot be removed"):
		hint = "a running pod keeps the limits and requests that it has: change their value only, or restart the machine"
	case apierrors.IsForbidden(err):
		hint = "nothing was changed; see what forbids it"
	default:
		hint = "nothing was changed; ask for another size, or restart the machine"
	}
	return fmt.Sprintf("%s What to do about the %s: %s.", strings.TrimRight(text, ". ")+".", c.Resource, hint)
}

// patchResize changes the pod's container by the resize subresource.
func (r *Reconciler) patchResize(ctx context.Context, pod *corev1.Pod, changes []PodChange, dryRun ...string) (*corev1.Pod, error) {
	requests, limits := map[string]string{}, map[string]string{}
	for _, c := range changes {
		if q := resize.Quantity(c.Resource, c.To.Request); q != nil {
			requests[string(c.Resource)] = q.String()
		}
		if q := resize.Quantity(c.Resource, c.To.Limit); q != nil {
			limits[string(c.Resource)] = q.String()
		}
	}
	resources := map[string]any{"requests": requests}
	if len(limits) > 0 {
		resources["limits"] = limits
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"spec":     map[string]any{"containers": []map[string]any{{"name": v1.ComputeContainer, "resources": resources}}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the pod's new size: %w", err)
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = r.Client.SubResource("resize").Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch),
		&client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: dryRun}})
	return target, err
}

// unasked is what else than the changes is different in the containers' CPU and
// memory, "" when nothing is.
func unasked(was, is *corev1.Pod, changes []PodChange) string {
	var out []string
	for i := range is.Spec.Containers {
		got, want := is.Spec.Containers[i], corev1.Container{}
		for j := range was.Spec.Containers {
			if was.Spec.Containers[j].Name == got.Name {
				want = was.Spec.Containers[j]
			}
		}
		for _, res := range []resize.Resource{resize.CPU, resize.Memory} {
			have, expected := amounts(got.Resources, res), amounts(want.Resources, res)
			for _, c := range changes {
				if c.Resource == res && got.Name == v1.ComputeContainer {
					expected = c.To
				}
			}
			for _, f := range []struct {
				name      string
				got, want int64
			}{{"requests", have.Request, expected.Request}, {"limits", have.Limit, expected.Limit}} {
				if f.got != f.want {
					out = append(out, fmt.Sprintf("container %s would get resources.%s.%s %s instead of %s",
						got.Name, f.name, res, orNone(res, f.got), orNone(res, f.want)))
				}
			}
		}
	}
	return strings.Join(out, ", ")
}

func orNone(r resize.Resource, n int64) string {
	if q := resize.Quantity(r, n); q != nil {
		return q.String()
	}
	return "none"
}

// resize makes the plan's changes of the pod, unless the instance is no longer the
// version that they were published in. It returns whether to look again.
func (r *Reconciler) resize(ctx context.Context, plan Plan, version string) (again bool, err error) {
	if err := failpoint.Hit(ctx, "controller.resize.before-patch-pod"); err != nil {
		return false, err
	}
	now := &v1.VirtualMachineInstance{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(plan.VMI), now); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if now.UID != plan.VMI.UID || now.ResourceVersion != version {
		return true, nil
	}
	pod := plan.ResizePod
	got, err := r.patchResize(ctx, pod, plan.Resize)
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("resize pod %s: %w", pod.Name, err)
	}
	for _, c := range plan.Resize {
		r.Log.Info("resized pod", "namespace", pod.Namespace, "vm", plan.VMI.Name, "uid", plan.VMI.UID, "pod", pod.Name,
			"resource", c.Resource, "guest", c.Step.Guest, "request", c.To.Request, "limit", c.To.Limit)
	}
	if diff := unasked(pod, got, plan.Resize); diff != "" { // admission changed its mind since the dry run
		r.Log.Warn("admission changed more of a pod than was asked for", "namespace", pod.Namespace, "vm", plan.VMI.Name, "pod", pod.Name, "changes", diff)
	}
	return false, failpoint.Hit(ctx, "controller.resize.after-patch-pod")
}
