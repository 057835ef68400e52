// SPDX-License-Identifier: Apache-2.0

package vmi

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/claim"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/controller/crashtest"
)

func pvc(name string, phase corev1.PersistentVolumeClaimPhase, opts ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	c.Status.Phase = phase
	if phase == corev1.ClaimBound {
		c.Status.Capacity = c.Spec.Resources.Requests
	}
	for _, o := range opts {
		o(c)
	}
	return c
}

func block(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = new(corev1.PersistentVolumeBlock) }

func withClaims(names ...string) vmiOpt {
	return func(vmi *v1.VirtualMachineInstance) {
		for _, n := range names {
			vmi.Spec.Volumes = append(vmi.Spec.Volumes, v1.Volume{Name: "vol-" + n, PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: n}})
		}
	}
}

func TestAwaitClaims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claim   Claim
		create  bool
		synced  string
		message string
		phase   string // of the volume
	}{
		"missing": {synced: "False/FailedPvcNotFound", message: "spec.volumes[0].persistentVolumeClaim.claimName: there is no PersistentVolumeClaim data in namespace ns"},
		"deleted": {claim: Claim{PVC: pvc("data", corev1.ClaimBound, func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = new(metav1.NewTime(now)) })},
			synced: "False/PVCNotReady", message: "is being deleted"},
		"lost":    {claim: Claim{PVC: pvc("data", corev1.ClaimLost)}, synced: "False/PVCNotReady", message: "has lost its volume", phase: "Pending"},
		"in use":  {claim: Claim{PVC: pvc("data", corev1.ClaimBound), User: "db"}, synced: "False/PVCNotReady", message: "in use by machine db"},
		"unbound": {claim: Claim{PVC: pvc("data", corev1.ClaimPending)}, create: true, phase: "Pending"},
		"bound":   {claim: Claim{PVC: pvc("data", corev1.ClaimBound)}, create: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := Input{VMI: instance(v1.Pending, withClaims("data")), Live: true, Nodes: Nodes{Schedulable: 1}, Claims: map[string]Claim{"data": c.claim}, Now: now}
			plan := Next(in)
			st := &plan.VMI.Status
			if plan.Create != c.create || cond(st, v1.VMISynchronized) != c.synced || c.message != "" && !anyMessage(st, c.message) {
				t.Errorf("create %v, synchronized %s, conditions %+v", plan.Create, cond(st, v1.VMISynchronized), st.Conditions)
			}
			if c.claim.PVC != nil && (len(st.VolumeStatus) != 1 || st.VolumeStatus[0].Phase != c.phase || st.VolumeStatus[0].PersistentVolumeClaimInfo == nil) {
				t.Errorf("volumes %+v", st.VolumeStatus)
			}
			in.VMI = plan.VMI
			if again := Next(in); !cmp.Equal(again.VMI, plan.VMI) || len(again.Events) > 0 {
				t.Errorf("not stable: %s\nevents %v", cmp.Diff(plan.VMI, again.VMI), again.Events)
			}
			// When the cause is gone the machine starts, and nothing reminds of it.
			in.Claims = map[string]Claim{"data": {PVC: pvc("data", corev1.ClaimBound)}}
			plan = Next(in)
			if st := &plan.VMI.Status; !plan.Create || cond(st, v1.VMISynchronized) != "" || st.VolumeStatus[0].Phase != "" {
				t.Errorf("afterwards: create %v, %+v", plan.Create, st)
			}
		})
	}
}

// What the agent has written about a volume stays, and a claim that grows is seen.
func TestClaimInStatus(t *testing.T) {
	t.Parallel()
	vmi := instance(v1.Running, withClaims("b", "a"))
	vmi.Status.VolumeStatus = []v1.VolumeStatus{{Name: "vol-b", Target: "vda", Phase: "Ready", Size: 5}}
	big := pvc("b", corev1.ClaimBound, block)
	big.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	in := Input{VMI: vmi, Pods: []corev1.Pod{pod(running)}, Now: now, Claims: map[string]Claim{"a": {PVC: pvc("a", corev1.ClaimBound)}, "b": {PVC: big}}}
	got := Next(in).VMI.Status.VolumeStatus
	if len(got) != 2 || got[0].Name != "vol-a" || got[1].Target != "vda" || got[1].Phase != "Ready" || got[1].Size != 5 ||
		claim.Capacity(got[1].PersistentVolumeClaimInfo) != 2<<30 || !claim.Block(got[1].PersistentVolumeClaimInfo) || claim.DiskSize(got[0].PersistentVolumeClaimInfo) != 967<<20 {
		t.Errorf("volumes %+v", got)
	}
	// A claim that is deleted under a running machine changes nothing.
	in.Claims = map[string]Claim{"a": {}, "b": {PVC: big}}
	if next := Next(in); next.VMI.Status.Phase != v1.Running || len(next.Delete) > 0 {
		t.Errorf("plan %+v", next)
	}
}

func TestClaimUser(t *testing.T) {
	t.Parallel()
	other := func(phase v1.VirtualMachineInstancePhase, readOnly bool) v1.VirtualMachineInstance {
		vmi := instance(phase, withClaims("data"))
		vmi.Name, vmi.UID = "db", "uid-db"
		vmi.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = &readOnly
		return *vmi
	}
	for _, c := range []struct {
		phase        v1.VirtualMachineInstancePhase
		theirs, ours bool // read-only
		want         string
	}{
		{v1.Pending, false, false, ""}, {v1.Scheduling, false, false, "db"}, {v1.Running, false, false, "db"}, {v1.Succeeded, false, false, ""},
		{v1.Running, true, false, "db"}, {v1.Running, false, true, "db"}, {v1.Running, true, true, ""},
	} {
		vmi := instance(v1.Pending, withClaims("data"))
		vmi.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = &c.ours
		if got := user([]v1.VirtualMachineInstance{*vmi, other(c.phase, c.theirs)}, vmi, "data"); got != c.want {
			t.Errorf("%+v: used by %q", c, got)
		}
	}
}

func TestClaimChanges(t *testing.T) {
	t.Parallel()
	was := pvc("data", corev1.ClaimBound)
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolumeClaim)
		want   bool
	}{
		"nothing":  {func(*corev1.PersistentVolumeClaim) {}, false},
		"label":    {func(c *corev1.PersistentVolumeClaim) { c.Labels = map[string]string{"a": "b"} }, false},
		"phase":    {func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost }, true},
		"deletion": {func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = new(metav1.NewTime(now)) }, true},
		"capacity": {func(c *corev1.PersistentVolumeClaim) {
			c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
		}, true},
	} {
		is := was.DeepCopy()
		c.change(is)
		for _, o := range []*corev1.PersistentVolumeClaim{was, is} { // the cache has what it needs
			stripped, err := StripClaim(o)
			if err != nil {
				t.Fatal(err)
			}
			*o = *stripped.(*corev1.PersistentVolumeClaim)
		}
		if got := claimChanged().Update(event.UpdateEvent{ObjectOld: was, ObjectNew: is}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A machine whose claims come one after the other ends as one that had them from
// the start, wherever the controller dies.
func TestLifeWithClaims(t *testing.T) {
	t.Parallel()
	life := func(t *testing.T, c *crashtest.Writer) *world {
		t.Helper()
		w := newWorld(t, c, instance(v1.Pending, grace(2), withClaims("data", "raw")))
		w.settle()
		if vmi := w.vmi(); cond(&vmi.Status, v1.VMISynchronized) != "False/FailedPvcNotFound" || w.pods != 0 {
			t.Fatalf("without claims: %d pods, %+v", w.pods, vmi.Status)
		}
		w.must(w.api.Create(t.Context(), pvc("data", corev1.ClaimBound)))
		w.must(w.api.Create(t.Context(), pvc("raw", corev1.ClaimPending, block)))
		if err := w.pass(); err != nil && !errors.Is(err, crashtest.ErrCrash) {
			t.Fatal(err)
		}
		raw := pvc("raw", corev1.ClaimBound, block)
		w.must(w.api.Get(t.Context(), client.ObjectKeyFromObject(raw), raw))
		raw.Status.Phase, raw.Status.Capacity = corev1.ClaimBound, raw.Spec.Resources.Requests
		w.must(w.api.Status().Update(t.Context(), raw))
		w.settle()
		vmi, pods := w.vmi(), w.podList()
		if vmi.Status.Phase != v1.Running || cond(&vmi.Status, v1.VMISynchronized) != "" || len(pods) != 1 || w.pods != 1 {
			t.Fatalf("%d pods, %+v", w.pods, vmi.Status)
		}
		if v := vmi.Status.VolumeStatus; len(v) != 2 || v[0].Phase != "" || v[1].Phase != "" || claim.Capacity(v[1].PersistentVolumeClaimInfo) != 1<<30 {
			t.Errorf("volumes %+v", v)
		}
		main := pods[0].Spec.Containers[0]
		if !slices.ContainsFunc(main.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == contract.ClaimDir+"/vol-data" }) ||
			len(main.VolumeDevices) != 1 || main.VolumeDevices[0].DevicePath != contract.ClaimDeviceDir+"/vol-raw" {
			t.Errorf("mounts %+v, devices %+v", main.VolumeMounts, main.VolumeDevices)
		}
		return w
	}
	quiet := &crashtest.Writer{}
	w := life(t, quiet)
	if n := len(quiet.Log()); n > 9 {
		t.Errorf("%d writes:\n%s", n, strings.Join(quiet.Log(), "\n"))
	}
	if n := len(w.events); n != 2 {
		t.Errorf("events %v", w.events)
	}
	for i := range len(quiet.Log()) {
		t.Run(fmt.Sprintf("crash at %d", i+1), func(t *testing.T) {
			t.Parallel()
			life(t, &crashtest.Writer{FailAt: i + 1, After: i%2 == 0})
		})
	}
}
