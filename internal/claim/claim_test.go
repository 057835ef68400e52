// SPDX-License-Identifier: Apache-2.0

package claim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func storageList(s string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(s)}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "root"}}
	if diff := cmp.Diff(&v1.PersistentVolumeClaimInfo{ClaimName: "root", VolumeMode: "Filesystem", FilesystemOverhead: "0.055"}, Info(c)); diff != "" {
		t.Errorf("of a bare claim:\n%s", diff)
	}
	c.Annotations = map[string]string{preallocated: "true"}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
	c.Spec.Resources.Requests = storageList("1Gi")
	c.Status.Capacity = storageList("2Gi")
	want := &v1.PersistentVolumeClaimInfo{
		ClaimName: "root", VolumeMode: "Block", AccessModes: []string{"ReadWriteOnce"}, Preallocated: new(true),
		Capacity: map[string]resource.Quantity{"storage": resource.MustParse("2Gi")}, Requests: map[string]resource.Quantity{"storage": resource.MustParse("1Gi")},
	}
	if diff := cmp.Diff(want, Info(c)); diff != "" {
		t.Error(diff)
	}
	if !Block(want) || Capacity(want) != 2<<30 {
		t.Error("not taken for a block device of 2 GiB")
	}
}

func TestDiskSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		capacity, request, overhead string
		want                        int64 // MiB
	}{
		{"", "1Gi", "0.055", 0},
		{"1Gi", "", "0.055", 967}, // of 967.68
		{"10Gi", "1Gi", "0.055", 967},
		{"1Gi", "10Gi", "0.055", 967},
		{"1000Mi", "1000Mi", "0.1", 900},
		{"1Gi", "1Gi", "0", 1024},
		{"1Gi", "1Gi", "1", 0},
		{"1Gi", "1Gi", "2", 967}, // nonsense is as if nothing was said
		{"1Gi", "1Gi", "x", 967},
		{"1Gi", "1Gi", "1e999999999", 967},
		{"1Mi", "1Mi", "0.055", 0},
		{"-1Gi", "1Gi", "0", 0},
		{"9E", "9E", "0", MaxSize >> 20},
	} {
		info := &v1.PersistentVolumeClaimInfo{FilesystemOverhead: c.overhead}
		if c.capacity != "" {
			info.Capacity = map[string]resource.Quantity{"storage": resource.MustParse(c.capacity)}
		}
		if c.request != "" {
			info.Requests = map[string]resource.Quantity{"storage": resource.MustParse(c.request)}
		}
		if got := DiskSize(info); got != c.want<<20 {
			t.Errorf("%+v: %d MiB, want %d", c, got>>20, c.want)
		}
	}
}

// Whatever is in a status, the size is a disk's that is no larger than the claim.
func FuzzDiskSize(f *testing.F) {
	f.Add(int64(1<<30), int64(1<<30), "0.055")
	f.Add(int64(-1), int64(1)<<62, "1/3")
	f.Add(int64(1)<<62, int64(0), "0x1p-2")
	f.Fuzz(func(t *testing.T, capacity, request int64, overhead string) {
		info := &v1.PersistentVolumeClaimInfo{
			FilesystemOverhead: overhead,
			Capacity:           map[string]resource.Quantity{"storage": *resource.NewQuantity(capacity, resource.BinarySI)},
			Requests:           map[string]resource.Quantity{"storage": *resource.NewQuantity(request, resource.BinarySI)},
		}
		if n := DiskSize(info); n < 0 || n > max(capacity, 0) || n%alignment != 0 {
			t.Errorf("%d bytes of a claim of %d", n, capacity)
		}
	})
}
