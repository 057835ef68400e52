// SPDX-License-Identifier: Apache-2.0

// Package claim is what a machine's persistent volume claim means for its disk:
// what an instance's status says of it, and how large the disk should be. It is
// pure; controller and node agent both use it, so that they agree.
package claim

import (
	"math/big"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Overhead is the part of a volume that its file system keeps to itself, as in the
// peer where nobody has set another.
const Overhead = "0.055"

// preallocated is the annotation with which importers say that a disk has all its room.
const preallocated = "cdi.kubevirt.io/storage.preallocation"

// alignment of a disk in a file system, in bytes.
const alignment = 1 << 20

// MaxSize is the largest disk, in bytes.
const MaxSize = 1 << 60

// Info is what status.volumeStatus[].persistentVolumeClaimInfo says of a claim.
func Info(c *corev1.PersistentVolumeClaim) *v1.PersistentVolumeClaimInfo {
	info := &v1.PersistentVolumeClaimInfo{ClaimName: c.Name, VolumeMode: string(corev1.PersistentVolumeFilesystem)}
	for _, m := range c.Spec.AccessModes {
		info.AccessModes = append(info.AccessModes, string(m))
	}
	if c.Spec.VolumeMode != nil {
		info.VolumeMode = string(*c.Spec.VolumeMode)
	}
	info.Capacity, info.Requests = storage(c.Status.Capacity), storage(c.Spec.Resources.Requests)
	if !Block(info) {
		info.FilesystemOverhead = Overhead
	}
	if c.Annotations[preallocated] == "true" {
		info.Preallocated = new(true)
	}
	return info
}

func storage(l corev1.ResourceList) map[string]resource.Quantity {
	q, ok := l[corev1.ResourceStorage]
	if !ok {
		return nil
	}
	return map[string]resource.Quantity{string(corev1.ResourceStorage): q}
}

// Block tells whether the claim is a block device.
func Block(info *v1.PersistentVolumeClaimInfo) bool {
	return info.VolumeMode == string(corev1.PersistentVolumeBlock)
}

// Capacity is what the claim has been given, in bytes; 0 while nothing was.
func Capacity(info *v1.PersistentVolumeClaimInfo) int64 {
	return bytes(info.Capacity)
}

func bytes(l map[string]resource.Quantity) int64 {
	q := l[string(corev1.ResourceStorage)]
	return min(max(q.Value(), 0), MaxSize)
}

// DiskSize is how large the disk in a claim with a file system should be, in bytes:
// the claim's capacity or, when that is less, its request, without the file
// system's share. It is 0 while the claim has no capacity.
func DiskSize(info *v1.PersistentVolumeClaimInfo) int64 {
	size := Capacity(info)
	if want := bytes(info.Requests); want > 0 {
		size = min(size, want)
	}
	// In fractions: what users compare with has no rounding errors either.
	keep := new(big.Rat).Sub(big.NewRat(1, 1), overhead(info.FilesystemOverhead))
	n := new(big.Rat).Mul(new(big.Rat).SetInt64(size), keep)
	return new(big.Int).Quo(n.Num(), n.Denom()).Int64() / alignment * alignment
}

func overhead(s string) *big.Rat {
	if len(s) <= 16 {
		if r, ok := new(big.Rat).SetString(s); ok && r.Sign() >= 0 && r.Cmp(big.NewRat(1, 1)) <= 0 {
			return r
		}
	}
	r, _ := new(big.Rat).SetString(Overhead)
	return r
}
