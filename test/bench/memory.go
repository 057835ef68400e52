// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// memoryOfMany measures QEMU's proportional memory, the guest's included: of one
// machine, and of each of ten that run side by side and share what can be shared.
func (b *bench) memoryOfMany(ctx context.Context) error {
	for _, n := range []int{1, 10} {
		pss, err := b.qemuPSS(ctx, n)
		if err != nil {
			return err
		}
		suffix := fmt.Sprintf("%dvms", n)
		if n == 1 {
			suffix = "1vm"
		}
		b.add("qemu_pss_mib_"+suffix, "MiB", 0, pss...)
	}
	return nil
}

// qemuPSS starts n machines and returns the memory of each one's QEMU, in MiB.
func (b *bench) qemuPSS(ctx context.Context, n int) ([]float64, error) {
	round := fmt.Sprintf("pss-%d", n)
	vmis, errs := make([]*v1.VirtualMachineInstance, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range vmis {
		vmi := smallest(fmt.Sprintf("%s-%d", round, i))
		vmi.Labels = map[string]string{roundLabel: round}
		vmis[i] = vmi
		wg.Go(func() { errs[i] = b.booted(ctx, vmi) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// All have booted when their memory no longer grows; on a machine with two cores
	// ten take a while.
	if err := pause(ctx, time.Duration(8+3*n)*time.Second); err != nil {
		return nil, err
	}
	var out []float64
	for _, vmi := range vmis {
		pid, err := b.qemuOf(ctx, vmi)
		if err != nil {
			return nil, err
		}
		m, err := pssMiB(pid)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, b.deleteRound(ctx, round, vmis[0])
}

// booted creates the instance and waits for the guest's first output.
func (b *bench) booted(ctx context.Context, vmi *v1.VirtualMachineInstance) error {
	if err := b.node.Client.Create(ctx, vmi); err != nil {
		return err
	}
	return poll(ctx, 100*time.Millisecond, func() (bool, error) {
		if err := b.node.Client.Get(ctx, client.ObjectKeyFromObject(vmi), vmi); err != nil {
			return false, err
		}
		if vmi.Status.Phase.IsFinal() {
			return false, fmt.Errorf("instance %s ended: %s", vmi.Name, vmi.Status.Reason)
		}
		return slices.ContainsFunc(vmi.Status.Stages, func(s v1.StageTimestamp) bool { return s.Stage == v1.StageFirstOutput }), nil
	})
}
