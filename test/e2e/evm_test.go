// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
	"github.com/skerry-dev/skerry/internal/controller/evm"
)

// enhanced is a machine of 64 MiB that stays halted.
func enhanced(namespace, name string) *mecs.EnhancedVirtualMachine {
	m := &mecs.EnhancedVirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	m.Spec.Source.RegistryImageURL = "registry.invalid/nothing:latest"
	m.Spec.BootVolume.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Mi")}
	m.Spec.Template.Spec.Running = new(false)
	m.Spec.Template.Spec.Template.Spec.Domain.Memory = &v1.Memory{Guest: new(resource.MustParse("64Mi"))}
	return m
}

// readyVolume makes a claim that is bound to a directory of the test's own.
func readyVolume(t *testing.T, namespace, name string) {
	t.Helper()
	ctx := t.Context()
	class, size := namespace, corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Mi")}
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: namespace + "-" + name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: t.TempDir()}},
		},
	}
	if err := shared.Client.Create(ctx, pv); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Client.Delete(context.Background(), pv); client.IgnoreNotFound(err) != nil {
			t.Errorf("delete volume: %v", err)
		}
	})
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, VolumeName: pv.Name, AccessModes: pv.Spec.AccessModes, Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}
	if err := shared.Client.Create(ctx, claim); err != nil {
		t.Fatal(err)
	}
}

// TestEnhancedVirtualMachineKeepsItsDisk: a machine takes a claim, leaves it when it
// is deleted, and takes it again when it comes back.
func TestEnhancedVirtualMachineKeepsItsDisk(t *testing.T) {
	ns := namespace(t)
	ctx := t.Context()
	readyVolume(t, ns, "disk")
	claim := func() *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{}
		if err := shared.Client.Get(ctx, client.ObjectKey{Namespace: ns, Name: "disk"}, c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range 2 {
		m := enhanced(ns, "web")
		m.Spec.BootVolume.ClaimName = "disk"
		if err := shared.Client.Create(ctx, m); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the machine to have its disk", func() (bool, string) {
			if err := shared.Client.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil {
				return false, err.Error()
			}
			c := claim()
			return meta.IsStatusConditionTrue(m.Status.Conditions, mecs.ConditionBootVolumeReady) && c.Annotations[evm.OwnerAnnotation] == string(m.UID),
				fmt.Sprintf("status %+v, claim's annotations %v", m.Status, c.Annotations)
		})
		out, err := shared.Kubectl(ctx, "-n", ns, "get", "evm", "-o", "wide")
		if head := strings.Fields(out); err != nil || len(head) < 7 || strings.Join(head[:6], " ") != "NAME AGE PHASE IMAGE VM READY" || head[6] != "web" {
			t.Errorf("kubectl get evm -o wide: %v\n%s", err, out)
		}
		if err := shared.Client.Delete(ctx, m); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the machine's end", func() (bool, string) {
			err := shared.Client.Get(ctx, client.ObjectKeyFromObject(m), m)
			return apierrors.IsNotFound(err), fmt.Sprintf("%v, status %+v", err, m.Status)
		})
		c := claim()
		if c.DeletionTimestamp != nil || c.Annotations[evm.ReleasedAnnotation] == "" || c.Annotations[evm.OwnerAnnotation] != "" || !strings.HasPrefix(c.Annotations[evm.ReleasedFromAnnotation], "web/") {
			t.Errorf("the claim was not released: deleted %v, annotations %v", c.DeletionTimestamp, c.Annotations)
		}
	}
}

// TestEnhancedVirtualMachineSaysWhy: what is refused is refused by its path, and what
// is in a machine's way stands in its conditions.
func TestEnhancedVirtualMachineSaysWhy(t *testing.T) {
	ns := namespace(t)
	ctx := t.Context()
	bad := enhanced(ns, "bad")
	bad.Spec.Source = mecs.Source{HTTPURL: "http://registry.invalid/disk.img"}
	if err := shared.Client.Create(ctx, bad); err == nil || !strings.Contains(err.Error(), "spec.source.httpURL: is not supported") {
		t.Errorf("a source that is not supported: %v", err)
	}
	m := enhanced(ns, "web")
	if err := shared.Client.Create(ctx, m); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a condition that says what is wrong", func() (bool, string) {
		if err := shared.Client.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil {
			return false, err.Error()
		}
		for _, c := range m.Status.Conditions {
			if c.Type != mecs.ConditionReady && c.Status == metav1.ConditionFalse && len(c.Message) > 10 {
				return m.Status.Phase == mecs.PhasePending, c.Message
			}
		}
		return false, fmt.Sprintf("status %+v", m.Status)
	})
	if err := shared.Client.Delete(ctx, m); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the machine's end", func() (bool, string) {
		err := shared.Client.Get(ctx, client.ObjectKeyFromObject(m), m)
		return apierrors.IsNotFound(err), fmt.Sprintf("%v, status %+v", err, m.Status)
	})
}
