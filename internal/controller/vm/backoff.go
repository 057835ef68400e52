// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"hash/fnv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	backoffBase = 10 * time.Second
	backoffMax  = 300 * time.Second
)

// backoff is how long to wait after the nth instance in a row that never ran:
// 10 s * n², up to half of that more, at most 300 s. What is added depends on
// the instance, so that machines that fail together are not tried together.
func backoff(n int32, failed types.UID) time.Duration {
	if n < 1 {
		return 0
	}
	if n > 6 { // 10 s * 6² is above the limit, and n² must not overflow
		return backoffMax
	}
	d := backoffBase * time.Duration(n) * time.Duration(n)
	h := fnv.New32a()
	h.Write([]byte(failed))
	return min(d+time.Duration(int64(d)/2*int64(h.Sum32()%1000)/1000), backoffMax)
}

// everRan tells whether the instance's guest ever ran.
func everRan(vmi *v1.VirtualMachineInstance) bool {
	if vmi.Status.Phase == v1.Running {
		return true
	}
	for _, t := range vmi.Status.PhaseTransitionTimestamps {
		if t.Phase == v1.Running {
			return true
		}
	}
	return false
}

// startFailure brings the count of failed starts up to date with the instance.
func startFailure(was *v1.VirtualMachineStartFailure, strategy v1.VirtualMachineRunStrategy, vmi *v1.VirtualMachineInstance, now time.Time) *v1.VirtualMachineStartFailure {
	switch strategy {
	case v1.RunStrategyAlways, v1.RunStrategyRerunOnFailure, v1.RunStrategyOnce:
	default:
		return nil
	}
	switch {
	case vmi == nil:
		return was
	case everRan(vmi):
		return nil
	case !vmi.Status.Phase.IsFinal() || vmi.DeletionTimestamp != nil:
		return was
	case was != nil && was.LastFailedVMIUID == vmi.UID:
		return was
	}
	n := int32(1)
	if was != nil {
		n = min(was.ConsecutiveFailCount, 1<<30) + 1
	}
	return &v1.VirtualMachineStartFailure{
		ConsecutiveFailCount: n,
		LastFailedVMIUID:     vmi.UID,
		RetryAfterTimestamp:  new(metav1.NewTime(now.Add(backoff(n, vmi.UID)).Truncate(time.Second))),
	}
}
