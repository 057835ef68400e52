// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

// Kinds of snapshots. They are handled as plain objects, since clusters may lack them.
var (
	snapshotGroup       = schema.GroupVersion{Group: "snapshot.storage.k8s.io", Version: "v1"}
	SnapshotKind        = snapshotGroup.WithKind("VolumeSnapshot")
	SnapshotContentKind = snapshotGroup.WithKind("VolumeSnapshotContent")
	SnapshotClassKind   = snapshotGroup.WithKind("VolumeSnapshotClass")
)

// defaultSnapshotClass marks a driver's default class.
const defaultSnapshotClass = "snapshot.storage.kubernetes.io/is-default-class"

// SnapshotClass is a VolumeSnapshotClass.
type SnapshotClass struct {
	Name, Driver string
	Default      bool
}

// chooseSnapshotClass is the class for the volumes of a driver: the one that is
// configured where it is of that driver, or else the driver's default or its only.
func chooseSnapshotClass(classes []SnapshotClass, configured, driver string) (string, error) {
	var fit []SnapshotClass
	for _, c := range classes {
		if c.Driver == driver {
			fit = append(fit, c)
		}
	}
	slices.SortFunc(fit, func(a, b SnapshotClass) int { return cmp.Compare(a.Name, b.Name) })
	for _, ok := range []func(SnapshotClass) bool{
		func(c SnapshotClass) bool { return c.Name == configured },
		func(c SnapshotClass) bool { return c.Default },
		func(SnapshotClass) bool { return len(fit) == 1 },
	} {
		if i := slices.IndexFunc(fit, ok); i >= 0 {
			return fit[i].Name, nil
		}
	}
	if len(fit) == 0 {
		return "", fmt.Errorf("there is no VolumeSnapshotClass of driver %s: create one, or use a storage class whose driver has one", driver)
	}
	return "", fmt.Errorf("driver %s has %d VolumeSnapshotClasses and none is its default: name one in controllerConfig.snapshotClass", driver, len(fit))
}

// Snapshot is what matters of a VolumeSnapshot and its content.
type Snapshot struct {
	Ready, Deleting bool
	Handle, Driver  string
	Message         string // of its error
}

func plain(kind schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// baseSnapshot makes the snapshot of a base.
func baseSnapshot(base *corev1.PersistentVolumeClaim, class string) *unstructured.Unstructured {
	u := plain(SnapshotKind, base.Namespace, base.Name)
	u.SetLabels(map[string]string{VolumeLabel: BaseVolume})
	u.Object["spec"] = map[string]any{
		"volumeSnapshotClassName": class,
		"source":                  map[string]any{"persistentVolumeClaimName": base.Name},
	}
	return u
}

// clones make a base's snapshot known in a machine's namespace. The content does
// not own what it stands for: it is the base's.
func clones(evm *mecs.EnhancedVirtualMachine, base baseState) (content, snapshot *unstructured.Unstructured) {
	name := cloneName(evm.UID)
	content = plain(SnapshotContentKind, "", name)
	content.SetLabels(map[string]string{VolumeLabel: BootVolume})
	content.Object["spec"] = map[string]any{
		"deletionPolicy":    "Retain",
		"driver":            base.Driver,
		"source":            map[string]any{"snapshotHandle": base.Handle},
		"volumeSnapshotRef": map[string]any{"namespace": evm.Namespace, "name": name},
	}
	snapshot = plain(SnapshotKind, evm.Namespace, name)
	snapshot.SetLabels(map[string]string{VolumeLabel: BootVolume})
	snapshot.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(evm, mecs.EnhancedVirtualMachineKind)})
	snapshot.Object["spec"] = map[string]any{"source": map[string]any{"volumeSnapshotContentName": name}}
	return content, snapshot
}
