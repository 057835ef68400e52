// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	cdiv1beta1 "github.com/skerry-dev/skerry/api/cdi/v1beta1"
)

// ChangedBlockTrackingStatus says whether changed blocks are recorded for backups.
type ChangedBlockTrackingStatus struct {
	// +optional
	BackupStatus *VirtualMachineInstanceBackupStatus `json:"backupStatus,omitempty"`
	State        string                              `json:"state"`
}

// ControllerRevisionRef names the ControllerRevision that holds a copy of an instance type or
// preference.
type ControllerRevisionRef struct {
	// +optional
	Name string `json:"name,omitempty"`
}

// DataVolumeTemplateDummyStatus takes the status of a DataVolume that was copied into a template;
// it has no meaning.
type DataVolumeTemplateDummyStatus struct {
}

// DataVolumeTemplateSpec describes a DataVolume that is made together with its VirtualMachine.
type DataVolumeTemplateSpec struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// +optional
	Metadata metav1.ObjectMeta         `json:"metadata,omitempty"`
	Spec     cdiv1beta1.DataVolumeSpec `json:"spec"`
	// +optional
	Status *DataVolumeTemplateDummyStatus `json:"status,omitempty"`
}

// InstancetypeMatcher refers to an instance type, which gives a machine its size.
type InstancetypeMatcher struct {
	// +optional
	InferFromVolume string `json:"inferFromVolume,omitempty"`
	// +optional
	InferFromVolumeFailurePolicy string `json:"inferFromVolumeFailurePolicy,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	RevisionName string `json:"revisionName,omitempty"`
}

// InstancetypeStatusRef is the instance type or preference that a machine was last made from.
type InstancetypeStatusRef struct {
	// +optional
	ControllerRevisionRef *ControllerRevisionRef `json:"controllerRevisionRef,omitempty"`
	// +optional
	InferFromVolume string `json:"inferFromVolume,omitempty"`
	// +optional
	InferFromVolumeFailurePolicy string `json:"inferFromVolumeFailurePolicy,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
}

// PreferenceMatcher refers to a preference, which fills in what a machine's spec leaves open.
type PreferenceMatcher struct {
	// +optional
	InferFromVolume string `json:"inferFromVolume,omitempty"`
	// +optional
	InferFromVolumeFailurePolicy string `json:"inferFromVolumeFailurePolicy,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	RevisionName string `json:"revisionName,omitempty"`
}

// StorageMigratedVolumeInfo is one volume whose data are moved from one claim to another.
type StorageMigratedVolumeInfo struct {
	// +optional
	DestinationPVCInfo *PersistentVolumeClaimInfo `json:"destinationPVCInfo,omitempty"`
	// +optional
	SourcePVCInfo *PersistentVolumeClaimInfo `json:"sourcePVCInfo,omitempty"`
	VolumeName    string                     `json:"volumeName"`
}

// VirtualMachine is a machine's lasting description: it makes a
// VirtualMachineInstance whenever its run strategy says that one should run.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=virtualmachines,shortName=vm;vms,categories=all
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Status",type="string",JSONPath=".status.printableStatus"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Sockets",type="integer",priority=1,JSONPath=".spec.template.spec.domain.cpu.sockets"
// +kubebuilder:printcolumn:name="Memory",type="string",priority=1,JSONPath=".spec.template.spec.domain.memory.guest"
// +kubebuilder:printcolumn:name="CPU-Change",type="string",priority=1,JSONPath=".status.conditions[?(@.type=='HotVCPUChange')].reason"
// +kubebuilder:printcolumn:name="Memory-Change",type="string",priority=1,JSONPath=".status.conditions[?(@.type=='HotMemoryChange')].reason"
// +kubebuilder:printcolumn:name="Restart-Required",type="string",priority=1,JSONPath=".status.conditions[?(@.type=='RestartRequired')].status"
type VirtualMachine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VirtualMachineSpec `json:"spec"`
	// +optional
	Status VirtualMachineStatus `json:"status,omitempty"`
}

// VirtualMachineCondition is one aspect of a machine's state.
type VirtualMachineCondition struct {
	// +optional
	// +nullable
	LastProbeTime metav1.Time `json:"lastProbeTime,omitempty"`
	// +optional
	// +nullable
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Reason string                      `json:"reason,omitempty"`
	Status corev1.ConditionStatus      `json:"status"`
	Type   VirtualMachineConditionType `json:"type"`
}

// VirtualMachineInstanceTemplateSpec is what a VirtualMachine makes its instances from:
// metadata.labels and metadata.annotations go to the instance as well.
type VirtualMachineInstanceTemplateSpec struct {
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Spec VirtualMachineInstanceSpec `json:"spec,omitempty"`
}

// VirtualMachineList is a list of VirtualMachines.
//
// +kubebuilder:object:root=true
type VirtualMachineList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachine `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// VirtualMachineMemoryDumpRequest asks for a dump of the guest's memory into a claim, and says how
// far it has come.
type VirtualMachineMemoryDumpRequest struct {
	ClaimName string `json:"claimName"`
	// +optional
	EndTimestamp *metav1.Time `json:"endTimestamp,omitempty"`
	// +optional
	FileName string `json:"fileName,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	Phase   string `json:"phase"`
	// +optional
	Remove *bool `json:"remove,omitempty"`
	// +optional
	StartTimestamp *metav1.Time `json:"startTimestamp,omitempty"`
}

// VirtualMachineSpec says when a machine should run and what its instances are made from.
type VirtualMachineSpec struct {
	// DataVolumeTemplates are made together with the machine; volumes refer to them by name.
	// +optional
	DataVolumeTemplates []DataVolumeTemplateSpec `json:"dataVolumeTemplates,omitempty"`
	// Instancetype gives the machine its size.
	// +optional
	Instancetype *InstancetypeMatcher `json:"instancetype,omitempty"`
	// LiveUpdateFeatures bounds growth in manifests of older releases of the peer's.
	// +optional
	LiveUpdateFeatures *LiveUpdateFeatures `json:"liveUpdateFeatures,omitempty"`
	// Preference fills in what the spec leaves open.
	// +optional
	Preference *PreferenceMatcher `json:"preference,omitempty"`
	// RunStrategy says when there should be an instance.
	// +optional
	RunStrategy *VirtualMachineRunStrategy `json:"runStrategy,omitempty"`
	// Running is an older form of runStrategy: true is Always, false is Halted. Exactly one of the
	// two must be given.
	// +optional
	Running *bool `json:"running,omitempty"`
	// Template is what instances are made from.
	Template VirtualMachineInstanceTemplateSpec `json:"template"`
	// UpdateVolumesStrategy says whether changed volumes are replaced at the next start or migrated
	// at once: Replacement or Migration.
	// +optional
	UpdateVolumesStrategy *string `json:"updateVolumesStrategy,omitempty"`
}

// VirtualMachineStartFailure counts starts that never came to a running machine, to space out the
// next ones.
type VirtualMachineStartFailure struct {
	// ConsecutiveFailCount is the number of failed starts in a row.
	// +optional
	ConsecutiveFailCount int32 `json:"consecutiveFailCount,omitempty"`
	// LastFailedVMIUID is the instance that was counted last.
	// +optional
	LastFailedVMIUID types.UID `json:"lastFailedVMIUID,omitempty"`
	// RetryAfterTimestamp is when the next start may be tried.
	// +optional
	RetryAfterTimestamp *metav1.Time `json:"retryAfterTimestamp,omitempty"`
}

// VirtualMachineStateChangeRequest asks the controller to start or stop a machine. The subresource
// API writes it, the controller removes it once it is done.
type VirtualMachineStateChangeRequest struct {
	Action StateChangeRequestAction `json:"action"`
	// Data has details: "paused" is "true" for a paused start.
	// +optional
	Data map[string]string `json:"data,omitempty"`
	// UID is the instance that a Stop is meant for.
	// +optional
	UID types.UID `json:"uid,omitempty"`
}

// VirtualMachineStatus is what was last observed of a machine. The controller writes it; users ask
// for changes through subresources.
type VirtualMachineStatus struct {
	// +optional
	ChangedBlockTracking *ChangedBlockTrackingStatus `json:"changedBlockTracking,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []VirtualMachineCondition `json:"conditions,omitempty"`
	// Created tells that the instance exists.
	// +optional
	Created *bool `json:"created,omitempty"`
	// DesiredGeneration is the generation that a new instance would be made from.
	// +optional
	DesiredGeneration int64 `json:"desiredGeneration,omitempty"`
	// +optional
	InstancetypeRef *InstancetypeStatusRef `json:"instancetypeRef,omitempty"`
	// +optional
	MemoryDumpRequest *VirtualMachineMemoryDumpRequest `json:"memoryDumpRequest,omitempty"`
	// ObservedGeneration is the generation that the instance was made from.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	PreferenceRef *InstancetypeStatusRef `json:"preferenceRef,omitempty"`
	// PrintableStatus sums the machine up in one word.
	// +optional
	PrintableStatus VirtualMachinePrintableStatus `json:"printableStatus,omitempty"`
	// Ready tells that the instance is ready.
	// +optional
	Ready *bool `json:"ready,omitempty"`
	// +optional
	RestoreInProgress string `json:"restoreInProgress,omitempty"`
	// RunStrategy is the run strategy that the controller saw last.
	// +optional
	RunStrategy VirtualMachineRunStrategy `json:"runStrategy,omitempty"`
	// +optional
	SnapshotInProgress string `json:"snapshotInProgress,omitempty"`
	// StartFailure is set while starts fail one after the other.
	// +optional
	StartFailure *VirtualMachineStartFailure `json:"startFailure,omitempty"`
	// StateChangeRequests are starts and stops that were asked for and not done yet.
	// +optional
	StateChangeRequests []VirtualMachineStateChangeRequest `json:"stateChangeRequests,omitempty"`
	// +optional
	VolumeRequests []VirtualMachineVolumeRequest `json:"volumeRequests,omitempty"`
	// +optional
	VolumeSnapshotStatuses []VolumeSnapshotStatus `json:"volumeSnapshotStatuses,omitempty"`
	// +optional
	VolumeUpdateState *VolumeUpdateState `json:"volumeUpdateState,omitempty"`
}

// VirtualMachineVolumeRequest asks for a volume to be plugged or unplugged.
type VirtualMachineVolumeRequest struct {
	// +optional
	AddVolumeOptions *AddVolumeOptions `json:"addVolumeOptions,omitempty"`
	// +optional
	RemoveVolumeOptions *RemoveVolumeOptions `json:"removeVolumeOptions,omitempty"`
}

// VolumeMigrationState lists the volumes whose data are being moved.
type VolumeMigrationState struct {
	// +optional
	MigratedVolumes []StorageMigratedVolumeInfo `json:"migratedVolumes,omitempty"`
}

// VolumeSnapshotStatus says whether a volume can be part of a snapshot, and if not why.
type VolumeSnapshotStatus struct {
	Enabled bool   `json:"enabled"`
	Name    string `json:"name"`
	// +optional
	Reason string `json:"reason,omitempty"`
}

// VolumeUpdateState says how far a change of volumes has come.
type VolumeUpdateState struct {
	// +optional
	VolumeMigrationState *VolumeMigrationState `json:"volumeMigrationState,omitempty"`
}
