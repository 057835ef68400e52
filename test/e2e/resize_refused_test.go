// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// edit changes the machine's template as a user does.
func edit(t *testing.T, namespace, name string, change func(*v1.VirtualMachine)) {
	t.Helper()
	vm := &v1.VirtualMachine{}
	if err := shared.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, vm); err != nil {
		t.Fatalf("read machine %s: %v", name, err)
	}
	base := vm.DeepCopy()
	change(vm)
	if err := shared.Client.Patch(t.Context(), vm, client.MergeFrom(base)); err != nil {
		t.Fatalf("edit machine %s: %v", name, err)
	}
}

func setRequest(name corev1.ResourceName, q string) func(*v1.VirtualMachine) {
	return func(vm *v1.VirtualMachine) {
		d := &vm.Spec.Template.Spec.Domain
		if d.Resources == nil {
			d.Resources = &v1.ResourceRequirements{}
		}
		if d.Resources.Requests == nil {
			d.Resources.Requests = corev1.ResourceList{}
		}
		d.Resources.Requests[name] = resource.MustParse(q)
	}
}

// conditionIs waits until the instance's condition has that status and reason, and
// texts in its message; an empty status waits until it is gone.
func conditionIs(t *testing.T, vmi *v1.VirtualMachineInstance, kind v1.VirtualMachineInstanceConditionType, status corev1.ConditionStatus, reason string, texts ...string) {
	t.Helper()
	vmiWhen(t, vmi.Namespace, vmi.Name, fmt.Sprintf("%s=%s %s %q", kind, status, reason, texts), func(v *v1.VirtualMachineInstance) bool {
		c := v.Status.Condition(kind)
		if status == "" {
			return c == nil
		}
		if c == nil || c.Status != status || c.Reason != reason {
			return false
		}
		for _, text := range texts {
			if !strings.Contains(c.Message, text) {
				return false
			}
		}
		return true
	})
	if status != "" {
		v := &v1.VirtualMachineInstance{}
		if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vmi), v); err == nil {
			if c := v.Status.Condition(kind); c != nil {
				t.Logf("%s=%s %s: %s", kind, c.Status, c.Reason, c.Message)
			}
		}
	}
}

// asks waits until the pod's container asks for that much and its kubelet has
// granted it.
func asks(t *testing.T, vmi *v1.VirtualMachineInstance, name corev1.ResourceName, want string) {
	t.Helper()
	q := resource.MustParse(want)
	waitFor(t, fmt.Sprintf("the pod of %s to ask for %s of %s", vmi.Name, want, name), func() (bool, string) {
		c := podOf(t, vmi)
		has := c.Spec.Containers[0].Resources.Requests[name]
		var got resource.Quantity
		if s := c.Status.ContainerStatuses; len(s) == 1 && s[0].Resources != nil {
			got = s[0].Resources.Requests[name]
		}
		return has.Cmp(q) == 0 && got.Cmp(q) == 0, fmt.Sprintf("spec %s, granted %s, conditions %+v", has.String(), got.String(), c.Status.Conditions)
	})
}

// untouched fails when the machine's pod was restarted or its guest was.
func untouched(t *testing.T, vmi *v1.VirtualMachineInstance) {
	t.Helper()
	pod := podOf(t, vmi)
	if n := pod.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("the container was restarted %d times", n)
	}
	now := &v1.VirtualMachineInstance{}
	if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vmi), now); err != nil || now.UID != vmi.UID || now.Status.Phase != v1.Running {
		t.Errorf("the instance is another or does not run: %v, phase %s", err, now.Status.Phase)
	}
}

// What the API server or the kubelet will not have is told in their words, changes
// nothing, and goes through by itself as soon as it can. Not parallel: one part
// fills the node.
func TestResizeRefused(t *testing.T) {
	ns := namespace(t)
	vm := tinyVM(ns, "vm")
	// Without it the sockets follow the request.
	vm.Spec.Template.Spec.Domain.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1}
	create(t, vm)
	vmi := running(t, ns, "vm")
	asks(t, vmi, corev1.ResourceCPU, "100m")

	t.Log("a requests-only change needs no guest")
	edit(t, ns, "vm", setRequest(corev1.ResourceCPU, "150m"))
	asks(t, vmi, corev1.ResourceCPU, "150m")
	conditionIs(t, vmi, v1.VMIHotVCPUChange, "", "")

	t.Log("a full quota")
	quota := &corev1.ResourceQuota{}
	quota.Namespace, quota.Name = ns, "full"
	quota.Spec.Hard = corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("200m")}
	create(t, quota)
	waitFor(t, "the quota to count the machine", func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(quota), quota)
		used := quota.Status.Used[corev1.ResourceRequestsCPU]
		return err == nil && used.String() == "150m", fmt.Sprintf("%v, used %s", err, used.String())
	})
	edit(t, ns, "vm", setRequest(corev1.ResourceCPU, "300m"))
	conditionIs(t, vmi, v1.VMIHotVCPUChange, corev1.ConditionFalse, "Forbidden", "exceeded quota: full", "raise the quota of namespace "+ns)
	asks(t, vmi, corev1.ResourceCPU, "150m")
	if err := shared.Client.Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	asks(t, vmi, corev1.ResourceCPU, "300m")
	conditionIs(t, vmi, v1.VMIHotVCPUChange, "", "")

	t.Log("a LimitRange that would throttle the machine")
	limits := &corev1.LimitRange{}
	limits.Namespace, limits.Name = ns, "defaults"
	limits.Spec.Limits = []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}
	create(t, limits)
	edit(t, ns, "vm", setRequest(corev1.ResourceCPU, "200m"))
	conditionIs(t, vmi, v1.VMIHotVCPUChange, corev1.ConditionFalse, "AdmissionChangedIt", "resources.limits.cpu 500m instead of none", "LimitRange in namespace "+ns)
	asks(t, vmi, corev1.ResourceCPU, "300m")
	if err := shared.Client.Delete(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
	asks(t, vmi, corev1.ResourceCPU, "200m")

	t.Log("more than the node has")
	edit(t, ns, "vm", setRequest(corev1.ResourceCPU, "500"))
	conditionIs(t, vmi, v1.VMIHotVCPUChange, corev1.ConditionFalse, "Forbidden", "allocatable", "is too small for it")
	asks(t, vmi, corev1.ResourceCPU, "200m")

	t.Log("a node that is full, then is not")
	node := &corev1.Node{}
	pod := podOf(t, vmi)
	if err := shared.Client.Get(t.Context(), client.ObjectKey{Name: pod.Spec.NodeName}, node); err != nil {
		t.Fatal(err)
	}
	whole := node.Status.Allocatable.Cpu().MilliValue()
	filler := toolsPod(ns, "filler")
	filler.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(whole*6/10, resource.DecimalSI)}
	create(t, filler)
	waitFor(t, "the filler to run", func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(filler), filler)
		return err == nil && filler.Status.Phase == corev1.PodRunning, fmt.Sprintf("%v %s %+v", err, filler.Status.Phase, filler.Status.Conditions)
	})
	want := resource.NewMilliQuantity(whole/2, resource.DecimalSI).String()
	edit(t, ns, "vm", setRequest(corev1.ResourceCPU, want))
	conditionIs(t, vmi, v1.VMIHotVCPUChange, corev1.ConditionTrue, "Deferred", "goes through as soon as node "+pod.Spec.NodeName+" has room")
	if err := shared.Client.Delete(t.Context(), filler, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	asks(t, vmi, corev1.ResourceCPU, want)
	conditionIs(t, vmi, v1.VMIHotVCPUChange, "", "")

	t.Log("smaller again")
	edit(t, ns, "vm", setRequest(corev1.ResourceCPU, "100m"))
	asks(t, vmi, corev1.ResourceCPU, "100m")
	conditionIs(t, vmi, v1.VMIHotVCPUChange, "", "")
	untouched(t, vmi)
}

// A pod keeps its QoS class.
func TestResizeKeepsQoS(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := tinyVM(ns, "guaranteed")
	both := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("300m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	vm.Spec.Template.Spec.Domain.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1}
	vm.Spec.Template.Spec.Domain.Resources = &v1.ResourceRequirements{Requests: both, Limits: both.DeepCopy()}
	create(t, vm)
	vmi := running(t, ns, "guaranteed")
	if pod := podOf(t, vmi); pod.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Fatalf("the pod is %s", pod.Status.QOSClass)
	}
	edit(t, ns, "guaranteed", setRequest(corev1.ResourceCPU, "200m"))
	conditionIs(t, vmi, v1.VMIHotVCPUChange, corev1.ConditionFalse, "Invalid", "QOS Class may not change", "keep requests equal to limits")
	asks(t, vmi, corev1.ResourceCPU, "300m")
	edit(t, ns, "guaranteed", func(vm *v1.VirtualMachine) {
		r := vm.Spec.Template.Spec.Domain.Resources
		r.Limits[corev1.ResourceCPU], r.Requests[corev1.ResourceCPU] = resource.MustParse("350m"), resource.MustParse("350m")
	})
	asks(t, vmi, corev1.ResourceCPU, "350m")
	conditionIs(t, vmi, v1.VMIHotVCPUChange, "", "")
	untouched(t, vmi)
}

// What cannot change while the machine runs is said by field, and no longer once
// it is taken back.
func TestRestartRequired(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	create(t, tinyVM(ns, "vm"))
	vmi := running(t, ns, "vm")
	is := func(what string, ok func(*v1.VirtualMachineCondition) bool) {
		t.Helper()
		waitFor(t, "RestartRequired to be "+what, func() (bool, string) {
			vm := &v1.VirtualMachine{}
			if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vmi), vm); err != nil {
				return false, err.Error()
			}
			for i := range vm.Status.Conditions {
				if c := &vm.Status.Conditions[i]; c.Type == v1.VMRestartRequired {
					return ok(c), c.Message
				}
			}
			return ok(nil), "no condition"
		})
	}
	gone := func(c *v1.VirtualMachineCondition) bool { return c == nil }
	has := func(texts ...string) func(*v1.VirtualMachineCondition) bool {
		return func(c *v1.VirtualMachineCondition) bool {
			for _, text := range texts {
				if c == nil || !strings.Contains(c.Message, text) {
					return false
				}
			}
			return true
		}
	}
	edit(t, ns, "vm", func(vm *v1.VirtualMachine) {
		vm.Spec.Template.Spec.Domain.Memory.Guest = ptr(resource.MustParse("256Mi"))
	})
	is("about the memory", has("domain.memory.guest: 256Mi", "set memory.maxGuest before the restart", "skerry restart vm"))
	edit(t, ns, "vm", func(vm *v1.VirtualMachine) {
		vm.Spec.Template.Spec.Domain.Memory.Guest = ptr(resource.MustParse("128Mi"))
	})
	is("gone", gone)
	edit(t, ns, "vm", func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "other" })
	is("about the host name", has(`spec.template.spec.hostname: "other"`))
	edit(t, ns, "vm", func(vm *v1.VirtualMachine) { vm.Spec.Template.Spec.Hostname = "" })
	is("gone", gone)
	untouched(t, vmi)
}
