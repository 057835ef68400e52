// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/config"
)

// Reasons of what is in a base's way.
const (
	reasonNoImporter   = "NoImporter"
	reasonNoSnapshots  = "SnapshotsUnavailable"
	reasonSnapshot     = "SnapshotFailed"
	reasonImporter     = "ImporterWaiting"
	reasonImporterDied = "ImporterDied"
)

// BaseInput is what a decision about a base volume is made from.
type BaseInput struct {
	Base   *corev1.PersistentVolumeClaim
	Now    time.Time
	Config config.Config
	// Importer is the image of the pod, "" where there is none.
	Importer   string
	PullPolicy corev1.PullPolicy

	Pod *corev1.Pod
	// Progress is what the pod last said, nil for nothing.
	Progress *mecs.Progress
	// Snapshot is the base's, nil for none. SnapshotErr says why there can be none,
	// SnapshotClass of which class it is to be.
	Snapshot      *Snapshot
	SnapshotErr   error
	SnapshotClass string
	// Used tells whether a machine was made from it, as the API server knows just now
	// where the base is marked to be collected.
	Used bool
}

// BasePlan is what is to be done, in the order of the fields.
type BasePlan struct {
	// Base is the claim as it should be, but for the end of its finalizer, which is
	// written last.
	Base   *corev1.PersistentVolumeClaim
	Create client.Object
	Delete []client.Object
	After  time.Duration
}

// NextBase decides what to do for a base volume. It never changes its input.
func NextBase(in BaseInput) BasePlan {
	d := &baseDecision{in: in, base: in.Base.DeepCopy(), state: stateOf(in.Base)}
	d.plan.Base = d.base
	d.decide()
	return d.plan
}

type baseDecision struct {
	in    BaseInput
	base  *corev1.PersistentVolumeClaim
	state baseState
	plan  BasePlan
}

func (d *baseDecision) decide() {
	switch {
	case d.base.DeletionTimestamp != nil:
		d.ending()
		return
	case d.unused():
		return
	case !d.state.Imported:
		d.importing()
	case d.state.Handle == "":
		d.snapshot()
	default:
		d.state.Failure = nil
	}
	if d.state != (baseState{}) {
		d.state.writeTo(d.base)
	}
}

func (d *baseDecision) again(after time.Duration) {
	if d.plan.After == 0 || after < d.plan.After {
		d.plan.After = max(after, 100*time.Millisecond)
	}
}

// ending takes away what the base has made, then itself.
func (d *baseDecision) ending() {
	if d.in.Pod != nil {
		d.plan.Delete = append(d.plan.Delete, d.in.Pod)
	}
	if d.in.Snapshot != nil && !d.in.Snapshot.Deleting {
		d.plan.Delete = append(d.plan.Delete, plain(SnapshotKind, d.base.Namespace, d.base.Name))
	}
	if d.in.Pod != nil || d.in.Snapshot != nil {
		d.again(time.Second)
		return
	}
	d.base.Finalizers = slices.DeleteFunc(d.base.Finalizers, func(f string) bool { return f == Finalizer })
}

// unused collects the base when no machine was made from it for long. It returns
// whether nothing else is to be done.
func (d *baseDecision) unused() bool {
	_, marked := d.base.Annotations[collectAnnotation]
	keep := d.in.Config.BaseImageRetention
	switch {
	case d.in.Used:
		d.state.UnusedSince = nil
		delete(d.base.Annotations, collectAnnotation)
		return false
	case d.state.UnusedSince == nil:
		d.state.UnusedSince = new(metav1.NewTime(d.in.Now.Truncate(time.Second)))
		delete(d.base.Annotations, collectAnnotation)
	case keep > 0 && d.in.Now.Sub(d.state.UnusedSince.Time) >= keep:
		if marked {
			d.plan.Delete = append(d.plan.Delete, d.in.Base)
		} else {
			// Who begins to use it from here on sees the mark, and who has begun
			// is seen by the next pass.
			d.base.Annotations[collectAnnotation] = "true"
			d.again(time.Second)
		}
		return true
	}
	if keep > 0 {
		d.again(d.state.UnusedSince.Add(keep).Sub(d.in.Now))
	}
	return false
}

// fail notes what is in the way. Attempts are counted where there was one.
func (d *baseDecision) fail(attempt bool, reason, message string) {
	f := failure{Reason: reason, Message: message, At: metav1.NewTime(d.in.Now.Truncate(time.Second))}
	if was := d.state.Failure; was != nil {
		f.Attempts = was.Attempts
		if !attempt && was.Reason == reason && was.Message == message {
			f.At = was.At
		}
	}
	if attempt {
		f.Attempts++
	}
	d.state.Failure, d.state.Progress = &f, nil
}

// importing sees to the pod that fills the base.
func (d *baseDecision) importing() {
	const look = 2 * time.Second
	pod := d.in.Pod
	if pod == nil {
		f := d.state.Failure
		switch {
		case f != nil && f.Reason == tooLarge:
			return // a machine that asks for more makes a larger one
		case f != nil && d.in.Now.Before(f.At.Add(backoff(f.Attempts))):
			d.again(f.At.Add(backoff(f.Attempts)).Sub(d.in.Now))
			return
		case d.in.Importer == "":
			d.fail(false, reasonNoImporter, "this installation has no image that fetches images: install it whole")
			d.again(time.Minute)
			return
		}
		d.plan.Create = importer(d.base, d.in.Importer, d.in.PullPolicy, d.in.Config)
		d.again(look)
		return
	}
	if pod.DeletionTimestamp != nil {
		d.again(time.Second)
		return
	}
	switch pod.Status.Phase {
	case corev1.PodSucceeded:
		r, err := ParseResult(terminated(pod))
		if err == nil && (r.Reason != "" || r.Size <= 0) {
			err = fmt.Errorf("it ended well and said %q", r.Message)
		}
		if err != nil {
			d.fail(true, reasonImporterDied, "the importer cannot be understood: "+err.Error())
			d.plan.Delete = append(d.plan.Delete, pod)
			d.again(time.Second)
			return
		}
		d.state.Imported, d.state.VirtualSize, d.state.Progress, d.state.Failure = true, r.Size, nil, nil
		d.again(200 * time.Millisecond)
	case corev1.PodFailed:
		r, err := ParseResult(terminated(pod))
		switch {
		case err != nil || r.Reason == "":
			d.fail(true, reasonImporterDied, "the importer ended without a word: "+died(pod)+"; it is tried again")
		default:
			d.fail(true, r.Reason, r.Message)
		}
		d.plan.Delete = append(d.plan.Delete, pod)
		d.again(time.Second)
	case corev1.PodRunning:
		d.state.Failure = nil
		if d.in.Progress != nil {
			d.state.Progress = d.in.Progress
		}
		d.again(look)
	default:
		if why := waiting(pod, d.in.Now); why != "" {
			d.fail(false, reasonImporter, why)
		}
		d.again(look)
	}
}

// terminated is the termination message of the pod's container.
func terminated(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Terminated != nil {
			return s.State.Terminated.Message
		}
	}
	return ""
}

func died(pod *corev1.Pod) string {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil {
			return fmt.Sprintf("%s, exit code %d", t.Reason, t.ExitCode)
		}
	}
	return pod.Status.Reason + " " + pod.Status.Message
}

// patience is how long a pod may take to start before that is worth a word.
const patience = 10 * time.Second

// waiting says what a pod that has not started waits for, "" for nothing unusual.
func waiting(pod *corev1.Pod, now time.Time) string {
	if now.Sub(pod.CreationTimestamp.Time) < patience {
		return ""
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("pod %s is not scheduled: %s", pod.Name, c.Message)
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil && w.Reason != "ContainerCreating" {
			return fmt.Sprintf("pod %s does not start: %s: %s", pod.Name, w.Reason, w.Message)
		}
	}
	return fmt.Sprintf("pod %s does not start: `kubectl describe pod %s -n %s` says why", pod.Name, pod.Name, pod.Namespace)
}

// snapshot makes the base's snapshot, once nobody writes to it any more.
func (d *baseDecision) snapshot() {
	if d.in.Pod != nil {
		if d.in.Pod.DeletionTimestamp == nil {
			d.plan.Delete = append(d.plan.Delete, d.in.Pod)
		}
		d.again(500 * time.Millisecond)
		return
	}
	s := d.in.Snapshot
	switch {
	case s != nil && s.Ready && s.Handle != "" && s.Driver != "":
		d.state.Handle, d.state.Driver, d.state.Failure = s.Handle, s.Driver, nil
	case d.in.SnapshotErr != nil:
		d.fail(false, reasonNoSnapshots, d.in.SnapshotErr.Error())
		d.again(30 * time.Second)
	case s == nil:
		d.plan.Create = baseSnapshot(d.base, d.in.SnapshotClass)
		d.again(500 * time.Millisecond)
	default:
		if s.Message != "" {
			d.fail(false, reasonSnapshot, "the base volume's snapshot: "+s.Message)
		}
		d.again(500 * time.Millisecond)
	}
}

// Expired tells which boot volumes that machines have left are past their retention,
// and when the next one will be; 0 for never.
func Expired(claims []corev1.PersistentVolumeClaim, keep time.Duration, now time.Time) (expired []*corev1.PersistentVolumeClaim, next time.Duration) {
	if keep <= 0 {
		return nil, 0
	}
	for i := range claims {
		c := &claims[i]
		if c.Labels[VolumeLabel] != BootVolume || c.DeletionTimestamp != nil || c.Annotations[OwnerAnnotation] != "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, c.Annotations[ReleasedAnnotation])
		if err != nil {
			continue // not released, or marked by hand
		}
		if left := at.Add(keep).Sub(now); left <= 0 {
			expired = append(expired, c)
		} else if next == 0 || left < next {
			next = left
		}
	}
	return expired, next
}
