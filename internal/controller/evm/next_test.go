// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/config"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// machine is an EnhancedVirtualMachine of an image, with the finalizer.
func machine(name string) *mecs.EnhancedVirtualMachine {
	evm := &mecs.EnhancedVirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: 1, Finalizers: []string{Finalizer}},
		Spec: mecs.EnhancedVirtualMachineSpec{
			Source:     mecs.Source{RegistryImageURL: "kubevirt/fedora36"},
			BootVolume: mecs.BootVolume{Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}}},
		},
	}
	evm.Spec.Template.Spec.Running = new(true)
	d := &evm.Spec.Template.Spec.Template.Spec.Domain
	d.Devices.Disks = []v1.Disk{{Name: "cloudinit", BootOrder: new(int32(1)), Disk: &v1.DiskTarget{Bus: "virtio"}}}
	d.Devices.Interfaces = []v1.Interface{{Name: "default", BootOrder: new(int32(2))}}
	evm.Spec.Template.Spec.Template.Spec.Volumes = []v1.Volume{{Name: "cloudinit", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#cloud-config"}}}
	return evm
}

func settings() config.Config {
	c := config.Default()
	c.RegistryAddr = "harbor.example"
	return c
}

func noted(evm *mecs.EnhancedVirtualMachine) *mecs.EnhancedVirtualMachine {
	evm.Status.BaseVolume = &mecs.BaseVolumeStatus{Namespace: "mec-images", Name: baseName(digest, "local", corev1.PersistentVolumeFilesystem)}
	return evm
}

func input(evm *mecs.EnhancedVirtualMachine) Input {
	return Input{EVM: evm, Now: now, Config: settings(), Class: &Class{Name: "local", Provisioner: "driver"}, Digest: digest}
}

// base is a base claim of 10 GiB in a state.
func base(s baseState) *corev1.PersistentVolumeClaim {
	b := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "mec-images", Name: baseName(digest, "local", corev1.PersistentVolumeFilesystem), UID: "uid-base",
			Labels: map[string]string{VolumeLabel: BaseVolume}, Finalizers: []string{Finalizer},
			Annotations: map[string]string{imageAnnotation: "harbor.example/kubevirt/fedora36:latest", digestAnnotation: digest},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: new("local"),
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}},
		},
	}
	s.writeTo(b)
	return b
}

func bound(evm *mecs.EnhancedVirtualMachine) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: evm.Namespace, Name: claimName(evm), UID: "uid-claim", Labels: map[string]string{VolumeLabel: BootVolume, OwnerLabel: evm.Name},
			Annotations: map[string]string{OwnerAnnotation: string(evm.UID)},
		},
		Spec:   corev1.PersistentVolumeClaimSpec{Resources: evm.Spec.BootVolume.Resources},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
}

type refusal struct{ reason, text string }

func (r refusal) Error() string  { return r.text }
func (r refusal) Reason() string { return r.reason }

// done sums a plan up: what is made, changed and deleted.
func done(p Plan) string {
	var out []string
	for _, o := range p.Create {
		kind := o.GetObjectKind().GroupVersionKind().Kind
		if _, ok := o.(*corev1.PersistentVolumeClaim); ok {
			kind = "PVC"
		}
		out = append(out, "+"+kind)
	}
	for _, o := range p.Delete {
		switch o.(type) {
		case *corev1.PersistentVolumeClaim:
			out = append(out, "-PVC")
		case *v1.VirtualMachine:
			out = append(out, "-VM")
		default:
			out = append(out, "-"+o.GetObjectKind().GroupVersionKind().Kind)
		}
	}
	if p.Claim != nil {
		out = append(out, "~PVC")
	}
	if p.VM != nil {
		out = append(out, "~VM")
	}
	return strings.Join(out, " ")
}

func TestNext(t *testing.T) {
	t.Parallel()
	ready := baseState{Imported: true, VirtualSize: 2 << 30, Handle: "h", Driver: "driver"}
	for _, tc := range []struct {
		name   string
		in     func() Input
		done   string
		phase  mecs.Phase
		type_  string // a condition
		reason string
		text   string // part of its message
	}{
		{"broken configuration", func() Input { i := input(machine("a")); i.ConfigErr = errors.New("x: y"); return i }, "", mecs.PhasePending, mecs.ConditionBootVolumeReady, "InvalidConfiguration", "x: y"},
		{"no class", func() Input { i := input(machine("a")); i.Class, i.ClassErr = nil, errors.New("none"); return i }, "", mecs.PhasePending, mecs.ConditionBootVolumeReady, "NoStorageClass", "none"},
		{"unknown tag", func() Input { i := input(machine("a")); i.DigestErr = refusal{"NotFound", "no such tag"}; return i }, "", mecs.PhasePending, mecs.ConditionImageReady, "NotFound", "no such tag"},
		{"base is noted first", func() Input { return input(machine("a")) }, "", mecs.PhaseImporting, mecs.ConditionImageReady, "Importing", ""},
		{"then made", func() Input { return input(noted(machine("a"))) }, "+PVC", mecs.PhaseImporting, mecs.ConditionImageReady, "Importing", ""},
		{"being fetched", func() Input {
			i := input(noted(machine("a")))
			i.Base = base(baseState{Progress: &mecs.Progress{Bytes: 5}})
			return i
		}, "", mecs.PhaseImporting, mecs.ConditionImageReady, "Importing", ""},
		{"fetching fails", func() Input {
			i := input(noted(machine("a")))
			i.Base = base(baseState{Failure: &failure{Reason: "DigestMismatch", Message: "push it again"}})
			return i
		}, "", mecs.PhaseImporting, mecs.ConditionImageReady, "DigestMismatch", "push it again"},
		{"too large for the base", func() Input {
			i := input(noted(machine("a")))
			i.Base = base(baseState{Failure: &failure{Reason: tooLarge, Message: "ask for more"}})
			return i
		}, "", mecs.PhaseImporting, mecs.ConditionImageReady, "TooLarge", "ask for more"},
		{"and a machine has more room", func() Input {
			i := input(noted(machine("a")))
			i.EVM.Spec.BootVolume.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("20Gi")
			i.Base = base(baseState{Failure: &failure{Reason: tooLarge, Message: "ask for more"}})
			return i
		}, "-PVC", mecs.PhaseImporting, mecs.ConditionImageReady, "Importing", "larger"},
		{"larger than the boot volume", func() Input {
			i := input(noted(machine("a")))
			i.EVM.Spec.BootVolume.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1Gi")
			i.Base = base(ready)
			return i
		}, "", mecs.PhaseImporting, mecs.ConditionImageReady, "ImageTooLarge", "2.00 GiB"},
		{"base being collected", func() Input {
			i := input(noted(machine("a")))
			i.Base = base(ready)
			i.Base.Annotations[collectAnnotation] = "true"
			return i
		}, "", mecs.PhaseImporting, mecs.ConditionImageReady, "BaseVolumeEnding", ""},
		{"cloned", func() Input { i := input(noted(machine("a"))); i.Base = base(ready); return i }, "+VolumeSnapshotContent +VolumeSnapshot +PVC", mecs.PhaseCloning, mecs.ConditionBootVolumeReady, "Cloning", ""},
		{"of a base that is not noted", func() Input { i := input(machine("a")); i.Base = base(ready); return i }, "", mecs.PhaseCloning, mecs.ConditionImageReady, "Imported", ""},
		{"from a claim", func() Input {
			i := input(machine("a"))
			i.EVM.Spec.Source = mecs.Source{PersistentVolumeClaim: &mecs.LocalSource{Name: "golden"}}
			return i
		}, "+PVC", mecs.PhaseCloning, mecs.ConditionBootVolumeReady, "Cloning", ""},
		{"waits for its volume", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.Claim.Status.Phase = corev1.ClaimPending
			return i
		}, "", mecs.PhaseCloning, mecs.ConditionBootVolumeReady, "Cloning", "describe pvc"},
		{"that waits for the machine", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.Claim.Status.Phase, i.Class.WaitForConsumer = corev1.ClaimPending, true
			return i
		}, "+VirtualMachine", mecs.PhaseCloning, mecs.ConditionBootVolumeReady, "Cloning", ""},
		{"is bound", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.Claim.Annotations[cloneAnnotation] = "somebody-elses"
			return i
		}, "+VirtualMachine -VolumeSnapshot -VolumeSnapshotContent ~PVC", mecs.PhasePending, mecs.ConditionBootVolumeReady, "Bound", ""},
		{"another's claim", func() Input {
			i := input(machine("a"))
			i.Claim = bound(machine("b"))
			return i
		}, "", mecs.PhasePending, mecs.ConditionBootVolumeReady, "ClaimInUse", "boot volume of machine b"},
		{"somebody's claim", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.Claim.Annotations, i.Claim.Labels = nil, nil
			return i
		}, "", mecs.PhasePending, mecs.ConditionBootVolumeReady, "ClaimExists", "spec.bootVolume.claimName: a-boot"},
		{"somebody's claim, by name", func() Input {
			i := input(machine("a"))
			i.EVM.Spec.BootVolume.ClaimName = "disk"
			i.Claim = bound(i.EVM)
			i.Claim.Annotations, i.Claim.Labels = nil, nil
			return i
		}, "+VirtualMachine ~PVC", mecs.PhasePending, mecs.ConditionBootVolumeReady, "Bound", ""},
		{"its forerunner's claim", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.Claim.Annotations = map[string]string{ReleasedAnnotation: "2026-01-01T00:00:00Z", ReleasedFromAnnotation: "a/uid-old"}
			return i
		}, "+VirtualMachine ~PVC", mecs.PhasePending, mecs.ConditionBootVolumeReady, "Bound", ""},
		{"a claim that is going", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.Claim.DeletionTimestamp = new(metav1.NewTime(now))
			return i
		}, "", mecs.PhasePending, mecs.ConditionBootVolumeReady, "ClaimEnding", ""},
		{"a lost claim", func() Input {
			i := input(machine("a"))
			i.VM, _ = Machine(i.EVM, "a-boot")
			return i
		}, "", mecs.PhaseStarting, mecs.ConditionBootVolumeReady, "ClaimLost", "a-boot is gone"},
		{"grows", func() Input {
			i := input(machine("a"))
			i.Claim = bound(machine("a"))
			i.EVM.Spec.BootVolume.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("20Gi")
			i.VM, _ = Machine(i.EVM, "a-boot")
			return i
		}, "~PVC", mecs.PhaseStarting, mecs.ConditionBootVolumeReady, "Bound", ""},
		{"runs", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.VM, _ = Machine(i.EVM, "a-boot")
			i.VM.Status.PrintableStatus = v1.StatusRunning
			i.VM.Status.Conditions = []v1.VirtualMachineCondition{{Type: v1.VMReady, Status: corev1.ConditionTrue}}
			return i
		}, "", mecs.PhaseRunning, mecs.ConditionReady, "Running", ""},
		{"template changed", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.VM, _ = Machine(i.EVM, "a-boot")
			i.EVM.Spec.Template.Spec.Running = new(false)
			return i
		}, "~VM", mecs.PhaseStarting, mecs.ConditionReady, "Starting", ""},
		{"machine changed by others", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.VM, _ = Machine(i.EVM, "a-boot")
			i.VM.Spec.Running = new(false)
			i.VM.Status.PrintableStatus = v1.StatusStopped
			return i
		}, "", mecs.PhaseStopped, mecs.ConditionReady, "Starting", ""},
		{"name is taken", func() Input {
			i := input(machine("a"))
			i.Claim = bound(i.EVM)
			i.VM = &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
			return i
		}, "", mecs.PhasePending, mecs.ConditionReady, "NameTaken", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := tc.in()
			p := Next(in)
			if got := done(p); got != tc.done {
				t.Errorf("does %q, want %q", got, tc.done)
			}
			if p.EVM.Status.Phase != tc.phase {
				t.Errorf("phase %s, want %s", p.EVM.Status.Phase, tc.phase)
			}
			if c := meta.FindStatusCondition(p.EVM.Status.Conditions, tc.type_); c == nil || c.Reason != tc.reason || !strings.Contains(c.Message, tc.text) {
				t.Errorf("condition %+v, want %s with %q", c, tc.reason, tc.text)
			}
			for _, o := range p.Delete {
				if strings.Contains(o.GetName(), "somebody") {
					t.Errorf("deletes %s", o.GetName())
				}
			}
			// What nothing tells of is looked at again.
			if c := meta.FindStatusCondition(p.EVM.Status.Conditions, mecs.ConditionBootVolumeReady); p.After == 0 && c != nil && c.Status == metav1.ConditionFalse &&
				c.Reason != ReasonClaimLost && tc.reason != ReasonTooLarge {
				t.Error("waits for ever")
			}
		})
	}
}

func TestClone(t *testing.T) {
	t.Parallel()
	in := input(noted(machine("a")))
	in.Base = base(baseState{Imported: true, VirtualSize: 1 << 30, Handle: "h", Driver: "driver"})
	in.Base.Annotations[selectedNode] = "n1"
	in.EVM.Spec.BootVolume.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi") // less than the base
	p := Next(in)
	c := p.Create[2].(*corev1.PersistentVolumeClaim)
	if c.Spec.Resources.Requests.Storage().String() != "10Gi" || c.Annotations[selectedNode] != "n1" || *c.Spec.StorageClassName != "local" ||
		c.Spec.DataSource.Name != "evm-uid-a" || c.Spec.DataSource.Kind != "VolumeSnapshot" || *c.Spec.DataSource.APIGroup != "snapshot.storage.k8s.io" || len(c.OwnerReferences) > 0 {
		t.Errorf("claim %+v", c)
	}
	if p.EVM.Status.Image != "harbor.example/kubevirt/fedora36:latest" || p.EVM.Status.ImageDigest != digest {
		t.Errorf("status %+v", p.EVM.Status)
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	evm := machine("a")
	evm.Spec.Template.Labels = map[string]string{"app": "db"}
	spec := &evm.Spec.Template.Spec.Template.Spec
	spec.Volumes = append(spec.Volumes, v1.Volume{Name: "bootdisk"})
	vm, err := Machine(evm, "disk")
	if err != nil {
		t.Fatal(err)
	}
	got := vm.Spec.Template.Spec
	if d := got.Domain.Devices; d.Disks[0].Name != "bootdisk-1" || *d.Disks[0].BootOrder != 1 || *d.Disks[1].BootOrder != 2 || *d.Interfaces[0].BootOrder != 3 {
		t.Errorf("devices %+v", d)
	}
	if got.Volumes[0].Name != "bootdisk-1" || got.Volumes[0].PersistentVolumeClaim.ClaimName != "disk" || vm.Labels["app"] != "db" || !metav1.IsControlledBy(vm, evm) {
		t.Errorf("machine %+v", vm)
	}
	if *spec.Domain.Devices.Disks[0].BootOrder != 1 {
		t.Error("the template was changed")
	}
}

func TestDeleting(t *testing.T) {
	t.Parallel()
	going := func() Input {
		i := input(machine("a"))
		i.EVM.DeletionTimestamp = new(metav1.NewTime(now))
		i.Claim = bound(i.EVM)
		return i
	}
	for _, tc := range []struct {
		name     string
		in       func() Input
		done     string
		finished bool
	}{
		{"machine first", func() Input { i := going(); i.VM, _ = Machine(i.EVM, "a-boot"); return i }, "-VM", false},
		{"and its end", func() Input {
			i := going()
			i.VM, _ = Machine(i.EVM, "a-boot")
			i.VM.DeletionTimestamp = i.EVM.DeletionTimestamp
			return i
		}, "", false},
		{"kept", going, "-VolumeSnapshot -VolumeSnapshotContent ~PVC", true},
		{"deleted", func() Input { i := going(); i.EVM.Spec.BootVolume.Retain = mecs.DeleteVolume; return i }, "-VolumeSnapshot -VolumeSnapshotContent -PVC", true},
		{"never filled", func() Input { i := going(); i.Claim.Status.Phase = corev1.ClaimPending; return i }, "-VolumeSnapshot -VolumeSnapshotContent -PVC", true},
		{"another's claim", func() Input { i := going(); i.Claim = bound(machine("b")); return i }, "-VolumeSnapshot -VolumeSnapshotContent", true},
		{"no claim", func() Input { i := going(); i.Claim = nil; return i }, "-VolumeSnapshot -VolumeSnapshotContent", true},
		{"another's machine", func() Input {
			i := going()
			i.Claim, i.VM = nil, &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
			return i
		}, "-VolumeSnapshot -VolumeSnapshotContent", true},
		{"broken configuration", func() Input { i := going(); i.ConfigErr = errors.New("x"); return i }, "-VolumeSnapshot -VolumeSnapshotContent ~PVC", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := Next(tc.in())
			if got := done(p); got != tc.done || (len(p.EVM.Finalizers) == 0) != tc.finished {
				t.Errorf("does %q, want %q; finalizers %v", got, tc.done, p.EVM.Finalizers)
			}
			if p.Claim != nil && (p.Claim.Annotations[ReleasedAnnotation] != "2026-01-02T03:04:05Z" || p.Claim.Annotations[ReleasedFromAnnotation] != "a/uid-a" || p.Claim.Annotations[OwnerAnnotation] != "") {
				t.Errorf("annotations %v", p.Claim.Annotations)
			}
		})
	}
}

func TestChooseSnapshotClass(t *testing.T) {
	t.Parallel()
	classes := []SnapshotClass{{"rbd", "rbd", true}, {"b", "local", false}, {"a", "local", false}}
	for _, tc := range []struct{ configured, driver, want string }{
		{"rbd", "rbd", "rbd"}, {"", "rbd", "rbd"}, {"b", "local", "b"}, {"rbd", "local", ""}, {"", "none", ""},
	} {
		if got, err := chooseSnapshotClass(classes, tc.configured, tc.driver); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%+v: %s, %v", tc, got, err)
		}
	}
	if got, _ := chooseSnapshotClass([]SnapshotClass{{"rbd", "rbd", true}, {"only", "local", false}}, "rbd", "local"); got != "only" {
		t.Errorf("a driver's only class: %q", got)
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	c := func(name, at, owner string) corev1.PersistentVolumeClaim {
		return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{VolumeLabel: BootVolume},
			Annotations: map[string]string{ReleasedAnnotation: at, OwnerAnnotation: owner}}}
	}
	claims := []corev1.PersistentVolumeClaim{
		c("old", "2026-01-01T00:00:00Z", ""), c("taken", "2026-01-01T00:00:00Z", "uid"), c("new", "2026-01-02T03:00:00Z", ""), c("odd", "yesterday", ""), c("never", "", ""),
	}
	got, next := Expired(claims, time.Hour, now)
	if len(got) != 1 || got[0].Name != "old" || next != 55*time.Minute+55*time.Second {
		t.Errorf("%v, next in %s", got, next)
	}
	if got, next := Expired(claims, 0, now); len(got) > 0 || next != 0 {
		t.Error("kept for good, they expire")
	}
}

func TestImporter(t *testing.T) {
	t.Parallel()
	c := settings()
	c.ImagePullSecrets, c.RegistryCA, c.InsecureRegistries = []string{"robot"}, "ca", []string{"a:1"}
	pod := importer(base(baseState{}), "importer:1", corev1.PullIfNotPresent, c)
	ctr := pod.Spec.Containers[0]
	if got := strings.Join(ctr.Args, " "); got != "-image harbor.example/kubevirt/fedora36@"+digest+" -insecure a:1" {
		t.Errorf("arguments %s", got)
	}
	if _, ok := ctr.Resources.Requests[corev1.ResourceCPU]; ok || *pod.Spec.SecurityContext.RunAsUser != 107 || *pod.Spec.AutomountServiceAccountToken || len(pod.Spec.Volumes) != 4 || len(ctr.VolumeMounts) != 4 {
		t.Errorf("pod %+v", pod.Spec)
	}
	b := base(baseState{})
	b.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
	if ctr := importer(b, "x", "", config.Default()).Spec.Containers[0]; len(ctr.VolumeDevices) != 1 || ctr.VolumeDevices[0].DevicePath != TargetDevice {
		t.Errorf("block: %+v", ctr)
	}
}

func FuzzParseResult(f *testing.F) {
	f.Add(`{"reason":"TooLarge","message":"x","size":1}`)
	f.Add(`{"progress":{"bytes":1e30}}`)
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseResult(s); err == nil && (!isReason(r.Reason) || len(r.Message) > maxText+3) {
			t.Errorf("%q gives %+v", s, r)
		}
	})
}
