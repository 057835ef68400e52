// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	densityCount  = 40
	densityRounds = 3
	// roundLabel is on everything that one round makes.
	roundLabel = "skerry.dev/bench-round"
)

// crowd is what creating many things at once took.
type crowd struct {
	seconds []float64 // create → Running for each, ascending
	control control   // how much the control process has grown, per thing
}

func (c crowd) percentile(p int) float64 { return percentile(c.seconds, p) }

// percentile takes samples in ascending order; the 50th is the median.
func percentile(s []float64, p int) float64 { return s[max((len(s)*p+99)/100-1, 0)] }

// density creates 40 pause pods at once and then 40 machines at once, several
// times, so that both meet the same load on the machine.
func (b *bench) density(ctx context.Context) error {
	var p50, p95, podP50, podP95, ratio, live, anon []float64
	for i := range densityRounds {
		pods, err := b.crowd(ctx, fmt.Sprintf("pods-%d", i), &corev1.PodList{}, func(name string) client.Object { return pausePod(name) })
		if err != nil {
			return err
		}
		vms, err := b.crowd(ctx, fmt.Sprintf("machines-%d", i), &v1.VirtualMachineInstanceList{}, func(name string) client.Object { return smallest(name) })
		if err != nil {
			return err
		}
		p50, p95 = append(p50, vms.percentile(50)), append(p95, vms.percentile(95))
		podP50, podP95 = append(podP50, pods.percentile(50)), append(podP95, pods.percentile(95))
		ratio = append(ratio, max(vms.percentile(50)/pods.percentile(50), vms.percentile(95)/pods.percentile(95)))
		live = append(live, vms.control.live-pods.control.live)
		anon = append(anon, vms.control.anon-pods.control.anon)
		fmt.Fprintf(os.Stderr, "round %d: machines p50 %.1f s, p95 %.1f s; pause pods p50 %.1f s, p95 %.1f s; load average %s\n",
			i, vms.percentile(50), vms.percentile(95), pods.percentile(50), pods.percentile(95), loadAverage())
	}
	b.add("density_40_running_p50_s", "s", 0, p50...)
	b.add("density_40_running_p95_s", "s", 0, p95...)
	b.add("density_40_pods_p50_s", "s", 0, podP50...)
	b.add("density_40_pods_p95_s", "s", 0, podP95...)
	b.add("density_40_ratio", "x", 2, ratio...)
	b.add("density_40_control_mib_per_vm", "MiB", 0.5, live...)
	b.add("density_40_control_anon_mib_per_vm", "MiB", 0, anon...)
	return nil
}

// pausePod is a pod that does nothing, as small as the machines.
func pausePod(name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.TerminationGracePeriodSeconds = new(int64)
	p.Spec.Containers = []corev1.Container{{
		Name: "pause", Image: "skerry.dev/pause:" + os.Getenv("SKERRY_VERSION"), ImagePullPolicy: corev1.PullNever,
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
	}}
	return p
}

// smallest is a machine that asks for next to no CPU.
func smallest(name string) *v1.VirtualMachineInstance {
	vmi := tiny(name)
	vmi.Spec.Domain.Resources = &v1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}}
	vmi.Spec.Domain.Devices.AutoattachGraphicsDevice = new(bool)
	return vmi
}

// crowd creates densityCount things at once, waits until the API says that all run,
// and deletes them. list is an empty list of their kind.
func (b *bench) crowd(ctx context.Context, round string, list client.ObjectList, thing func(name string) client.Object) (crowd, error) {
	before, err := b.control(ctx)
	if err != nil {
		return crowd{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	w, err := b.node.Client.Watch(ctx, list, client.InNamespace(namespace), client.MatchingLabels{roundLabel: round})
	if err != nil {
		return crowd{}, err
	}
	defer w.Stop()

	things, began, errs := make([]client.Object, densityCount), make([]time.Time, densityCount), make([]error, densityCount)
	var wg sync.WaitGroup
	for i := range things {
		t := thing(fmt.Sprintf("%s-%d", round, i))
		t.SetLabels(map[string]string{roundLabel: round})
		things[i] = t
		wg.Go(func() { began[i] = time.Now(); errs[i] = b.node.Client.Create(ctx, t) })
	}
	ran := map[types.NamespacedName]time.Time{}
	for len(ran) < len(things) {
		select {
		case <-ctx.Done():
			return crowd{}, fmt.Errorf("%s: %d of %d run: %w", round, len(ran), len(things), context.Cause(ctx))
		case e, ok := <-w.ResultChan():
			if !ok {
				return crowd{}, fmt.Errorf("%s: the watch ended", round)
			}
			phase, object := phaseOf(e.Object)
			if object == nil || phase != string(v1.Running) {
				if phase == string(v1.Failed) || phase == string(v1.Succeeded) {
					return crowd{}, fmt.Errorf("%s: %s is %s", round, object.GetName(), phase)
				}
				continue
			}
			if key := client.ObjectKeyFromObject(object); ran[key].IsZero() {
				ran[key] = time.Now()
			}
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return crowd{}, err
	}
	var c crowd
	for i, t := range things {
		c.seconds = append(c.seconds, ran[client.ObjectKeyFromObject(t)].Sub(began[i]).Seconds())
	}
	sort.Float64s(c.seconds)
	after, err := b.control(ctx)
	if err != nil {
		return crowd{}, err
	}
	c.control = control{live: (after.live - before.live) / densityCount, anon: (after.anon - before.anon) / densityCount}
	return c, b.deleteRound(ctx, round, things[0])
}

// phaseOf is a pod's or an instance's phase; both have Running, Failed and Succeeded.
func phaseOf(o any) (string, client.Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		return string(o.Status.Phase), o
	case *v1.VirtualMachineInstance:
		return string(o.Status.Phase), o
	}
	return "", nil
}

// deleteRound deletes what a round made, of one kind, and waits until its pods are gone.
func (b *bench) deleteRound(ctx context.Context, round string, kind client.Object) error {
	in := []client.DeleteAllOfOption{client.InNamespace(namespace), client.MatchingLabels{roundLabel: round}, client.GracePeriodSeconds(0)}
	if err := b.node.Client.DeleteAllOf(ctx, kind, in...); err != nil {
		return err
	}
	return poll(ctx, 200*time.Millisecond, func() (bool, error) {
		selector := client.ListOptions{Namespace: namespace, LabelSelector: labels.SelectorFromSet(labels.Set{roundLabel: round})}
		pods, vmis := &corev1.PodList{}, &v1.VirtualMachineInstanceList{}
		err := errors.Join(b.node.Client.List(ctx, pods, &selector), b.node.Client.List(ctx, vmis, &selector))
		return len(pods.Items)+len(vmis.Items) == 0, err
	})
}

// control is the memory of the process that is the control plane, in MiB.
type control struct {
	// live is the heap that is in use right after a garbage collection, and stacks.
	live float64
	// anon is all its anonymous memory, which grows in steps and shrinks late.
	anon float64
}

// control asks the API server's profiler, which is in the same process as
// Skerry's controllers and its node agent, to collect garbage and count.
func (b *bench) control(ctx context.Context) (control, error) {
	if err := pause(ctx, 3*time.Second); err != nil { // what the last step left behind may end
		return control{}, err
	}
	heap, err := b.heap(ctx)
	if err != nil {
		return control{}, err
	}
	pid, err := b.node.PID()
	if err != nil {
		return control{}, err
	}
	m, err := statusMiB(pid)
	if err != nil {
		return control{}, err
	}
	return control{live: (heap["HeapAlloc"] + heap["Stack"]) / (1 << 20), anon: m["RssAnon"]}, nil
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil || len(b) < 4 {
		return "unknown"
	}
	if _, err := strconv.ParseFloat(string(b[:4]), 64); err != nil {
		return "unknown"
	}
	return string(b[:4])
}
