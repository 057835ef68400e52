// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// A machine waits for its claims, and keeps its data on them over a restart: one
// with a file system, one a block device, which then grows under the running guest,
// as does the file. The volumes are made by hand, as an administrator makes local ones.
func TestClaims(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	device, grow := localDevice(t, 64)
	dir := filepath.Join(filepath.Dir(shared.DataDir), ns)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, v1.QEMUUser, v1.QEMUUser); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	class := &storagev1.StorageClass{Provisioner: "kubernetes.io/no-provisioner", AllowVolumeExpansion: ptr(true), VolumeBindingMode: ptr(storagev1.VolumeBindingWaitForFirstConsumer)}
	class.Name = ns
	create(t, class)
	t.Cleanup(func() { _ = shared.Client.Delete(context.Background(), class) })
	rawPV, rawPVC := localVolume(t, ns, "raw", device, corev1.PersistentVolumeBlock)
	dataPV, dataPVC := localVolume(t, ns, "data", dir, corev1.PersistentVolumeFilesystem)

	vm := tinyVM(ns, "claims")
	spec := &vm.Spec.Template.Spec
	for _, name := range []string{"data", "raw"} {
		spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks, v1.Disk{Name: name, Serial: name, Disk: &v1.DiskTarget{Bus: "virtio"}})
		spec.Volumes = append(spec.Volumes, v1.Volume{Name: name, PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: name}})
	}
	create(t, rawPV, rawPVC, dataPV, vm)
	vmiWhen(t, ns, "claims", "waiting for its claim", func(v *v1.VirtualMachineInstance) bool {
		c := v.Status.Condition(v1.VMISynchronized)
		return c != nil && c.Reason == "FailedPvcNotFound" && strings.Contains(c.Message, "spec.volumes[0].persistentVolumeClaim.claimName")
	})
	waitFor(t, "the VM to say so", func() (bool, string) {
		got := &v1.VirtualMachine{}
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vm), got)
		return err == nil && got.Status.PrintableStatus == v1.StatusErrorPvcNotFound, fmt.Sprint(got.Status.PrintableStatus, err)
	})
	create(t, dataPVC)
	first := running(t, ns, "claims")
	sizes := func(v *v1.VirtualMachineInstance) string {
		var all []string
		for _, s := range v.Status.VolumeStatus {
			all = append(all, fmt.Sprint(s.Name, " ", s.Phase, " ", s.Size>>20))
		}
		return strings.Join(all, ", ")
	}
	vmiWhen(t, ns, "claims", "showing its disks", func(v *v1.VirtualMachineInstance) bool { return sizes(v) == "data Ready 60, raw Ready 64" })

	c := openConsole(t, ns, "claims")
	sectors := func(mib int) string { return fmt.Sprint(mib * 2048) }
	for path, want := range map[string]string{"vda/serial": "data", "vdb/serial": "raw", "vda/size": sectors(60), "vdb/size": sectors(64)} {
		if got := c.run("cat /sys/block/" + path); !strings.HasSuffix(got, want) {
			t.Errorf("the guest's %s is %q, want %s", path, got, want)
		}
	}
	const sum = "for d in vda vdb; do dd if=/dev/$d bs=64k count=32 iflag=direct 2>/dev/null | md5sum; done"
	wrote := c.run("for d in vda vdb; do dd if=/dev/urandom bs=64k count=32 2>/dev/null | dd of=/dev/$d bs=64k iflag=fullblock oflag=direct 2>/dev/null; done; sync; " + sum)
	if f := strings.Fields(wrote); len(f) != 4 || f[0] == f[2] {
		t.Fatalf("the guest wrote %q", wrote)
	}
	// It is on the volumes, and raw.
	for what, path := range map[string]string{"data": filepath.Join(dir, "disk.img"), "raw": device} {
		b, err := exec.Command("dd", "if="+path, "bs=64k", "count=32", "iflag=direct").Output()
		if err != nil || len(b) != 2<<20 || bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("volume %s: %d bytes, %v", what, len(b), err)
		}
	}

	if out, err := shared.CLI(t.Context(), "restart", "-n", ns, "claims"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	second := vmiWhen(t, ns, "claims", "another one, running", func(v *v1.VirtualMachineInstance) bool {
		return v.UID != first.UID && v.Status.Phase == v1.Running
	})
	c = openConsole(t, ns, "claims")
	// A shell that has just begun may have seen half of what was typed.
	if read := c.run(sum); !strings.HasSuffix(read, wrote) {
		t.Errorf("the guest wrote %q and read after a restart %q", wrote, read)
	}

	// The claims grow, as a storage driver would have them.
	grow(96)
	for _, name := range []string{"raw", "data"} {
		capacity(t, ns, name, "96Mi")
	}
	for dev, mib := range map[string]int{"vda": 90, "vdb": 96} {
		waitFor(t, "the guest to see "+dev+" grow", func() (bool, string) {
			got := c.run("cat /sys/block/" + dev + "/size")
			return got == sectors(mib), got
		})
	}
	vmiWhen(t, ns, "claims", "showing the new sizes", func(v *v1.VirtualMachineInstance) bool {
		return v.UID == second.UID && sizes(v) == "data Ready 90, raw Ready 96"
	})
	if read := c.run(sum); read != wrote {
		t.Errorf("the guest wrote %q and read after its disks had grown %q", wrote, read)
	}
	if got := c.run("dd if=/dev/urandom of=/dev/vdb bs=1M seek=95 count=1 oflag=direct 2>/dev/null && dd if=/dev/urandom of=/dev/vda bs=1M seek=89 count=1 oflag=direct 2>/dev/null && echo written"); got != "written" {
		t.Errorf("the guest could not write to the end of its disks: %q", got)
	}
	vmi := running(t, ns, "claims")
	if r := vmi.Status.Condition(v1.VMIRenewable); r == nil || r.Status != corev1.ConditionTrue {
		t.Errorf("QEMU can not be replaced: %+v", r)
	}
	// The loop devices can go once the pod has.
	if err := shared.Client.Delete(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the instance to go", func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vmi), &v1.VirtualMachineInstance{})
		return apierrors.IsNotFound(err), fmt.Sprint(err)
	})
}

// localDevice is a block device of that many MiB, with what makes it larger.
func localDevice(t *testing.T, mib int64) (device string, grow func(mib int64)) {
	t.Helper()
	f, err := os.CreateTemp(filepath.Dir(shared.DataDir), "device")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	file := f.Name()
	losetup := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("losetup", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("losetup %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if err := os.Truncate(file, mib<<20); err != nil {
		t.Fatal(err)
	}
	device = losetup("--find", "--show", file)
	t.Cleanup(func() {
		_ = exec.Command("losetup", "--detach", device).Run()
		os.Remove(file)
	})
	return device, func(mib int64) {
		t.Helper()
		if err := os.Truncate(file, mib<<20); err != nil {
			t.Fatal(err)
		}
		losetup("--set-capacity", device)
	}
}

// localVolume is a volume of 64 MiB on the tests' node, and its claim.
func localVolume(t *testing.T, ns, name, path string, mode corev1.PersistentVolumeMode) (*corev1.PersistentVolume, *corev1.PersistentVolumeClaim) {
	t.Helper()
	nodes := &corev1.NodeList{}
	if err := shared.Client.List(t.Context(), nodes); err != nil || len(nodes.Items) != 1 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")}
	access := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv := &corev1.PersistentVolume{}
	pv.Name = ns + "-" + name
	pv.Spec = corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: access, VolumeMode: &mode, StorageClassName: ns, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodes.Items[0].Labels[corev1.LabelHostname]}}},
		}}}},
	}
	pvc := &corev1.PersistentVolumeClaim{}
	pvc.Namespace, pvc.Name = ns, name
	pvc.Spec = corev1.PersistentVolumeClaimSpec{
		AccessModes: access, VolumeMode: &mode, StorageClassName: &ns, VolumeName: pv.Name,
		Resources: corev1.VolumeResourceRequirements{Requests: size},
	}
	t.Cleanup(func() { _ = shared.Client.Delete(context.Background(), pv) })
	return pv, pvc
}

// capacity gives a claim and its volume another size.
func capacity(t *testing.T, ns, name, size string) {
	t.Helper()
	storage := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	patch := func(obj client.Object, change func(), write func(context.Context, client.Object, client.Patch) error) {
		t.Helper()
		if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
			t.Fatal(err)
		}
		base := client.MergeFrom(obj.DeepCopyObject().(client.Object))
		change()
		if err := write(t.Context(), obj, base); err != nil {
			t.Fatalf("%T %s: %v", obj, obj.GetName(), err)
		}
	}
	main := func(ctx context.Context, o client.Object, p client.Patch) error {
		return shared.Client.Patch(ctx, o, p)
	}
	pv, pvc := &corev1.PersistentVolume{}, &corev1.PersistentVolumeClaim{}
	pv.Name, pvc.Namespace, pvc.Name = ns+"-"+name, ns, name
	patch(pv, func() { pv.Spec.Capacity = storage }, main)
	patch(pvc, func() { pvc.Spec.Resources.Requests = storage }, main)
	patch(pvc, func() { pvc.Status.Capacity = storage }, func(ctx context.Context, o client.Object, p client.Patch) error {
		return shared.Client.Status().Patch(ctx, o, p)
	})
}
