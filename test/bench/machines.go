// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/node"
)

const (
	namespace = "default"
	rounds    = 5
)

// life is what one machine's life took, in seconds and MiB.
type life struct {
	qemu, output, gone         float64
	podOverhead, shim, qemuExt float64
}

// oneVM measures machines one after another, each beside a pause pod.
func (b *bench) oneVM(ctx context.Context) error {
	var pauses []float64
	var lives []life
	for i := range rounds {
		p, err := b.pausePod(ctx, fmt.Sprintf("pause-%d", i))
		if err != nil {
			return err
		}
		l, err := b.machine(ctx, fmt.Sprintf("one-%d", i))
		if err != nil {
			return err
		}
		pauses, lives = append(pauses, p), append(lives, l)
	}
	b.add("pause_pod_start_s", "s", 0, pauses...)
	b.lives("", lives)
	ratio := make([]float64, len(lives))
	for i := range lives {
		ratio[i] = lives[i].qemu / pauses[i]
	}
	b.add("create_to_qemu_ratio", "x", 1.5, ratio...)
	return nil
}

// fiveVMs measures five machines created at once.
func (b *bench) fiveVMs(ctx context.Context) error {
	lives, errs := make([]life, 5), make([]error, 5)
	var wg sync.WaitGroup
	for i := range lives {
		wg.Go(func() { lives[i], errs[i] = b.machine(ctx, fmt.Sprintf("five-%d", i)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.lives("_5vms", lives)
	return nil
}

func (b *bench) lives(suffix string, lives []life) {
	column := func(f func(life) float64) (s []float64) {
		for _, l := range lives {
			s = append(s, f(l))
		}
		return s
	}
	goal := func(g float64) float64 {
		if suffix != "" {
			return 0 // the promises are for one machine
		}
		return g
	}
	b.add("create_to_qemu_s"+suffix, "s", goal(1.5), column(func(l life) float64 { return l.qemu })...)
	b.add("create_to_guest_output_s"+suffix, "s", goal(2.5), column(func(l life) float64 { return l.output })...)
	b.add("delete_to_gone_s"+suffix, "s", goal(2), column(func(l life) float64 { return l.gone })...)
	b.add("vm_pod_overhead_mib"+suffix, "MiB", 1, column(func(l life) float64 { return l.podOverhead })...)
	b.add("shim_pss_mib"+suffix, "MiB", 0, column(func(l life) float64 { return l.shim })...)
	b.add("qemu_overhead_mib"+suffix, "MiB", 0, column(func(l life) float64 { return l.qemuExt })...)
}

// pausePod measures create → the container's process, which is the second of the
// pod (the first is the sandbox's).
func (b *bench) pausePod(ctx context.Context, name string) (float64, error) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.TerminationGracePeriodSeconds = new(int64)
	p.Spec.Containers = []corev1.Container{{Name: "pause", Image: "skerry.dev/pause:" + os.Getenv("SKERRY_VERSION"), ImagePullPolicy: corev1.PullNever}}
	begin := time.Now()
	if err := b.node.Client.Create(ctx, p); err != nil {
		return 0, err
	}
	var took float64
	err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
		pids := node.PodPIDs(string(p.UID))
		if len(pids) < 2 {
			return false, nil
		}
		for _, pid := range pids {
			if comm(pid) != "pause" {
				return false, nil // still runc
			}
			at, err := started(pid)
			if err != nil {
				return false, nil
			}
			took = max(took, at.Sub(begin).Seconds())
		}
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("pause pod %s: %w", name, err)
	}
	return took, b.delete(ctx, p)
}

// delete deletes with grace period 0 and waits until the object is gone.
func (b *bench) delete(ctx context.Context, o client.Object) error {
	if err := b.node.Client.Delete(ctx, o, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
		return err
	}
	return poll(ctx, 10*time.Millisecond, func() (bool, error) {
		err := b.node.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}

func tiny(name string) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	mem, grace := resource.MustParse("128Mi"), int64(0)
	vmi.Spec.TerminationGracePeriodSeconds = &grace
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: &mem}
	vmi.Spec.Domain.Firmware = &v1.Firmware{KernelBoot: &v1.KernelBoot{
		KernelArgs: "console=ttyS0 cryptomgr.notests no_timer_check skerry.heartbeat=off",
		Container:  &v1.KernelBootContainer{Image: "skerry.dev/test/tiny-kernel:latest", ImagePullPolicy: corev1.PullNever, KernelPath: "/boot/vmlinux", InitrdPath: "/boot/initrd"},
	}}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}}
	vmi.Spec.Networks = []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}}
	return vmi
}

// machine measures one instance from create to gone.
func (b *bench) machine(ctx context.Context, name string) (l life, err error) {
	vmi := tiny(name)
	begin := time.Now()
	if err := b.node.Client.Create(ctx, vmi); err != nil {
		return l, err
	}
	stage := func(s v1.Stage) (float64, bool) {
		i := slices.IndexFunc(vmi.Status.Stages, func(t v1.StageTimestamp) bool { return t.Stage == s })
		if i < 0 {
			return 0, false
		}
		return vmi.Status.Stages[i].Time.Sub(begin).Seconds(), true
	}
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if err := b.node.Client.Get(ctx, client.ObjectKeyFromObject(vmi), vmi); err != nil {
			return false, err
		}
		if vmi.Status.Phase.IsFinal() {
			return false, fmt.Errorf("instance %s ended: %s", name, vmi.Status.Reason)
		}
		var q, o bool
		l.qemu, q = stage(v1.StageQEMU)
		l.output, o = stage(v1.StageFirstOutput)
		return q && o, nil
	})
	if err != nil {
		return l, fmt.Errorf("instance %s: %w", name, err)
	}
	// The guest has booted when its memory no longer grows; a fixed time is good
	// enough for a figure and fair to all.
	if err := pause(ctx, 8*time.Second); err != nil {
		return l, err
	}
	if err := b.memory(ctx, vmi, &l); err != nil {
		return l, err
	}
	begin = time.Now()
	if err := b.delete(ctx, vmi); err != nil {
		return l, err
	}
	err = poll(ctx, 10*time.Millisecond, func() (bool, error) {
		pods := &corev1.PodList{}
		err := b.node.Client.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)})
		return len(pods.Items) == 0, err
	})
	l.gone = time.Since(begin).Seconds()
	return l, err
}

// memory reads the pod's processes: QEMU, the rest of the pod, and its shim.
func (b *bench) memory(ctx context.Context, vmi *v1.VirtualMachineInstance, l *life) error {
	pods := &corev1.PodList{}
	if err := b.node.Client.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)}); err != nil {
		return err
	}
	if len(pods.Items) != 1 {
		return fmt.Errorf("instance %s has %d pods", vmi.Name, len(pods.Items))
	}
	for _, pid := range node.PodPIDs(string(pods.Items[0].UID)) {
		pss, err := pssMiB(pid)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(comm(pid), "qemu-system") {
			l.podOverhead += pss
			// The sandbox's parent is the shim.
			f, err := statFields(pid)
			if err != nil {
				return err
			}
			if l.shim, err = pssMiB(f[1]); err != nil {
				return err
			}
			continue
		}
		guest, err := guestPSSMiB(pid)
		if err != nil {
			return err
		}
		l.qemuExt = pss - guest
	}
	return nil
}
