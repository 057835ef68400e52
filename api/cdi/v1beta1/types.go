// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DataVolumeBlankImage is the API type of that name.
type DataVolumeBlankImage struct {
}

// DataVolumeCheckpoint is the API type of that name.
type DataVolumeCheckpoint struct {
	Current  string `json:"current"`
	Previous string `json:"previous"`
}

// DataVolumeSource is the API type of that name.
type DataVolumeSource struct {
	// +optional
	Blank *DataVolumeBlankImage `json:"blank,omitempty"`
	// +optional
	Gcs *DataVolumeSourceGCS `json:"gcs,omitempty"`
	// +optional
	Http *DataVolumeSourceHTTP `json:"http,omitempty"`
	// +optional
	Imageio *DataVolumeSourceImageIO `json:"imageio,omitempty"`
	// +optional
	PVC *DataVolumeSourcePVC `json:"pvc,omitempty"`
	// +optional
	Registry *DataVolumeSourceRegistry `json:"registry,omitempty"`
	// +optional
	S3 *DataVolumeSourceS3 `json:"s3,omitempty"`
	// +optional
	Snapshot *DataVolumeSourceSnapshot `json:"snapshot,omitempty"`
	// +optional
	Upload *DataVolumeSourceUpload `json:"upload,omitempty"`
	// +optional
	Vddk *DataVolumeSourceVDDK `json:"vddk,omitempty"`
}

// DataVolumeSourceGCS is the API type of that name.
type DataVolumeSourceGCS struct {
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	URL       string `json:"url"`
}

// DataVolumeSourceHTTP is the API type of that name.
type DataVolumeSourceHTTP struct {
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`
	// +optional
	ExtraHeaders []string `json:"extraHeaders,omitempty"`
	// +optional
	SecretExtraHeaders []string `json:"secretExtraHeaders,omitempty"`
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	URL       string `json:"url"`
}

// DataVolumeSourceImageIO is the API type of that name.
type DataVolumeSourceImageIO struct {
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`
	DiskId        string `json:"diskId"`
	// +optional
	InsecureSkipVerify *bool `json:"insecureSkipVerify,omitempty"`
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	URL       string `json:"url"`
}

// DataVolumeSourcePVC is the API type of that name.
type DataVolumeSourcePVC struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// DataVolumeSourceRef is the API type of that name.
type DataVolumeSourceRef struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// DataVolumeSourceRegistry is the API type of that name.
type DataVolumeSourceRegistry struct {
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`
	// +optional
	ImageStream string `json:"imageStream,omitempty"`
	// +optional
	Platform *PlatformOptions `json:"platform,omitempty"`
	// +optional
	PullMethod string `json:"pullMethod,omitempty"`
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	// +optional
	URL string `json:"url,omitempty"`
}

// DataVolumeSourceS3 is the API type of that name.
type DataVolumeSourceS3 struct {
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	URL       string `json:"url"`
}

// DataVolumeSourceSnapshot is the API type of that name.
type DataVolumeSourceSnapshot struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// DataVolumeSourceUpload is the API type of that name.
type DataVolumeSourceUpload struct {
}

// DataVolumeSourceVDDK is the API type of that name.
type DataVolumeSourceVDDK struct {
	// +optional
	BackingFile string `json:"backingFile,omitempty"`
	// +optional
	ExtraArgs string `json:"extraArgs,omitempty"`
	// +optional
	InitImageURL string `json:"initImageURL,omitempty"`
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	// +optional
	Thumbprint string `json:"thumbprint,omitempty"`
	// +optional
	URL string `json:"url,omitempty"`
	// +optional
	UUID string `json:"uuid,omitempty"`
}

// DataVolumeSpec is the API type of that name.
type DataVolumeSpec struct {
	// +optional
	Checkpoints []DataVolumeCheckpoint `json:"checkpoints,omitempty"`
	// +optional
	ContentType string `json:"contentType,omitempty"`
	// +optional
	FinalCheckpoint *bool `json:"finalCheckpoint,omitempty"`
	// +optional
	Preallocation *bool `json:"preallocation,omitempty"`
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// +optional
	PVC *corev1.PersistentVolumeClaimSpec `json:"pvc,omitempty"`
	// +optional
	Source *DataVolumeSource `json:"source,omitempty"`
	// +optional
	SourceRef *DataVolumeSourceRef `json:"sourceRef,omitempty"`
	// +optional
	Storage *StorageSpec `json:"storage,omitempty"`
}

// PlatformOptions is the API type of that name.
type PlatformOptions struct {
	// +optional
	Architecture string `json:"architecture,omitempty"`
}

// StorageSpec is the API type of that name.
type StorageSpec struct {
	// +optional
	AccessModes []string `json:"accessModes,omitempty"`
	// +optional
	DataSource *corev1.TypedLocalObjectReference `json:"dataSource,omitempty"`
	// +optional
	DataSourceRef *corev1.TypedObjectReference `json:"dataSourceRef,omitempty"`
	// +optional
	Resources *corev1.VolumeResourceRequirements `json:"resources,omitempty"`
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
	// +optional
	VolumeMode string `json:"volumeMode,omitempty"`
	// +optional
	VolumeName string `json:"volumeName,omitempty"`
}
