// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

// born is when the test's instances are created; now is 10 s later.
var (
	born = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	now  = born.Add(10 * time.Second)
)

type vmiOpt func(*v1.VirtualMachineInstance)

func instance(phase v1.VirtualMachineInstancePhase, opts ...vmiOpt) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "web", UID: "uid-web", Generation: 1,
		CreationTimestamp: metav1.NewTime(born), Finalizers: []string{v1.VMIFinalizer},
	}}
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: new(resource.MustParse("128Mi"))}
	order := []v1.VirtualMachineInstancePhase{v1.Pending, v1.Scheduling, v1.Scheduled, v1.Running}
	for _, p := range order {
		setPhase(&vmi.Status, p, born)
		if p == phase {
			break
		}
	}
	setPhase(&vmi.Status, phase, born)
	setStage(&vmi.Status, v1.StageAdmitted, born)
	if phase == v1.Scheduled || phase == v1.Running {
		vmi.Status.ActivePods = map[string]string{"uid-pod": "node-a"}
		vmi.Status.NodeName = "node-a"
		vmi.Labels = map[string]string{v1.NodeNameLabel: "node-a"}
		setStage(&vmi.Status, v1.StageScheduled, born)
		vmi.Status.SetCondition(v1.VMIReady, corev1.ConditionFalse, ReasonGuestNotRunning, "", born)
	}
	for _, o := range opts {
		o(vmi)
	}
	return vmi
}

func deleted(vmi *v1.VirtualMachineInstance) {
	vmi.DeletionTimestamp = new(metav1.NewTime(now))
}

func grace(s int64) vmiOpt {
	return func(vmi *v1.VirtualMachineInstance) { vmi.Spec.TerminationGracePeriodSeconds = &s }
}

func condition(t v1.VirtualMachineInstanceConditionType, s corev1.ConditionStatus, reason string) vmiOpt {
	return func(vmi *v1.VirtualMachineInstance) { vmi.Status.SetCondition(t, s, reason, "", born) }
}

type podOpt func(*corev1.Pod)

func pod(opts ...podOpt) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", CreationTimestamp: metav1.NewTime(born),
	}}
	p.Spec.Containers = []corev1.Container{{Name: v1.ComputeContainer, Image: "launcher:1"}}
	p.Status.Phase = corev1.PodPending
	p.Status.QOSClass = corev1.PodQOSBurstable
	for _, o := range opts {
		o(&p)
	}
	return p
}

func bound(p *corev1.Pod) { p.Spec.NodeName = "node-a" }

func state(s corev1.ContainerState) podOpt {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: v1.ComputeContainer, State: s}}
	}
}

func running(p *corev1.Pod) {
	bound(p)
	p.Status.Phase = corev1.PodRunning
	state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(born)}})(p)
}

func waiting(reason, message string) podOpt {
	return func(p *corev1.Pod) {
		bound(p)
		state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}})(p)
	}
}

func exited(code int32, reason, message string) podOpt {
	return func(p *corev1.Pod) {
		bound(p)
		p.Status.Phase = corev1.PodFailed
		if code == 0 {
			p.Status.Phase = corev1.PodSucceeded
		}
		state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}})(p)
	}
}

func failedPod(reason, message string) podOpt {
	return func(p *corev1.Pod) {
		bound(p)
		p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, reason, message
	}
}

// container gives the pod's container a state.
func container(state corev1.ContainerState) podOpt {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: v1.ComputeContainer, ContainerID: "containerd://1", State: state}}
	}
}

func podCond(t corev1.PodConditionType, s corev1.ConditionStatus, reason, message string) podOpt {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: s, Reason: reason, Message: message})
	}
}

func terminating(seconds int64) podOpt {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp = new(metav1.NewTime(now))
		p.DeletionGracePeriodSeconds = &seconds
	}
}

func created(at time.Time) podOpt {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(at) }
}

func uid(u types.UID) podOpt { return func(p *corev1.Pod) { p.UID = u } }

func TestNext(t *testing.T) {
	t.Parallel()
	good := Nodes{Schedulable: 1, KVM: true}
	unpaused := podCond(v1.UnpausedReadinessGate, corev1.ConditionTrue, ReasonNotPaused, "")

	for name, c := range map[string]struct {
		vmi  *v1.VirtualMachineInstance
		pods []corev1.Pod
		// cached says that the pods come from a cache.
		cached bool
		nodes  *Nodes
		at     time.Time

		confirm  bool
		create   bool
		after    time.Duration
		phase    v1.VirtualMachineInstancePhase
		reason   string
		node     string
		label    string
		active   map[string]string
		ready    string // status/reason
		synced   string
		schedule string
		message  string // part of any condition's message
		gate     string // the pod condition to write
		deletes  []Deletion
		events   []string
		released bool // the finalizer is gone
		same     bool // nothing is written
	}{
		// A new instance.
		"new": {vmi: instance(v1.Pending), create: true, phase: v1.Pending, same: true},
		"new, the webhook did not run": {vmi: instance("", func(vmi *v1.VirtualMachineInstance) {
			vmi.Finalizers, vmi.Status = nil, v1.VirtualMachineInstanceStatus{}
		}), create: true, phase: v1.Pending},
		"new, no node runs machines": {vmi: instance(v1.Pending), nodes: &Nodes{}, phase: v1.Pending,
			schedule: "False/Unschedulable", message: "kubevirt.io/schedulable=true"},
		"new, nodes are back": {vmi: instance(v1.Pending, condition(v1.VMIPodScheduled, corev1.ConditionFalse, "Unschedulable")), create: true, phase: v1.Pending},
		"new, KVM is away":    {vmi: instance(v1.Pending), nodes: &Nodes{Schedulable: 1, KVMSoon: true}, after: 20 * time.Second, phase: v1.Pending, same: true},
		"new, KVM stays away": {vmi: instance(v1.Pending), nodes: &Nodes{Schedulable: 1, KVMSoon: true}, at: born.Add(31 * time.Second), create: true, phase: v1.Pending, same: true},
		"new, no KVM at all":  {vmi: instance(v1.Pending), nodes: &Nodes{Schedulable: 1}, create: true, phase: v1.Pending, same: true},
		"creation failed before, retry keeps the condition": {vmi: instance(v1.Pending, condition(v1.VMISynchronized, corev1.ConditionFalse, ReasonFailedCreate)),
			create: true, phase: v1.Pending, synced: "False/FailedCreate", same: true},

		// The pod is not bound.
		"pod just created": {vmi: instance(v1.Pending), pods: []corev1.Pod{pod(created(now))}, after: time.Second, phase: v1.Pending, same: true},
		"pod not bound":    {vmi: instance(v1.Pending), pods: []corev1.Pod{pod()}, phase: v1.Scheduling},
		"unschedulable": {vmi: instance(v1.Pending), phase: v1.Scheduling, schedule: "False/Unschedulable", message: "lower spec.domain.memory.guest",
			pods: []corev1.Pod{pod(created(now), podCond(corev1.PodScheduled, corev1.ConditionFalse, "Unschedulable", "0/1 nodes are available: 1 Insufficient memory."))}},
		"unbound pod was deleted": {vmi: instance(v1.Scheduling), create: true, phase: v1.Scheduling, same: true},

		// The pod is bound.
		"bound": {vmi: instance(v1.Pending), pods: []corev1.Pod{pod(bound)}, phase: v1.Scheduled, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", after: 30 * time.Second},
		"bound after a wait": {vmi: instance(v1.Scheduling, condition(v1.VMIPodScheduled, corev1.ConditionFalse, "Unschedulable")), pods: []corev1.Pod{pod(bound)},
			phase: v1.Scheduled, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", after: 30 * time.Second},
		"bound, nothing new": {vmi: instance(v1.Scheduled, func(vmi *v1.VirtualMachineInstance) {
			vmi.Status.QosClass, vmi.Status.LauncherContainerImageVersion = corev1.PodQOSBurstable, "launcher:1"
		}), pods: []corev1.Pod{pod(bound)}, phase: v1.Scheduled, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", after: 20 * time.Second, same: true},
		"pull fails": {vmi: instance(v1.Scheduled, func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Volumes = []v1.Volume{{Name: "a"}, {Name: "b", ContainerDisk: &v1.ContainerDiskSource{Image: "registry.example/x:1"}}}
		}), pods: []corev1.Pod{pod(waiting("ErrImagePull", `failed to pull "registry.example/x:1": not found`))},
			phase: v1.Scheduled, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning",
			synced: "False/ErrImagePull", message: "spec.volumes[1].containerDisk.image: failed to pull", events: []string{"Warning ErrImagePull"}},
		"pull fails again after its back-off": {vmi: instance(v1.Scheduled, condition(v1.VMISynchronized, corev1.ConditionFalse, "ImagePullBackOff")),
			pods: []corev1.Pod{pod(waiting("ErrImagePull", "x"))}, phase: v1.Scheduled, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", synced: "False/ImagePullBackOff"},
		"pull succeeds at last": {vmi: instance(v1.Scheduled, condition(v1.VMISynchronized, corev1.ConditionFalse, "ImagePullBackOff")),
			pods: []corev1.Pod{pod(running, created(now))}, phase: v1.Scheduled, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", after: 20 * time.Second},
		"pod hangs": {vmi: instance(v1.Scheduled), at: born.Add(time.Minute),
			pods: []corev1.Pod{pod(waiting("ContainerCreating", ""), func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{{Name: "seed-udata", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "user"}}}}
			})},
			phase: v1.Scheduled, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning",
			synced: "False/PodNotStarted", message: "needs the Secrets user", events: []string{"Warning PodNotStarted"}},
		"agent is away": {vmi: instance(v1.Scheduled), at: born.Add(time.Minute), pods: []corev1.Pod{pod(running)},
			phase: v1.Scheduled, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning",
			synced: "False/NodeAgentNotReady", message: "skerry-node runs on node node-a", events: []string{"Warning NodeAgentNotReady"}},
		"the agent's own word stands": {vmi: instance(v1.Scheduled, condition(v1.VMISynchronized, corev1.ConditionFalse, "NetworkFailed")),
			at: born.Add(time.Minute), pods: []corev1.Pod{pod(running)}, phase: v1.Scheduled, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", synced: "False/NetworkFailed"},

		// The machine runs.
		"runs, the gate opens": {vmi: instance(v1.Running), pods: []corev1.Pod{pod(running, podCond(corev1.PodReady, corev1.ConditionFalse, "ReadinessGatesNotReady", ""))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", gate: "True/NotPaused"},
		"ready": {vmi: instance(v1.Running), pods: []corev1.Pod{pod(running, unpaused, podCond(corev1.PodReady, corev1.ConditionTrue, "", ""))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "True/"},
		"paused": {vmi: instance(v1.Running, condition(v1.VMIPaused, corev1.ConditionTrue, "PausedByUser"), condition(v1.VMIReady, corev1.ConditionTrue, "")),
			pods:  []corev1.Pod{pod(running, unpaused, podCond(corev1.PodReady, corev1.ConditionTrue, "", ""))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "True/", gate: "False/Paused"},
		"paused, and the pod follows": {vmi: instance(v1.Running, condition(v1.VMIPaused, corev1.ConditionTrue, "PausedByUser"), condition(v1.VMIReady, corev1.ConditionTrue, "")),
			pods:  []corev1.Pod{pod(running, podCond(v1.UnpausedReadinessGate, corev1.ConditionFalse, ReasonPaused, ""), podCond(corev1.PodReady, corev1.ConditionFalse, "ReadinessGatesNotReady", "x"))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/ReadinessGatesNotReady"},
		"resumed": {vmi: instance(v1.Running, condition(v1.VMIReady, corev1.ConditionFalse, "ReadinessGatesNotReady")),
			pods:  []corev1.Pod{pod(running, podCond(v1.UnpausedReadinessGate, corev1.ConditionFalse, ReasonPaused, ""), podCond(corev1.PodReady, corev1.ConditionFalse, "ReadinessGatesNotReady", "x"))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/ReadinessGatesNotReady", gate: "True/NotPaused"},
		"somebody deletes the pod": {vmi: instance(v1.Running, condition(v1.VMIReady, corev1.ConditionTrue, "")), pods: []corev1.Pod{pod(running, unpaused, terminating(60))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/PodTerminating"},
		"a second pod is deleted": {vmi: instance(v1.Running), pods: []corev1.Pod{pod(uid("uid-other"), bound, created(born.Add(-time.Hour))), pod(running, unpaused, podCond(corev1.PodReady, corev1.ConditionTrue, "", ""))},
			phase: v1.Running, node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "True/",
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-other", Grace: 60}}},

		// The end. TestJudge has the reasons.
		"powered off": {vmi: instance(v1.Running), pods: []corev1.Pod{pod(exited(0, "Completed", ""))}, phase: v1.Succeeded,
			node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning"},
		"panicked": {vmi: instance(v1.Running), pods: []corev1.Pod{pod(exited(1, "Error", "Kernel panic - not syncing\n\x1b[0m"))}, phase: v1.Failed, reason: ReasonGuestPanicked,
			node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestPanicked", message: "Kernel panic - not syncing [0m",
			events: []string{"Warning GuestPanicked"}},
		"ended before anybody looked": {vmi: instance(v1.Pending), pods: []corev1.Pod{pod(exited(64, "Error", "disk.img: not a qcow2 image"))}, phase: v1.Failed, reason: ReasonRefused,
			node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/Refused", message: "disk.img: not a qcow2 image", events: []string{"Warning Refused"}},
		"pod is gone, says the cache": {vmi: instance(v1.Running), cached: true, confirm: true},
		"pod is gone": {vmi: instance(v1.Running), phase: v1.Failed, reason: ReasonPodGone, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/PodNotExists", events: []string{"Warning PodNotExists"}},
		"final, nothing to do": {vmi: instance(v1.Succeeded), pods: []corev1.Pod{pod(exited(0, "", ""))}, phase: v1.Succeeded, same: true},
		"final, no pod":        {vmi: instance(v1.Failed), cached: true, phase: v1.Failed, same: true},
		"final, but a pod runs": {vmi: instance(v1.Failed), pods: []corev1.Pod{pod(running)}, phase: v1.Failed, same: true,
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 60}}},

		// The node refuses the pod.
		"refused by the node": {vmi: instance(v1.Scheduled), pods: []corev1.Pod{pod(failedPod("UnexpectedAdmissionError", "Allocate failed"))}, phase: v1.Pending,
			ready: "False/GuestNotRunning", synced: "False/PodRejected", message: "Allocate failed", events: []string{"Warning PodRejected"},
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 0}}},
		"refused just now, by the second node": {vmi: instance(v1.Scheduled), pods: []corev1.Pod{pod(failedPod("OutOfcpu", "x"), created(born.Add(8*time.Second)))}, phase: v1.Pending,
			ready: "False/GuestNotRunning", synced: "False/PodRejected", events: []string{"Warning PodRejected"}, after: 2 * time.Second},
		"refused for a reason of its own": {vmi: instance(v1.Scheduled), pods: []corev1.Pod{pod(failedPod("Evicted", "Pod was rejected: The node had condition: [DiskPressure]. "))}, phase: v1.Pending,
			ready: "False/GuestNotRunning", synced: "False/PodRejected", message: "DiskPressure", events: []string{"Warning PodRejected"},
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 0}}},
		"evicted before its machine ran": {vmi: instance(v1.Scheduled), pods: []corev1.Pod{pod(failedPod("Evicted", "The node was low on resource: memory."))}, phase: v1.Failed, reason: ReasonEvicted,
			node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/Evicted", events: []string{"Warning Evicted"}},
		"refused with its container made but not started": {vmi: instance(v1.Scheduled), pods: []corev1.Pod{pod(failedPod("UnexpectedAdmissionError", "Pod was rejected: x"), container(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}))}, phase: v1.Pending,
			ready: "False/GuestNotRunning", synced: "False/PodRejected", events: []string{"Warning PodRejected"},
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 0}}},
		"refused although its container ran": {vmi: instance(v1.Scheduled), pods: []corev1.Pod{pod(failedPod("UnexpectedAdmissionError", "Pod was rejected: x"), container(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}))}, phase: v1.Failed, reason: ReasonPodFailed,
			node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/PodFailed", events: []string{"Warning PodFailed"}},
		"refused, taken back, deleted": {vmi: instance(v1.Pending, condition(v1.VMISynchronized, corev1.ConditionFalse, ReasonPodRejected)), create: true, phase: v1.Pending, synced: "False/PodRejected", same: true},
		"refused after a restart of the node": {vmi: instance(v1.Running), pods: []corev1.Pod{pod(failedPod("UnexpectedAdmissionError", "x"))}, phase: v1.Failed, reason: ReasonPodRejected,
			node: "node-a", label: "node-a", active: map[string]string{"uid-pod": "node-a"}, ready: "False/PodRejected", events: []string{"Warning PodRejected"}},

		// The instance is deleted.
		"deleted": {vmi: instance(v1.Running, deleted), pods: []corev1.Pod{pod(running)}, phase: v1.Running, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", same: true,
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 60}}},
		"deleted with grace 0": {vmi: instance(v1.Running, deleted, grace(0)), pods: []corev1.Pod{pod(running)}, phase: v1.Running, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", same: true,
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 1}}},
		"deleted, the pod is on its way out": {vmi: instance(v1.Running, deleted), pods: []corev1.Pod{pod(running, terminating(60))}, phase: v1.Running, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", same: true},
		"deleted, the grace period is shortened": {vmi: instance(v1.Running, deleted, grace(1)), pods: []corev1.Pod{pod(running, terminating(60))}, phase: v1.Running, node: "node-a", label: "node-a",
			active: map[string]string{"uid-pod": "node-a"}, ready: "False/GuestNotRunning", same: true,
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 2, Again: true}}},
		"deleted, no pod, says the cache": {vmi: instance(v1.Pending, deleted), cached: true, confirm: true},
		"deleted, no pod":                 {vmi: instance(v1.Pending, deleted), phase: v1.Succeeded, ready: "False/GuestNotRunning", released: true},
		"deleted after its end": {vmi: instance(v1.Failed, deleted), pods: []corev1.Pod{pod(exited(1, "", ""))}, phase: v1.Failed, same: true,
			deletes: []Deletion{{Name: podtemplate.PodName("web", "uid-web"), UID: "uid-pod", Grace: 60}}},
		"deleted after its end, all gone": {vmi: instance(v1.Failed, deleted), phase: v1.Failed, released: true},
		"deleted, held by somebody else": {vmi: instance(v1.Failed, deleted, func(vmi *v1.VirtualMachineInstance) { vmi.Finalizers = []string{"other/one"} }),
			phase: v1.Failed, cached: true, same: true, released: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := Input{VMI: c.vmi, Pods: c.pods, Live: !c.cached, Nodes: good, Now: now}
			if c.nodes != nil {
				in.Nodes = *c.nodes
			}
			if !c.at.IsZero() {
				in.Now = c.at
			}
			before := c.vmi.DeepCopy()
			plan := Next(in)
			if diff := cmp.Diff(before, c.vmi); diff != "" {
				t.Fatalf("Next changed its input:\n%s", diff)
			}
			if plan.Confirm != c.confirm {
				t.Fatalf("confirm is %v", plan.Confirm)
			}
			if c.confirm {
				if plan.Create || plan.Delete != nil || plan.PodCondition != nil || !cmp.Equal(plan.VMI, c.vmi) {
					t.Fatalf("acts without confirmation: %+v", plan)
				}
				return
			}
			st := &plan.VMI.Status
			type summary struct {
				Create                    bool
				After                     time.Duration
				Phase                     v1.VirtualMachineInstancePhase
				Reason, Node, Label       string
				Active                    map[string]string
				Ready, Synced, Sched, Pod string
				Deletes                   []Deletion
				Events                    []string
				Released, Same            bool
			}
			got := summary{Create: plan.Create, After: plan.After, Phase: st.Phase, Reason: st.Reason, Node: st.NodeName,
				Label: plan.VMI.Labels[v1.NodeNameLabel], Ready: cond(st, v1.VMIReady), Synced: cond(st, v1.VMISynchronized),
				Sched: cond(st, v1.VMIPodScheduled), Deletes: plan.Delete, Same: cmp.Equal(before, plan.VMI)}
			if len(st.ActivePods) > 0 {
				got.Active = st.ActivePods
			}
			if plan.PodCondition != nil {
				got.Pod = string(plan.PodCondition.Status) + "/" + plan.PodCondition.Reason
			}
			for _, e := range plan.Events {
				got.Events = append(got.Events, e.Type+" "+e.Reason)
			}
			got.Released = len(plan.VMI.Finalizers) == 0 || plan.VMI.Finalizers[0] != v1.VMIFinalizer
			want := summary{Create: c.create, After: c.after, Phase: c.phase, Reason: c.reason, Node: c.node, Label: c.label, Active: c.active,
				Ready: c.ready, Synced: c.synced, Sched: c.schedule, Pod: c.gate, Deletes: c.deletes, Events: c.events, Released: c.released, Same: c.same}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if c.message != "" && !anyMessage(st, c.message) {
				t.Errorf("no condition says %q: %+v", c.message, st.Conditions)
			}

			// Deciding again about the outcome at the same moment changes nothing more.
			if !plan.Create && len(plan.Delete) == 0 {
				in.VMI = plan.VMI
				if again := Next(in); !cmp.Equal(again.VMI, plan.VMI) || len(again.Events) > 0 {
					t.Errorf("not stable: %s\nevents %v", cmp.Diff(plan.VMI, again.VMI), again.Events)
				}
			}
		})
	}
}

func cond(st *v1.VirtualMachineInstanceStatus, t v1.VirtualMachineInstanceConditionType) string {
	if c := st.Condition(t); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

func anyMessage(st *v1.VirtualMachineInstanceStatus, part string) bool {
	for _, c := range st.Conditions {
		if strings.Contains(c.Message, part) {
			return true
		}
	}
	return false
}
