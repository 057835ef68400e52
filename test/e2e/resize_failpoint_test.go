// SPDX-License-Identifier: Apache-2.0

//go:build e2e && failpoints

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

// The controllers are killed between any two steps of a resize: what was done
// before is seen to be done, what comes after not to be, and the guest gets what
// was asked for all the same. CPU and memory are asked for in one edit.
func TestFailpointResize(t *testing.T) {
	f := newInjector(t)
	ns := namespace(t)
	vm := tinyVM(ns, "vm")
	d := &vm.Spec.Template.Spec.Domain
	d.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1, MaxSockets: 12}
	d.Resources = &v1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
	}
	create(t, vm)
	vmi := running(t, ns, "vm")
	con := openConsole(t, ns, "vm")
	before := con.uptime()

	type seen struct {
		sockets int64             // on the instance
		step    v1.PodResizeStep  // published
		asks    resource.Quantity // the pod's request
	}
	look := func() (seen, error) {
		now, out := &v1.VirtualMachineInstance{}, seen{}
		if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vmi), now); err != nil {
			return out, err
		}
		out.sockets = now.Spec.Domain.CPU.Sockets
		if p := resize.PodPart(now, resize.CPU); p != nil && p.Target != nil && p.Target.Value() == out.sockets {
			out.step = p.Step
		}
		pods := &corev1.PodList{}
		if err := shared.Client.List(t.Context(), pods, client.InNamespace(ns), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)}); err != nil {
			return out, err
		}
		if len(pods.Items) != 1 {
			return out, fmt.Errorf("%d pods", len(pods.Items))
		}
		out.asks = pods.Items[0].Spec.Containers[0].Resources.Requests[corev1.ResourceCPU]
		return out, nil
	}
	from := int64(1)
	for _, c := range []struct {
		point string
		to    int64
		// between tells whether it is what it must be there.
		between func(s seen, from, to int64) bool
	}{
		{"controller.resize.before-patch-instance", 2, func(s seen, from, to int64) bool {
			return s.sockets == from && s.asks.MilliValue() == from*100
		}},
		{"controller.resize.before-patch-pod", 3, func(s seen, from, to int64) bool {
			return s.sockets == to && s.step == v1.PodResizeAsked && s.asks.MilliValue() == from*100
		}},
		{"controller.resize.after-patch-pod", 4, func(s seen, from, to int64) bool {
			return s.sockets == to && s.step == v1.PodResizeAsked && s.asks.MilliValue() == to*100
		}},
		{"controller.resize.before-patch-pod", 2, func(s seen, from, to int64) bool {
			// The memory that a vCPU needed may go as soon as that one is out, the CPU
			// time when all are.
			return s.sockets == to && (s.step == v1.PodResizeGuestFirst || s.step == v1.PodResizeShrinking) && s.asks.MilliValue() == from*100
		}},
	} {
		if c.to < from && !campaign() {
			continue
		}
		if err := f.dir.Arm(c.point, "hang"); err != nil {
			t.Fatal(err)
		}
		edit(t, ns, "vm", func(vm *v1.VirtualMachine) {
			vm.Spec.Template.Spec.Domain.CPU.Sockets = c.to
			if c.to > from { // one edit for both; the pod's memory alone, as so small a guest has no room
				vm.Spec.Template.Spec.Domain.Resources.Requests[corev1.ResourceMemory] = *resource.NewQuantity((128+c.to)<<20, resource.BinarySI)
			}
		})
		waitFor(t, "the controller to hang at "+c.point, func() (bool, string) {
			names, err := f.dir.Hanging()
			return slices.Contains(names, c.point), fmt.Sprint(names, err)
		})
		s, err := look()
		if err != nil || !c.between(s, from, c.to) {
			t.Errorf("%s, %d → %d: between the steps there is %+v, %v", c.point, from, c.to, s, err)
		}
		f.killSkerry()
		if err := f.dir.Clear(); err != nil {
			t.Fatal(err)
		}
		con = openConsole(t, ns, "vm")
		waitFor(t, fmt.Sprintf("the guest to have %d vCPUs", c.to), func() (bool, string) {
			n := con.run("grep -c ^processor /proc/cpuinfo")
			return n == strconv.FormatInt(c.to, 10), n
		})
		asks(t, vmi, corev1.ResourceCPU, fmt.Sprintf("%dm", c.to*100))
		conditionIs(t, vmi, v1.VMIHotVCPUChange, "", "")
		conditionIs(t, vmi, v1.VMIHotMemoryChange, "", "")
		from = c.to
	}
	untouched(t, vmi)
	if up := con.uptime(); up <= before {
		t.Errorf("the guest's uptime is %v, was %v: it was started again", up, before)
	}
}
