// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-dev/skerry/distro/box"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

const (
	// boxEvery is how often disk, memory and clock are looked at: three system calls
	// and two small files.
	boxEvery = 2 * time.Second
	// boxCertsEvery is how often certificates are looked at, and renewed if they are
	// due then.
	boxCertsEvery = time.Minute
	// boxConfirmEvery is how often the node is read although nothing has changed here.
	boxConfirmEvery = time.Minute
	// boxMarkEvery is how often a mark of the time is left for the next start.
	boxMarkEvery = 10 * time.Minute
	// boxWriteLimit bounds a report to the API.
	boxWriteLimit = 10 * time.Second
)

// boxComponent is whose conditions and Events they are.
const boxComponent = "skerry-box"

// boxWatch follows the machine that the cluster runs on, tells of it by the node's
// conditions, and keeps space for the cluster itself.
type boxWatch struct {
	cfg    *Config
	i      *instance
	client kubernetes.Interface

	clock box.Clock
	is    map[string]box.Condition // by type
	told  map[string]box.Condition // what the node was seen to say last
	// When, by CLOCK_BOOTTIME, it was done last; at first never.
	certs, confirmed, marked time.Duration
	failed                   string // the last report's error
}

func newBoxWatch(i *instance, client kubernetes.Interface) *boxWatch {
	return &boxWatch{cfg: i.cfg, i: i, client: client, is: map[string]box.Condition{}, certs: -boxCertsEvery, confirmed: -boxConfirmEvery, marked: -boxMarkEvery}
}

// run looks until the context ends.
func (w *boxWatch) run(ctx context.Context) {
	r, err := readClock()
	if err != nil {
		w.i.log.Error("the machine's clock is not watched", "err", err)
		return
	}
	w.clock = box.StartClock(r, w.i.seen)
	tick := time.NewTicker(boxEvery)
	defer tick.Stop()
	for {
		if r, err := readClock(); err == nil {
			w.look(r)
			w.report(ctx, r.Boot)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look judges everything anew.
func (w *boxWatch) look(r box.Reading) {
	var jump time.Duration
	w.clock, jump = w.clock.Next(r)
	if jump != 0 {
		w.i.log.Warn("the machine's clock was set", "by", jump)
	}
	w.set(w.clock.Condition())
	w.lookAtDisk()
	if m, err := readMemory(); err == nil {
		w.set(m.Short(w.is[box.MemoryShort].True))
	}
	if jump != 0 || r.Boot-w.certs >= boxCertsEvery {
		w.certs = r.Boot
		w.lookAtCertificates(r.Wall)
	}
	if w.clock.Trusted() && r.Boot-w.marked >= boxMarkEvery {
		w.marked = r.Boot
		if err := os.Chtimes(w.cfg.LockFile(), r.Wall, r.Wall); err != nil {
			w.i.log.Debug("leave a mark of the time", "err", err)
		}
	}
}

// set takes a judgement, and logs one that has changed.
func (w *boxWatch) set(c box.Condition) {
	was, known := w.is[c.Type]
	w.is[c.Type] = c
	if c == was || !known && !c.True {
		return
	}
	if c.True {
		w.i.log.Warn(c.Message, "condition", c.Type, "reason", c.Reason)
	} else {
		w.i.log.Info(c.Message, "condition", c.Type, "reason", c.Reason)
	}
}

func (w *boxWatch) lookAtDisk() {
	dir := w.cfg.DataDir
	s, err := Space(dir)
	if err != nil {
		w.i.log.Error("the disk is not watched", "err", err)
		return
	}
	w.set(box.Disk(dir, w.is[box.DiskShort].True, s))
	switch {
	case s.Full():
		if was, err := giveBack(dir); err != nil {
			w.i.log.Error("give back the reserve of a full disk", "err", err)
		} else if was {
			w.i.log.Warn("the disk is full: the reserve was given back", "bytes", box.Reserve)
		}
	case s.RoomForReserve():
		if err := holdBack(dir); err != nil {
			w.i.log.Warn("hold a reserve of the disk back", "err", err)
		}
	}
	// Also on a full disk: something may just have become free.
	if err := allocateAhead(dir); err != nil {
		w.i.log.Debug("allocate space for etcd ahead", "err", err)
	}
}

func (w *boxWatch) lookAtCertificates(now time.Time) {
	list, err := w.i.dir.List()
	if err != nil || box.Certificates(list, nil, now).True {
		if err = w.i.upkeep(); err == nil {
			list, err = w.i.dir.List()
		}
	}
	w.set(box.Certificates(list, err, now))
}

// report makes the node say what is. It reads the node when something has changed,
// when the last report failed, and from time to time.
func (w *boxWatch) report(ctx context.Context, now time.Duration) {
	if maps.Equal(w.told, w.is) && now-w.confirmed < boxConfirmEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, boxWriteLimit)
	defer cancel()
	if err := w.tell(ctx); err != nil {
		// The node registers a little later, and the API may be on its way up.
		if w.told = nil; err.Error() != w.failed && ctx.Err() == nil {
			w.failed = err.Error()
			w.i.log.Debug("tell the node's conditions", "err", err)
		}
		return
	}
	w.told, w.confirmed, w.failed = maps.Clone(w.is), now, ""
}

// tell writes conditions and taint where the node has others, and an Event for
// each condition that was another.
func (w *boxWatch) tell(ctx context.Context) error {
	nodes := w.client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, w.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	conditions, news, other := conditionsOf(node.Status.Conditions, w.is, metav1.Now())
	var errs []error
	if other {
		if err := failpoint.Hit(ctx, "box.node.before-conditions"); err != nil {
			return err
		}
		apply := coreapply.Node(node.Name).WithStatus(coreapply.NodeStatus().WithConditions(conditions...))
		if node, err = nodes.ApplyStatus(ctx, apply, metav1.ApplyOptions{FieldManager: boxComponent, Force: true}); err != nil {
			return fmt.Errorf("set the conditions of node %s: %w", w.cfg.NodeName, err)
		}
		for _, c := range news {
			errs = append(errs, w.event(ctx, c))
		}
	}
	if taints, other := taintsOf(node.Spec.Taints, w.is[box.DiskShort].True); other {
		if err := failpoint.Hit(ctx, "box.node.before-taint"); err != nil {
			return err
		}
		// The list is replaced as a whole, and others write it, too.
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"resourceVersion": node.ResourceVersion}, "spec": map[string]any{"taints": taints},
		})
		if err == nil {
			_, err = nodes.Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: boxComponent})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("set the taint %s of node %s: %w", box.DiskTaint, node.Name, err))
		}
	}
	return errors.Join(errs...)
}

// event tells of one change.
func (w *boxWatch) event(ctx context.Context, c box.Condition) error {
	name, now, kind := w.cfg.NodeName, metav1.Now(), corev1.EventTypeNormal
	if c.True {
		kind = corev1.EventTypeWarning
	}
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, GenerateName: name + "."},
		// The kubelet's Events of a node have its name for a UID; kubectl looks for that.
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)},
		Type:           kind, Reason: c.Reason, Message: c.Message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: boxComponent, Host: name}, ReportingController: boxComponent, ReportingInstance: name,
	}
	if _, err := w.client.CoreV1().Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("tell of %s: %w", c.Reason, err)
	}
	return nil
}

// conditionsOf is how the node's conditions that are ours have to be, by name;
// which of them are news to whoever reads Events; and whether the node has others.
// That nothing is wrong with what nothing was known of is no news.
func conditionsOf(have []corev1.NodeCondition, is map[string]box.Condition, now metav1.Time) (want []*coreapply.NodeConditionApplyConfiguration, news []box.Condition, other bool) {
	had := map[string]corev1.NodeCondition{}
	for _, c := range have {
		had[string(c.Type)] = c
	}
	for _, t := range slices.Sorted(maps.Keys(is)) {
		c, status := is[t], corev1.ConditionFalse
		if c.True {
			status = corev1.ConditionTrue
		}
		since, beat := now, now
		old, there := had[t]
		if there && old.Status == status {
			since = old.LastTransitionTime
		}
		if there && old.Status == status && old.Reason == c.Reason && old.Message == c.Message {
			beat = old.LastHeartbeatTime
		} else {
			other = true
			if there || c.True {
				news = append(news, c)
			}
		}
		want = append(want, coreapply.NodeCondition().WithType(corev1.NodeConditionType(t)).WithStatus(status).WithReason(c.Reason).
			WithMessage(c.Message).WithLastTransitionTime(since).WithLastHeartbeatTime(beat))
	}
	return want, news, other
}

// taintsOf is how the node's taints have to be, and whether they are not.
func taintsOf(have []corev1.Taint, short bool) (want []corev1.Taint, other bool) {
	want = []corev1.Taint{} // in JSON a list, not null
	there := 0
	for _, t := range have {
		if t.Key == box.DiskTaint {
			there++
			continue
		}
		want = append(want, t)
	}
	if !short {
		return want, there != 0
	}
	return append(want, corev1.Taint{Key: box.DiskTaint, Effect: corev1.TaintEffectNoSchedule}), there != 1
}
