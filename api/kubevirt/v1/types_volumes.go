// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// CloudInitConfigDriveSource is cloud-init's config drive (OpenStack) data source.
type CloudInitConfigDriveSource struct {
	// +optional
	NetworkData string `json:"networkData,omitempty"`
	// +optional
	NetworkDataBase64 string `json:"networkDataBase64,omitempty"`
	// +optional
	NetworkDataSecretRef *corev1.LocalObjectReference `json:"networkDataSecretRef,omitempty"`
	// +optional
	SecretRef *corev1.LocalObjectReference `json:"secretRef,omitempty"`
	// +optional
	UserData string `json:"userData,omitempty"`
	// +optional
	UserDataBase64 string `json:"userDataBase64,omitempty"`
}

// CloudInitNoCloudSource is cloud-init's NoCloud data source: a small disk that configures the
// guest when it boots. At most one of each kind of user data and network data.
type CloudInitNoCloudSource struct {
	// NetworkData is cloud-init's network configuration, 2048 bytes at most.
	// +optional
	NetworkData string `json:"networkData,omitempty"`
	// NetworkDataBase64 is the same in base64.
	// +optional
	NetworkDataBase64 string `json:"networkDataBase64,omitempty"`
	// NetworkDataSecretRef names a Secret whose key networkdata (or networkData) has it.
	// +optional
	NetworkDataSecretRef *corev1.LocalObjectReference `json:"networkDataSecretRef,omitempty"`
	// SecretRef names a Secret whose key userdata (or userData) has it.
	// +optional
	SecretRef *corev1.LocalObjectReference `json:"secretRef,omitempty"`
	// UserData is cloud-init's user data, 2048 bytes at most.
	// +optional
	UserData string `json:"userData,omitempty"`
	// UserDataBase64 is the same in base64.
	// +optional
	UserDataBase64 string `json:"userDataBase64,omitempty"`
}

// ConfigMapVolumeSource is a disk with a ConfigMap's data.
type ConfigMapVolumeSource struct {
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	Optional *bool `json:"optional,omitempty"`
	// +optional
	VolumeLabel string `json:"volumeLabel,omitempty"`
}

// ContainerDiskSource is a disk image in a container image. What the guest writes goes to an
// overlay that ends with the instance.
type ContainerDiskSource struct {
	// Image is the container image's reference.
	Image string `json:"image"`
	// ImagePullPolicy is Always for images with tag latest or none, and else IfNotPresent, when left
	// out.
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// +optional
	ImagePullSecret string `json:"imagePullSecret,omitempty"`
	// Path of the disk image in the container image; the only file in /disk when left out.
	// +optional
	Path string `json:"path,omitempty"`
}

// ContainerPathVolumeSource is a directory of the machine's pod.
type ContainerPathVolumeSource struct {
	Path string `json:"path"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// DataVolumeSource is the claim that a DataVolume made.
type DataVolumeSource struct {
	// +optional
	Hotpluggable *bool  `json:"hotpluggable,omitempty"`
	Name         string `json:"name"`
}

// DownwardAPIVolumeSource is a disk with facts about the instance.
type DownwardAPIVolumeSource struct {
	// +optional
	Fields []corev1.DownwardAPIVolumeFile `json:"fields,omitempty"`
	// +optional
	VolumeLabel string `json:"volumeLabel,omitempty"`
}

// DownwardMetricsVolumeSource is a disk with metrics of the host.
type DownwardMetricsVolumeSource struct {
}

// EmptyDiskSource is a blank disk that ends with the instance.
type EmptyDiskSource struct {
	// Capacity is the disk's size.
	Capacity resource.Quantity `json:"capacity"`
}

// EphemeralVolumeSource is a claim below an overlay that ends with the instance.
type EphemeralVolumeSource struct {
	// +optional
	PersistentVolumeClaim *corev1.PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`
}

// HostDisk is a disk image on the node.
type HostDisk struct {
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	Path     string             `json:"path"`
	// +optional
	Shared *bool  `json:"shared,omitempty"`
	Type   string `json:"type"`
}

// HotplugVolumeSource is what a volume that is plugged in holds.
type HotplugVolumeSource struct {
	// +optional
	DataVolume *DataVolumeSource `json:"dataVolume,omitempty"`
	// +optional
	PersistentVolumeClaim *PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`
}

// MemoryDumpVolumeSource is a claim that takes dumps of the guest's memory.
type MemoryDumpVolumeSource struct {
	ClaimName string `json:"claimName"`
	// +optional
	Hotpluggable *bool `json:"hotpluggable,omitempty"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// PersistentVolumeClaimVolumeSource is a claim.
type PersistentVolumeClaimVolumeSource struct {
	ClaimName string `json:"claimName"`
	// +optional
	Hotpluggable *bool `json:"hotpluggable,omitempty"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// SecretVolumeSource is a disk with a Secret's data.
type SecretVolumeSource struct {
	// +optional
	Optional *bool `json:"optional,omitempty"`
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// +optional
	VolumeLabel string `json:"volumeLabel,omitempty"`
}

// ServiceAccountVolumeSource is a disk with a ServiceAccount's token.
type ServiceAccountVolumeSource struct {
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// SysprepSource is a disk with the answers for Windows' set-up.
type SysprepSource struct {
	// +optional
	ConfigMap *corev1.LocalObjectReference `json:"configMap,omitempty"`
	// +optional
	Secret *corev1.LocalObjectReference `json:"secret,omitempty"`
}

// Volume is what a disk or file system of the machine holds. Exactly one source.
type Volume struct {
	// +optional
	CloudInitConfigDrive *CloudInitConfigDriveSource `json:"cloudInitConfigDrive,omitempty"`
	// +optional
	CloudInitNoCloud *CloudInitNoCloudSource `json:"cloudInitNoCloud,omitempty"`
	// +optional
	ConfigMap *ConfigMapVolumeSource `json:"configMap,omitempty"`
	// +optional
	ContainerDisk *ContainerDiskSource `json:"containerDisk,omitempty"`
	// +optional
	ContainerPath *ContainerPathVolumeSource `json:"containerPath,omitempty"`
	// +optional
	DataVolume *DataVolumeSource `json:"dataVolume,omitempty"`
	// +optional
	DownwardAPI *DownwardAPIVolumeSource `json:"downwardAPI,omitempty"`
	// +optional
	DownwardMetrics *DownwardMetricsVolumeSource `json:"downwardMetrics,omitempty"`
	// +optional
	EmptyDisk *EmptyDiskSource `json:"emptyDisk,omitempty"`
	// +optional
	Ephemeral *EphemeralVolumeSource `json:"ephemeral,omitempty"`
	// +optional
	HostDisk *HostDisk `json:"hostDisk,omitempty"`
	// +optional
	MemoryDump *MemoryDumpVolumeSource `json:"memoryDump,omitempty"`
	Name       string                  `json:"name"`
	// +optional
	PersistentVolumeClaim *PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`
	// +optional
	Secret *SecretVolumeSource `json:"secret,omitempty"`
	// +optional
	ServiceAccount *ServiceAccountVolumeSource `json:"serviceAccount,omitempty"`
	// +optional
	Sysprep *SysprepSource `json:"sysprep,omitempty"`
}
