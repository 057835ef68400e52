// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// maxWrites is what the controller and the node agent may write to the API, Events
// apart, from a machine's creation to its end. States on the way to the next are not
// counted: they are written only where they last, as on a busy host.
const maxWrites = 12

// Every write that changes something is one event of a watch, so the watches of a
// namespace count them, whoever else is busy in the cluster.
func TestWritesOfAMachinesLife(t *testing.T) {
	ns := namespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var log []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(format, args...))
	}
	var wg sync.WaitGroup
	for _, list := range []client.ObjectList{&v1.VirtualMachineList{}, &v1.VirtualMachineInstanceList{}, &corev1.PodList{}} {
		w, err := shared.Client.Watch(ctx, list, client.InNamespace(ns))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		wg.Go(func() {
			var was client.Object
			for e := range w.ResultChan() {
				is, ok := e.Object.(client.Object)
				if !ok {
					return
				}
				for _, what := range writesOf(e.Type, was, is) {
					note("%s %T: %s", time.Now().Format("05.000"), is, what)
				}
				was = is
			}
		})
	}
	vm := tinyVM(ns, "writes")
	create(t, vm)
	vmi := vmiWhen(t, ns, "writes", "ready and heard of", func(v *v1.VirtualMachineInstance) bool {
		c := v.Status.Condition(v1.VMIReady)
		return c != nil && c.Status == corev1.ConditionTrue && slices.ContainsFunc(v.Status.Stages, func(s v1.StageTimestamp) bool { return s.Stage == v1.StageFirstOutput })
	})
	logContains(t, vmi, "SKERRY-GUEST")
	if err := shared.Client.Delete(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the machine to be gone", func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vm), vm)
		return apierrors.IsNotFound(err), fmt.Sprint(err)
	})
	cancel()
	wg.Wait()
	counted := slices.DeleteFunc(slices.Clone(log), func(l string) bool { return strings.HasSuffix(l, ": "+onTheWay) })
	t.Logf("%d writes, and %d of states on the way", len(counted), len(log)-len(counted))
	if len(counted) > maxWrites {
		t.Errorf("%d writes, want at most %d:\n%s", len(counted), maxWrites, strings.Join(log, "\n"))
	}
}

// writesOf are the writes of the controller and the node agent that a watch's event
// tells of: none where the user, the scheduler or the kubelet wrote.
func writesOf(e watch.EventType, was, is client.Object) []string {
	_, pod := is.(*corev1.Pod)
	_, vm := is.(*v1.VirtualMachine)
	deletes := was != nil && was.GetDeletionTimestamp() == nil && is.GetDeletionTimestamp() != nil
	switch {
	case e == watch.Added && vm || vm && deletes: // the test's
		return nil
	case e == watch.Added:
		return []string{"create"}
	case e == watch.Deleted && pod:
		return nil // the kubelet's
	case e == watch.Deleted:
		return []string{"take the finalizer away"}
	case deletes:
		return []string{"delete"}
	case !pod && passes(is):
		return []string{onTheWay}
	case !pod:
		return []string{difference(was, is)}
	}
	if gate(was) != gate(is) {
		return []string{"open the readiness gate"}
	}
	return nil
}

const onTheWay = "a state on the way"

// passes tells whether the object says that its machine is on the way from one state
// to the next.
func passes(o client.Object) bool {
	switch o := o.(type) {
	case *v1.VirtualMachine:
		ready := o.Status.Ready != nil && *o.Status.Ready
		return o.Status.PrintableStatus != v1.StatusRunning || !ready
	case *v1.VirtualMachineInstance:
		// The first word of Scheduled hands the machine over; the agent's stages follow.
		early := len(o.Status.Stages) > 2 && o.Status.Phase == v1.Scheduled
		return o.Status.Phase == v1.Scheduling || early
	}
	return false
}

func gate(o client.Object) corev1.ConditionStatus {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return ""
	}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.UnpausedReadinessGate {
			return c.Status
		}
	}
	return ""
}

func difference(was, is client.Object) string {
	plain := func(o client.Object) (m map[string]any) {
		o = o.DeepCopyObject().(client.Object)
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
		b, err := json.Marshal(o)
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			return map[string]any{"error": err.Error()}
		}
		return m
	}
	return cmp.Diff(plain(was), plain(is))
}
