// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	signalled := func(n int32) podOpt {
		return func(p *corev1.Pod) {
			exited(128+n, "Error", "")(p)
			p.Status.ContainerStatuses[0].State.Terminated.Signal = n
		}
	}
	disrupted := func(reason string) podOpt {
		return podCond(corev1.DisruptionTarget, corev1.ConditionTrue, reason, "because")
	}
	word := func(reason int) string {
		return fmt.Sprintf("1@1790000000.000000:qemu_system_shutdown_request reason=%d\n", reason)
	}
	for name, c := range map[string]struct {
		vmi     *v1.VirtualMachineInstance
		pod     corev1.Pod
		phase   v1.VirtualMachineInstancePhase
		reason  string
		message string
	}{
		"power off":                   {instance(v1.Running), pod(exited(0, "Completed", "")), v1.Succeeded, "", ""},
		"power off, no status left":   {instance(v1.Running), pod(bound, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), v1.Succeeded, "", ""},
		"panic":                       {instance(v1.Running), pod(exited(1, "Error", "end Kernel panic")), v1.Failed, ReasonGuestPanicked, "end Kernel panic"},
		"panic, no console":           {instance(v1.Running), pod(exited(1, "Error", "")), v1.Failed, ReasonGuestPanicked, "kubectl logs"},
		"panic, QEMU's last word":     {instance(v1.Running), pod(exited(1, "Error", word(8))), v1.Failed, ReasonGuestPanicked, "see the Events and kubectl logs"},
		"lost, powered off":           {instance(v1.Running), pod(exited(255, "Unknown", word(6))), v1.Succeeded, "", ""},
		"lost, told to end":           {instance(v1.Running), pod(exited(255, "Unknown", word(4))), v1.Succeeded, "", ""},
		"lost, powered off twice":     {instance(v1.Running), pod(exited(255, "Unknown", word(6)+word(6)+word(4))), v1.Succeeded, "", ""},
		"lost, panicked":              {instance(v1.Running), pod(exited(255, "Unknown", word(8))), v1.Failed, ReasonGuestPanicked, "kubectl logs"},
		"lost, a host's error":        {instance(v1.Running), pod(exited(255, "Unknown", word(1))), v1.Failed, ReasonQEMUFailed, "not known"},
		"lost, cut off":               {instance(v1.Running), pod(exited(255, "Unknown", "qemu_system_shutdown_request reason=")), v1.Failed, ReasonQEMUFailed, "not known"},
		"lost, no word":               {instance(v1.Running), pod(exited(255, "Unknown", "the end of a console")), v1.Failed, ReasonQEMUFailed, "container runtime of node node-a"},
		"lost, drained":               {instance(v1.Running), pod(exited(255, "Unknown", word(6)), disrupted("EvictionByEvictionAPI")), v1.Failed, ReasonEvicted, "EvictionByEvictionAPI"},
		"a word beside an exit code":  {instance(v1.Running), pod(exited(134, "Error", word(6)+"assertion failed")), v1.Failed, ReasonQEMUCrashed, "assertion failed"},
		"the agent knows better":      {instance(v1.Running, func(vmi *v1.VirtualMachineInstance) { vmi.Status.Reason = ReasonQEMUFailed }), pod(exited(1, "Error", "x")), v1.Failed, ReasonQEMUFailed, "x"},
		"QEMU cannot start":           {instance(v1.Scheduled), pod(exited(1, "Error", "qemu: no such device")), v1.Failed, ReasonQEMUFailed, "no such device"},
		"another exit code":           {instance(v1.Running), pod(exited(3, "Error", "")), v1.Failed, ReasonQEMUFailed, "exit code 3"},
		"refused":                     {instance(v1.Scheduled), pod(exited(64, "Error", "backing file outside the image")), v1.Failed, ReasonRefused, "backing file outside"},
		"refused without a word":      {instance(v1.Scheduled), pod(exited(64, "Error", " ")), v1.Failed, ReasonRefused, "no message"},
		"out of memory":               {instance(v1.Running), pod(exited(137, "OOMKilled", "")), v1.Failed, ReasonOOMKilled, "spec.domain.resources.limits.memory"},
		"abort":                       {instance(v1.Running), pod(exited(134, "Error", "")), v1.Failed, ReasonQEMUCrashed, "signal 6"},
		"segmentation fault":          {instance(v1.Scheduled), pod(signalled(11)), v1.Failed, ReasonQEMUCrashed, "signal 11"},
		"killed on the node":          {instance(v1.Running), pod(exited(137, "Error", "")), v1.Failed, ReasonKilled, "kernel log"},
		"killed after its grace":      {instance(v1.Running), pod(exited(137, "Error", ""), terminating(60)), v1.Failed, ReasonKilled, "grace period"},
		"drained, cleanly shut down":  {instance(v1.Running), pod(exited(0, "Completed", ""), disrupted("EvictionByEvictionAPI")), v1.Failed, ReasonEvicted, "EvictionByEvictionAPI"},
		"node deleted":                {instance(v1.Running), pod(running, disrupted("DeletionByPodGC")), v1.Failed, ReasonNodeLost, "node-a is gone"},
		"node under pressure":         {instance(v1.Running), pod(failedPod("Evicted", "The node was low on resource: memory.")), v1.Failed, ReasonEvicted, "low on resource"},
		"node shuts down":             {instance(v1.Running), pod(failedPod("Terminated", "Pod was terminated in response to imminent node shutdown.")), v1.Failed, ReasonEvicted, "imminent"},
		"node does not answer":        {instance(v1.Running), pod(failedPod("NodeLost", "x")), v1.Failed, ReasonNodeLost, "does not answer"},
		"node restarted":              {instance(v1.Running), pod(exited(137, "ContainerStatusUnknown", "The container could not be located")), v1.Failed, ReasonNodeLost, "could not be located"},
		"container does not start":    {instance(v1.Scheduled), pod(exited(128, "StartError", "exec: no such file")), v1.Failed, ReasonPodFailed, "exec: no such file"},
		"refused by the kubelet":      {instance(v1.Running), pod(failedPod("OutOfdevices.kubevirt.io/kvm", "x")), v1.Failed, ReasonPodRejected, "node-a"},
		"failed for an unknown cause": {instance(v1.Running), pod(failedPod("", "")), v1.Failed, ReasonPodFailed, "no reason given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := judge(c.vmi, &c.pod)
			if got.phase != c.phase || got.reason != c.reason || !strings.Contains(got.message, c.message) {
				t.Errorf("%+v, want %s %s with %q", got, c.phase, c.reason, c.message)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                      "",
		"one\n\ttwo\r\n":        "one two",
		"\x1b[31mred\x00\u202e": "[31mred",
		"bad \xff byte":         "bad ? byte",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	long := printable(strings.Repeat("ä", 2000) + "end")
	if len(long) > 1024 || !utf8.ValidString(long) || !strings.HasSuffix(long, "end") || !strings.HasPrefix(long, "…") {
		t.Errorf("long text became %d bytes: %.20q…", len(long), long)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("kernel panic\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if len(got) > 1024 || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00\x1b") {
			t.Errorf("printable(%q) = %q", s, got)
		}
	})
}

func TestScheduledStampsEveryPhase(t *testing.T) {
	t.Parallel()
	at := now.Add(123456789 * time.Nanosecond)
	p := pod(bound, created(born.Add(2*time.Second)))
	plan := Next(Input{VMI: instance(v1.Pending), Pods: []corev1.Pod{p}, Live: true, Now: at})
	st := plan.VMI.Status
	var got []string
	for _, p := range st.PhaseTransitionTimestamps {
		got = append(got, string(p.Phase)+" "+p.PhaseTransitionTimestamp.UTC().Format("05"))
	}
	if want := "Pending 00,Scheduling 02,Scheduled 10"; strings.Join(got, ",") != want {
		t.Errorf("transitions %v, want %s", got, want)
	}
	if len(st.Stages) != 2 || st.Stages[1].Stage != v1.StageScheduled || !st.Stages[1].Time.Equal(new(metav1.NewMicroTime(at.Truncate(time.Microsecond)))) {
		t.Errorf("stages %v", st.Stages)
	}
	if st.QosClass != corev1.PodQOSBurstable || st.LauncherContainerImageVersion != "launcher:1" {
		t.Errorf("qosClass %q, image %q", st.QosClass, st.LauncherContainerImageVersion)
	}
}

func TestUnschedulableHint(t *testing.T) {
	t.Parallel()
	p := pod(func(p *corev1.Pod) {
		p.Spec.NodeSelector = map[string]string{v1.SchedulableLabel: "true"}
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("192Mi")}
	})
	for message, want := range map[string]string{
		"0/1 nodes are available: 1 Insufficient memory.":                               "asks for 192Mi",
		"0/1 nodes are available: 1 Insufficient devices.kubevirt.io/kvm.":              "KVM device",
		"0/1 nodes are available: 1 Insufficient devices.kubevirt.io/tun.":              "tun device",
		"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.": "(kubevirt.io/schedulable=true)",
		"0/1 nodes are available: 1 node(s) had untolerated taint(s).":                  "spec.tolerations",
		"something new": "",
	} {
		if got := unschedulableHint(&p, message); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("hint for %q: %q, want %q in it", message, got, want)
		}
	}
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	yes := map[string]string{v1.SchedulableLabel: "true"}
	node := func(labels map[string]string, condition corev1.ConditionStatus, devices ...corev1.ResourceName) corev1.Node {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
		n.Status.Allocatable = corev1.ResourceList{v1.KVMResource: resource.MustParse("0")} // as left by an earlier run
		for _, d := range devices {
			n.Status.Allocatable[d] = resource.MustParse("1k")
		}
		if condition != "" {
			n.Status.Conditions = []corev1.NodeCondition{{Type: v1.VirtualizationCondition, Status: condition}}
		}
		return n
	}
	const kvm, vhost = corev1.ResourceName(v1.KVMResource), corev1.ResourceName(v1.VhostNetResource)
	for name, c := range map[string]struct {
		nodes    []corev1.Node
		selector map[string]string
		want     Nodes
	}{
		"none":                    {nil, nil, Nodes{}},
		"not schedulable":         {[]corev1.Node{node(map[string]string{v1.SchedulableLabel: "false"}, "True", kvm)}, nil, Nodes{}},
		"emulation":               {[]corev1.Node{node(yes, "False")}, nil, Nodes{Schedulable: 1}},
		"emulation was asked for": {[]corev1.Node{node(yes, "False", kvm)}, nil, Nodes{Schedulable: 1}},
		"KVM":                     {[]corev1.Node{node(yes, "True", kvm)}, nil, Nodes{Schedulable: 1, KVM: true}},
		"KVM and vhost-net":       {[]corev1.Node{node(yes, "True", kvm, vhost)}, nil, Nodes{Schedulable: 1, KVM: true, VhostNet: true}},
		"KVM, nobody says why":    {[]corev1.Node{node(yes, "", kvm)}, nil, Nodes{Schedulable: 1, KVM: true}},
		"KVM is on its way":       {[]corev1.Node{node(yes, "True")}, nil, Nodes{Schedulable: 1, KVMSoon: true}},
		"KVM on one of two":       {[]corev1.Node{node(yes, "False"), node(yes, "True", kvm, vhost)}, nil, Nodes{Schedulable: 2, KVM: true, VhostNet: true}},
		"vhost-net on one of two": {[]corev1.Node{node(yes, "True", kvm), node(yes, "True", kvm, vhost)}, nil, Nodes{Schedulable: 2, KVM: true}},
		"KVM on none that match":  {[]corev1.Node{node(yes, "True", kvm)}, map[string]string{"x": "y"}, Nodes{Schedulable: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vmi := instance(v1.Pending, func(vmi *v1.VirtualMachineInstance) { vmi.Spec.NodeSelector = c.selector })
			if got := Survey(c.nodes, vmi); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestNewStages(t *testing.T) {
	t.Parallel()
	was := instance(v1.Scheduled)
	is := was.DeepCopy()
	setStage(&is.Status, v1.StageQEMU, born.Add(1500*time.Millisecond))
	got := newStages(&was.Status, &is.Status)
	if len(got) != 1 || got[v1.StageQEMU] != 1500*time.Millisecond {
		t.Errorf("new stages %v", got)
	}
}

// What a stripped pod leads to is what the whole pod leads to.
func TestStripPodLosesNothing(t *testing.T) {
	t.Parallel()
	rendered, err := podtemplate.Render(instance(v1.Pending, func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Volumes = []v1.Volume{{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{SecretRef: &corev1.LocalObjectReference{Name: "user"}}}}
	}), podtemplate.Params{LauncherImage: "launcher:1"})
	if err != nil {
		t.Fatal(err)
	}
	base := func(opts ...podOpt) corev1.Pod {
		p := *rendered.DeepCopy()
		p.UID, p.CreationTimestamp = "uid-pod", metav1.NewTime(born)
		for _, o := range opts {
			o(&p)
		}
		return p
	}
	for name, p := range map[string]corev1.Pod{
		"new":           base(),
		"unschedulable": base(podCond(corev1.PodScheduled, corev1.ConditionFalse, "Unschedulable", "1 Insufficient memory. 1 node(s) didn't match Pod's node affinity/selector.")),
		"bound":         base(bound),
		"hangs":         base(waiting("ContainerCreating", "")),
		"runs":          base(running, podCond(corev1.PodReady, corev1.ConditionTrue, "", "")),
		"going":         base(running, terminating(60)),
		"ended":         base(exited(1, "Error", "x")),
		"refused":       base(failedPod("UnexpectedAdmissionError", "x")),
	} {
		for _, phase := range []v1.VirtualMachineInstancePhase{v1.Pending, v1.Scheduled, v1.Running} {
			vmi := instance(phase)
			if !ours(&p, vmi) {
				t.Fatalf("%s: the pod is not recognised", name)
			}
			obj, err := StripPod(p.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			small, ok := obj.(*corev1.Pod)
			if !ok || !ours(small, vmi) {
				t.Fatalf("%s: the stripped pod is not recognised", name)
			}
			at := born.Add(time.Minute)
			want := Next(Input{VMI: vmi, Pods: []corev1.Pod{p}, Live: true, Now: at})
			got := Next(Input{VMI: vmi, Pods: []corev1.Pod{*small}, Live: true, Now: at})
			want.Pod, got.Pod = nil, nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s (-whole +stripped):\n%s", name, phase, diff)
			}
		}
	}
}
