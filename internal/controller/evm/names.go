// SPDX-License-Identifier: Apache-2.0

package evm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

const (
	// Finalizer is on machines, so that the boot volume is released when one ends,
	// and on base claims, so that their snapshots end with them.
	Finalizer = "mececs.io/volumes"

	// VolumeLabel says what a claim is: BaseVolume or BootVolume.
	VolumeLabel = "mececs.io/volume"
	BaseVolume  = "base"
	BootVolume  = "boot"
	// OwnerLabel has the name of a boot volume's machine, also after its end.
	OwnerLabel = "mececs.io/evm"

	// OwnerAnnotation has the UID of a boot volume's machine.
	OwnerAnnotation = "mececs.io/evm-uid"
	// ReleasedAnnotation is on boot volumes whose machine was deleted, with the
	// time (RFC 3339); ReleasedFromAnnotation has that machine's name and UID.
	ReleasedAnnotation     = "mececs.io/released-at"
	ReleasedFromAnnotation = "mececs.io/released-from"
	// cloneAnnotation has the snapshot that a boot volume is being cloned from,
	// until that is no longer needed.
	cloneAnnotation = "mececs.io/clone"

	// Of base claims.
	imageAnnotation  = "mececs.io/image"
	digestAnnotation = "mececs.io/image-digest"
	stateAnnotation  = "mececs.io/base" // a baseState, JSON
	// collectAnnotation says that a base is about to be deleted: no machine may
	// begin to use it.
	collectAnnotation = "mececs.io/collect"

	// templateAnnotation is on a VirtualMachine and has the hash of the template
	// that it was last written from: what was changed in it since then is kept until
	// the template changes.
	templateAnnotation = "mececs.io/template-hash"
	// selectedNode is Kubernetes' own: where a claim's volume is to be.
	selectedNode = "volume.kubernetes.io/selected-node"
)

// baseName is the base claim's and its snapshot's: one for each digest, class and mode.
func baseName(digest, class string, mode corev1.PersistentVolumeMode) string {
	return "base-" + hash(digest+"|"+class+"|"+string(mode))
}

// hash is 32 digits of a text's SHA-256.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

func importerName(base string) string { return base + "-import" }

// cloneName is the name, in a machine's namespace and across the cluster, of the
// snapshot that its boot volume is cloned from.
func cloneName(uid types.UID) string { return "evm-" + string(uid) }

// claimName is the name of a machine's boot volume.
func claimName(evm *mecs.EnhancedVirtualMachine) string {
	if n := evm.Spec.BootVolume.ClaimName; n != "" {
		return n
	}
	return evm.Name + "-boot"
}

func volumeMode(evm *mecs.EnhancedVirtualMachine) corev1.PersistentVolumeMode {
	if m := evm.Spec.BootVolume.VolumeMode; m != nil {
		return *m
	}
	return corev1.PersistentVolumeFilesystem
}

// baseState is what is known of a base volume; it stands in an annotation of its claim.
type baseState struct {
	// Imported says that the content is whole.
	Imported bool `json:"imported,omitempty"`
	// VirtualSize is the disk's size in bytes.
	VirtualSize int64          `json:"virtualSize,omitempty"`
	Progress    *mecs.Progress `json:"progress,omitempty"`
	Failure     *failure       `json:"failure,omitempty"`
	// Handle and Driver are the snapshot's; with them the base can be used.
	Handle string `json:"handle,omitempty"`
	Driver string `json:"driver,omitempty"`
	// UnusedSince is when it was first seen that no machine was made from it.
	UnusedSince *metav1.Time `json:"unusedSince,omitempty"`
}

// failure is what is in the way of a base.
type failure struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Attempts that failed, the last one At.
	Attempts int32       `json:"attempts,omitempty"`
	At       metav1.Time `json:"at,omitempty"`
}

func stateOf(base *corev1.PersistentVolumeClaim) baseState {
	var s baseState
	if err := json.Unmarshal([]byte(base.Annotations[stateAnnotation]), &s); err != nil {
		return baseState{} // as if nothing was done yet
	}
	return s
}

func (s baseState) writeTo(base *corev1.PersistentVolumeClaim) {
	data, err := json.Marshal(s)
	if err != nil {
		return // of plain fields: cannot be
	}
	if base.Annotations == nil {
		base.Annotations = map[string]string{}
	}
	base.Annotations[stateAnnotation] = string(data)
}

const (
	retryBase = 5 * time.Second
	retryMost = 5 * time.Minute
)

// backoff is how long to wait after n failures in a row.
func backoff(n int32) time.Duration {
	if n > 8 {
		return retryMost
	}
	return min(retryBase*time.Duration(n)*time.Duration(n), retryMost)
}
