// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// reconciler compares instances with what is observed of them.
type reconciler struct {
	*agent
	client client.Client
}

// retryConflict is after how long a status is written again that met a newer
// instance, unless the cache brings that before.
const retryConflict = 100 * time.Millisecond

// A status that the guest has an influence on is written at most this often:
// so many times at once, and then one more each interval.
const (
	quietBurst    = 10
	quietInterval = 30 * time.Second
)

// One that should be seen at once (paused, a problem) is a user's doing or QEMU's,
// but whoever has broken out of the guest speaks in QEMU's place.
const (
	urgentBurst    = 20
	urgentInterval = 3 * time.Second
)

// writes is what the reconciler remembers of its own writes of one instance, so
// that it writes no less often than needed, but no more.
type writes struct {
	mu sync.Mutex
	// last is the instance as it was written over the version of overVersion. The
	// cache may not have it yet.
	last        *v1.VirtualMachineInstance
	overVersion string
	at          time.Time
	quiet, loud bucket
}

// Reconcile makes one pass over an instance.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	vmi := &v1.VirtualMachineInstance{}
	if err := r.client.Get(ctx, req.NamespacedName, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName, "")
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, err
	}
	pod := r.activePod(vmi)
	if pod == "" || vmi.Status.Phase.IsFinal() {
		r.forget(req.NamespacedName, "")
		return reconcile.Result{}, nil
	}
	r.forget(req.NamespacedName, vmi.UID)
	g := r.ensure(vmi, pod)
	if g == nil {
		return reconcile.Result{}, nil // the agent ends
	}
	return r.report(ctx, g, vmi)
}

// activePod is the instance's pod on this node, as the controller recorded it.
func (r *reconciler) activePod(vmi *v1.VirtualMachineInstance) string {
	if vmi.Status.NodeName != r.node {
		return ""
	}
	var pods []string
	for uid, node := range vmi.Status.ActivePods {
		if node == r.node {
			pods = append(pods, uid)
		}
	}
	if len(pods) == 0 {
		return ""
	}
	return slices.Min(pods)
}

// report writes what differs between the status and what is observed.
func (r *reconciler) report(ctx context.Context, g *guest, cached *v1.VirtualMachineInstance) (reconcile.Result, error) {
	w := &g.writes
	w.mu.Lock()
	defer w.mu.Unlock()
	base := cached
	if w.last != nil && w.overVersion == cached.ResourceVersion {
		base = w.last
	}
	now := r.now()
	want := base.DeepCopy()
	want.Status = next(base.Status, base, g.snapshot(), now)
	if equality.Semantic.DeepEqual(base.Status, want.Status) {
		return reconcile.Result{}, nil
	}
	var wait time.Duration
	if urgent(&base.Status, &want.Status) {
		wait = w.loud.take(now, urgentBurst, urgentInterval)
	} else {
		wait = w.wait(now, r.times.quietStatus)
	}
	if wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := r.step(ctx, "agent.status.before-write"); err != nil {
		return reconcile.Result{}, err
	}
	written := want.DeepCopy()
	err := r.client.Patch(ctx, written, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		w.last = nil
		return reconcile.Result{RequeueAfter: retryConflict}, nil
	case apierrors.IsNotFound(err):
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("write status: %w", err)
	}
	if err := r.step(ctx, "agent.status.after-write"); err != nil {
		return reconcile.Result{}, err
	}
	w.last, w.overVersion, w.at = written, cached.ResourceVersion, now
	if !equality.Semantic.DeepEqual(base.Status.Resize, want.Status.Resize) {
		g.update(written) // a resize goes on only once it is announced
	}
	for _, h := range happenings(&base.Status, &want.Status) {
		r.events.Eventf(base, nil, h.kind, h.reason, eventAction, "%s", h.note)
	}
	if base.Status.Phase != want.Status.Phase {
		g.log.Info("machine is running")
	}
	return reconcile.Result{}, nil
}

// wait is how long a write that is not urgent should wait. When it need not, it
// counts as made.
func (w *writes) wait(now time.Time, apart time.Duration) time.Duration {
	if d := w.at.Add(apart).Sub(now); d > 0 {
		return d
	}
	return w.quiet.take(now, quietBurst, quietInterval)
}

// bucket lets burst things happen at once, and then one more each interval.
type bucket struct {
	tokens float64
	filled time.Time
}

// take is how long the next one should wait; when it need not, it counts as done.
func (b *bucket) take(now time.Time, burst float64, interval time.Duration) time.Duration {
	if b.filled.IsZero() {
		b.tokens = burst
	} else {
		// A clock that was set back takes nothing away.
		b.tokens = min(burst, b.tokens+max(now.Sub(b.filled).Seconds(), 0)/interval.Seconds())
	}
	b.filled = now
	if b.tokens < 1 {
		return max(time.Duration((1-b.tokens)*float64(interval)), time.Millisecond)
	}
	b.tokens--
	return 0
}
