// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// EnhancedVirtualMachine is a machine whose boot disk is made from an image, a
// claim or a snapshot, and outlives it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=enhancedvirtualmachines,shortName=evm;evms,categories=all
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Phase",type="string",priority=1,JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="Image",type="string",priority=1,JSONPath=".status.image"
// +kubebuilder:printcolumn:name="VM",type="string",priority=1,JSONPath=".status.virtualMachine"
// +kubebuilder:printcolumn:name="Ready",type="string",priority=1,JSONPath=".status.conditions[?(@.type=='Ready')].status"
type EnhancedVirtualMachine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              EnhancedVirtualMachineSpec `json:"spec"`
	// +optional
	Status EnhancedVirtualMachineStatus `json:"status,omitempty"`
}

// EnhancedVirtualMachineList is a list of them.
//
// +kubebuilder:object:root=true
type EnhancedVirtualMachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EnhancedVirtualMachine `json:"items"`
}

// EnhancedVirtualMachineSpec says what machine, booted from what.
type EnhancedVirtualMachineSpec struct {
	// BootVolume is the claim that is made for the boot disk.
	BootVolume BootVolume `json:"bootVolume"`
	// Source is where the boot disk's content comes from. Exactly one of its fields.
	Source Source `json:"source"`
	// StorageClassName is the boot volume's class; the cluster's default where it
	// is left out.
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
	// Template is the VirtualMachine that is made. The boot disk is added to it as
	// its first.
	Template VirtualMachineTemplate `json:"template"`
}

// VirtualMachineTemplate is the metadata and spec of a VirtualMachine.
type VirtualMachineTemplate struct {
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              kubevirtv1.VirtualMachineSpec `json:"spec"`
}

// Source is where a boot disk's content comes from.
type Source struct {
	// GlanceImageID and GlanceImageName name an image of an OpenStack image service.
	// +optional
	GlanceImageID string `json:"glanceImageID,omitempty"`
	// +optional
	GlanceImageName string `json:"glanceImageName,omitempty"`
	// HTTPURL is a disk image on a web server.
	// +optional
	HTTPURL string `json:"httpURL,omitempty"`
	// PersistentVolumeClaim is a claim in the machine's namespace, of which a copy is made.
	// +optional
	PersistentVolumeClaim *LocalSource `json:"persistentVolumeClaim,omitempty"`
	// RegistryImageURL is a container image that holds a disk, or an OCI artifact
	// that is one. Without a registry's name it is in the configured registry.
	// +optional
	RegistryImageURL string `json:"registryImageURL,omitempty"`
	// VolumeSnapshot is a snapshot in the machine's namespace.
	// +optional
	VolumeSnapshot *LocalSource `json:"volumeSnapshot,omitempty"`
}

// LocalSource names an object in the machine's own namespace.
type LocalSource struct {
	Name string `json:"name"`
}

// RetainPolicy says what becomes of the boot volume when its machine is deleted.
type RetainPolicy string

const (
	// RetainVolume keeps it, marked as released; the default.
	RetainVolume RetainPolicy = "Retain"
	// DeleteVolume deletes it.
	DeleteVolume RetainPolicy = "Delete"
)

// BootVolume is the claim of a boot disk.
type BootVolume struct {
	// AccessModes of the claim; ReadWriteOnce where it is left out.
	// +optional
	AccessModes []corev1.PersistentVolumeAccessMode `json:"accessModes,omitempty"`
	// ClaimName is the claim's name; the machine's with "-boot" where it is left
	// out. A claim of that name that exists already, because a machine that is gone
	// has released it or because somebody made it, is used as it is.
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	Resources corev1.VolumeResourceRequirements `json:"resources,omitempty"`
	// +optional
	Retain RetainPolicy `json:"retain,omitempty"`
	// VolumeMode of the claim; Filesystem, with the disk as the file disk.img in it,
	// where it is left out.
	// +optional
	VolumeMode *corev1.PersistentVolumeMode `json:"volumeMode,omitempty"`
}

// Phase is how far a machine is, in a word.
type Phase string

// Phases, in their order. What is in the way is said by conditions.
const (
	PhasePending     Phase = "Pending"   // nothing is there yet
	PhaseImporting   Phase = "Importing" // the image is being fetched
	PhaseCloning     Phase = "Cloning"   // the boot volume is being made
	PhaseStarting    Phase = "Starting"  // the VirtualMachine is there and should run
	PhaseRunning     Phase = "Running"
	PhaseStopped     Phase = "Stopped"
	PhaseTerminating Phase = "Terminating"
)

// Types of conditions.
const (
	// ConditionReady is the VirtualMachine's, and False before there is one.
	ConditionReady = "Ready"
	// ConditionImageReady: the image is fetched and can be cloned. Absent where the
	// source is no image.
	ConditionImageReady = "ImageReady"
	// ConditionBootVolumeReady: the boot volume is there with its content.
	ConditionBootVolumeReady = "BootVolumeReady"
)

// EnhancedVirtualMachineStatus is how far a machine is. The controller writes it.
type EnhancedVirtualMachineStatus struct {
	// BaseVolume is what the boot volume is cloned from.
	// +optional
	BaseVolume *BaseVolumeStatus `json:"baseVolume,omitempty"`
	// BootVolume is the name of the boot disk's claim.
	// +optional
	BootVolume string `json:"bootVolume,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Image is the image's whole reference, without its digest.
	// +optional
	Image string `json:"image,omitempty"`
	// ImageDigest is what the image's tag meant when the machine was made.
	// +optional
	ImageDigest string `json:"imageDigest,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// Progress of the image's fetching; absent before and after.
	// +optional
	Progress *Progress `json:"progress,omitempty"`
	// VirtualMachine is the name of the machine that was made.
	// +optional
	VirtualMachine string `json:"virtualMachine,omitempty"`
}

// BaseVolumeStatus is the volume that holds an image, one for all machines.
type BaseVolumeStatus struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// Snapshot of it, from which it is cloned.
	// +optional
	Snapshot string `json:"snapshot,omitempty"`
}

// Progress of fetching an image.
type Progress struct {
	// Bytes that were fetched.
	Bytes int64 `json:"bytes"`
	// BytesPerSecond is the rate, 0 where it is not known.
	// +optional
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// TotalBytes are all to be fetched, 0 where that is not known.
	// +optional
	TotalBytes int64 `json:"totalBytes,omitempty"`
}
