// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DataVolumeBlankImage is an empty disk.
type DataVolumeBlankImage struct {
}

// DataVolumeCheckpoint is one step of a disk that is imported in stages.
type DataVolumeCheckpoint struct {
	Current  string `json:"current"`
	Previous string `json:"previous"`
}

// DataVolumeSource is where a DataVolume's data come from; exactly one.
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

// DataVolumeSourceGCS is an object in Google's cloud storage.
type DataVolumeSourceGCS struct {
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	URL       string `json:"url"`
}

// DataVolumeSourceHTTP is a file on a web server.
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

// DataVolumeSourceImageIO is a disk of an oVirt installation.
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

// DataVolumeSourcePVC is another claim.
type DataVolumeSourcePVC struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// DataVolumeSourceRef refers to a DataSource.
type DataVolumeSourceRef struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// DataVolumeSourceRegistry is a disk image in a container image.
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

// DataVolumeSourceS3 is an object in an S3 store.
type DataVolumeSourceS3 struct {
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`
	// +optional
	SecretRef string `json:"secretRef,omitempty"`
	URL       string `json:"url"`
}

// DataVolumeSourceSnapshot is a snapshot of a volume.
type DataVolumeSourceSnapshot struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// DataVolumeSourceUpload waits for a client to send the data.
type DataVolumeSourceUpload struct {
}

// DataVolumeSourceVDDK is a disk of a VMware installation.
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

// DataVolumeSpec describes a claim and the data that it is filled with. Exactly one of pvc and storage.
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

// PlatformOptions picks one image of a multi-platform image.
type PlatformOptions struct {
	// +optional
	Architecture string `json:"architecture,omitempty"`
}

// StorageSpec describes a claim whose open fields are filled in from the storage class.
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
