// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	namespace = "default"
	// hands is how many steps the simulation does at a time.
	hands = 16
	// node is the one that all machines are on.
	node = "simulated"
)

// world is the scheduler, the kubelet and the node agent.
type world struct {
	admin client.WithWatch // also the scheduler and the kubelet
	agent client.Client    // with a node agent's rights
	// agentWrites are the node agent's.
	agentWrites writes

	work chan func(context.Context) error
	// steps are those that were taken for an object, so that an event that tells
	// nothing new leads to none.
	mu    sync.Mutex
	steps map[types.UID]string

	// settled counts the instances of which the agent has told all; the others
	// count objects.
	settled, instances, pods, machines atomic.Int64
}

func newWorld(ctx context.Context, admin *rest.Config) (*world, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	access := rest.CopyConfig(admin)
	access.QPS = -1
	w := &world{work: make(chan func(context.Context) error, 1<<16), steps: map[types.UID]string{}}
	var err error
	if w.admin, err = client.NewWithWatch(access, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	agent := rest.CopyConfig(access)
	agent.Impersonate = rest.ImpersonationConfig{UserName: "skerry-node:" + node, Groups: []string{"skerry:nodes", "system:authenticated"}}
	w.agentWrites.wrap(agent)
	if w.agent, err = client.New(agent, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{v1.SchedulableLabel: "true"}}}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	for _, o := range []client.Object{n, sa} {
		if err := w.admin.Create(ctx, o); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// run plays until ctx ends.
func (w *world) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.watch(ctx, &corev1.PodList{}, w.pod) })
	g.Go(func() error { return w.watch(ctx, &v1.VirtualMachineInstanceList{}, w.instance) })
	g.Go(func() error { return w.watch(ctx, &v1.VirtualMachineList{}, w.machine) })
	for range hands {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case step := <-w.work:
					if err := step(ctx); client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
						return err
					}
				}
			}
		})
	}
	return g.Wait()
}

func (w *world) watch(ctx context.Context, list client.ObjectList, see func(watch.EventType, runtime.Object)) error {
	i, err := w.admin.Watch(ctx, list, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	defer i.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-i.ResultChan():
			if !ok || e.Type == watch.Error {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("the watch of %T ended: %v", list, e.Object)
			}
			see(e.Type, e.Object)
		}
	}
}

// once takes a step for an object unless it was the last one taken.
func (w *world) once(uid types.UID, name string, step func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.steps[uid] == name {
		return
	}
	w.steps[uid] = name
	w.work <- step
}

func (w *world) forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.steps, uid)
}

func count(n *atomic.Int64, e watch.EventType) {
	switch e {
	case watch.Added:
		n.Add(1)
	case watch.Deleted:
		n.Add(-1)
	}
}

// pod does the scheduler's and the kubelet's next step.
func (w *world) pod(e watch.EventType, o runtime.Object) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	count(&w.pods, e)
	switch {
	case e == watch.Deleted:
		w.forget(p.UID)
	case p.DeletionTimestamp != nil:
		w.once(p.UID, "kill", func(ctx context.Context) error { return w.killed(ctx, p) })
	case p.Spec.NodeName == "":
		w.once(p.UID, "bind", func(ctx context.Context) error {
			return w.admin.SubResource("binding").Create(ctx, p, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}})
		})
	case p.Status.Phase == corev1.PodPending && len(p.Status.ContainerStatuses) == 0:
		w.once(p.UID, "creating", func(ctx context.Context) error { return w.podStatus(ctx, p, creating(p)) })
	case p.Status.Phase == corev1.PodPending:
		w.once(p.UID, "start", func(ctx context.Context) error { return w.podStatus(ctx, p, started(p, false)) })
	case p.Status.Phase == corev1.PodRunning && condition(p, v1.UnpausedReadinessGate) && !condition(p, corev1.PodReady):
		w.once(p.UID, "ready", func(ctx context.Context) error { return w.podStatus(ctx, p, started(p, true)) })
	}
}

func condition(p *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func creating(p *corev1.Pod) corev1.PodStatus {
	return corev1.PodStatus{
		HostIP: "192.0.2.1",
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: v1.ComputeContainer, Image: p.Spec.Containers[0].Image,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		}},
	}
}

func started(p *corev1.Pod, ready bool) corev1.PodStatus {
	now := metav1.Now()
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: "192.0.2.1", PodIP: "192.0.2.9", PodIPs: []corev1.PodIP{{IP: "192.0.2.9"}}, StartTime: &now,
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: v1.ComputeContainer, Image: p.Spec.Containers[0].Image, ImageID: "sha256:3f2a6c2b2ac8a3a5a3b8d9b0a2f6b2f4f3a1c0d9e8b7a6958473625140f1e2d3",
			ContainerID: "containerd://" + string(p.UID), Ready: true, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	status, reason := corev1.ConditionTrue, ""
	if !ready {
		status, reason = corev1.ConditionFalse, "ReadinessGatesNotReady"
	}
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodScheduled} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	s.Conditions = append(s.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: status, Reason: reason, LastTransitionTime: now})
	return s
}

// podStatus writes as the kubelet does, which keeps others' conditions.
func (w *world) podStatus(ctx context.Context, p *corev1.Pod, s corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{"status": s})
	if err != nil {
		return err
	}
	return w.admin.Status().Patch(ctx, p.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, patch))
}

// killed reports that the container has ended, and lets the pod go.
func (w *world) killed(ctx context.Context, p *corev1.Pod) error {
	s := started(p, false)
	s.Phase = corev1.PodSucceeded
	s.ContainerStatuses[0].Ready = false
	s.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Now()}}
	if err := w.podStatus(ctx, p, s); err != nil {
		return err
	}
	return w.admin.Delete(ctx, p, client.GracePeriodSeconds(0), client.Preconditions{UID: &p.UID})
}

func (w *world) machine(e watch.EventType, _ runtime.Object) { count(&w.machines, e) }

// instance does the node agent's next step.
func (w *world) instance(e watch.EventType, o runtime.Object) {
	vmi, ok := o.(*v1.VirtualMachineInstance)
	if !ok {
		return
	}
	count(&w.instances, e)
	switch {
	case e == watch.Deleted:
		w.mu.Lock()
		if w.steps[vmi.UID] == "talk" {
			w.settled.Add(-1)
		}
		delete(w.steps, vmi.UID)
		w.mu.Unlock()
	case vmi.DeletionTimestamp == nil && vmi.Status.NodeName == node && vmi.Status.Phase == v1.Scheduled:
		w.once(vmi.UID, "run", func(ctx context.Context) error {
			if err := w.report(ctx, vmi.DeepCopy(), runs); err != nil {
				return err
			}
			return w.event(ctx, vmi, "Started", "VirtualMachineInstance started.")
		})
	case vmi.DeletionTimestamp == nil && vmi.Status.Phase == v1.Running && ready(vmi):
		w.once(vmi.UID, "talk", func(ctx context.Context) error {
			if err := w.report(ctx, vmi.DeepCopy(), func(st *v1.VirtualMachineInstanceStatus) {
				st.Stages = append(st.Stages, v1.StageTimestamp{Stage: v1.StageFirstOutput, Time: metav1.NowMicro()})
			}); err != nil {
				return err
			}
			w.settled.Add(1)
			return nil
		})
	}
}

func ready(vmi *v1.VirtualMachineInstance) bool {
	c := vmi.Status.Condition(v1.VMIReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// report writes a change of status as the agent does; the next event brings the
// next try where somebody else was faster.
func (w *world) report(ctx context.Context, vmi *v1.VirtualMachineInstance, change func(*v1.VirtualMachineInstanceStatus)) error {
	for {
		base := client.MergeFromWithOptions(vmi.DeepCopy(), client.MergeFromWithOptimisticLock{})
		change(&vmi.Status)
		err := w.agent.Patch(ctx, vmi, base)
		if !apierrors.IsConflict(err) {
			return err
		}
		if err := w.admin.Get(ctx, client.ObjectKeyFromObject(vmi), vmi); err != nil {
			return err
		}
	}
}

// runs is what an agent says of a machine that has come up.
func runs(st *v1.VirtualMachineInstanceStatus) {
	now := time.Now()
	st.Phase = v1.Running
	st.StampPhase(v1.Running, now)
	for _, s := range []v1.Stage{v1.StageImageReady, v1.StageNetwork, v1.StageQEMU} {
		st.Stages = append(st.Stages, v1.StageTimestamp{Stage: s, Time: metav1.NewMicroTime(now)})
	}
	guest := resource.MustParse("128Mi")
	st.RuntimeUser = v1.QEMUUser
	st.Machine = &v1.Machine{Type: "pc-q35-11.1"}
	st.CurrentCPUTopology = &v1.CPUTopology{Sockets: 1, Cores: 1, Threads: 1}
	st.Memory = &v1.MemoryStatus{GuestAtBoot: &guest, GuestRequested: &guest, GuestCurrent: &guest}
	st.Interfaces = []v1.VirtualMachineInstanceNetworkInterface{{
		Name: "default", MAC: "02:00:00:00:00:01", PodInterfaceName: "eth0", InfoSource: "domain", QueueCount: 1, LinkState: "up",
		IPAddress: "192.0.2.9", IPAddresses: []string{"192.0.2.9"},
	}}
	st.SetCondition(v1.VMISoftwareEmulation, corev1.ConditionTrue, "NoKVM",
		"the machine runs in software emulation, many times slower than with KVM; the node's condition says why", now)
	st.SetCondition(v1.VMILiveMigratable, corev1.ConditionFalse, "DisksNotLiveMigratable",
		"its disks are files on this node, and live migration is not supported yet", now)
}

func (w *world) event(ctx context.Context, vmi *v1.VirtualMachineInstance, reason, note string) error {
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: vmi.Name + "-", Namespace: vmi.Namespace}, EventTime: metav1.NowMicro(),
		ReportingController: "skerry-node", ReportingInstance: "skerry-node-" + node, Action: "Run", Reason: reason, Note: note, Type: corev1.EventTypeNormal,
		Regarding: corev1.ObjectReference{Kind: v1.VirtualMachineInstanceKind.Kind, APIVersion: v1.VirtualMachineInstanceKind.GroupVersion().String(), Namespace: vmi.Namespace, Name: vmi.Name, UID: vmi.UID},
	}
	return w.agent.Create(ctx, e)
}
