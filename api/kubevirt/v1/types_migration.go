// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DowntimeTuningOptions raise the allowed downtime step by step.
type DowntimeTuningOptions struct {
	// +optional
	CooldownSeconds int32 `json:"cooldownSeconds,omitempty"`
	// +optional
	InitialMs int64 `json:"initialMs,omitempty"`
	// +optional
	StartAfterIteration int64 `json:"startAfterIteration,omitempty"`
	// +optional
	Steps int32 `json:"steps,omitempty"`
}

// ExperimentalMigrationOptions are settings of live migration that may change.
type ExperimentalMigrationOptions struct {
	// +optional
	Compression string `json:"compression,omitempty"`
	// +optional
	DowntimeTuning *DowntimeTuningOptions `json:"downtimeTuning,omitempty"`
	// +optional
	StallDetector *StallDetectorOptions `json:"stallDetector,omitempty"`
}

// StallDetectorOptions decide when a live migration makes no progress.
type StallDetectorOptions struct {
	// +optional
	CompletionTimeoutFactor *resource.Quantity `json:"completionTimeoutFactor,omitempty"`
	// +optional
	EwmaAlpha *resource.Quantity `json:"ewmaAlpha,omitempty"`
	// +optional
	PatienceWindowDecayFactor *resource.Quantity `json:"patienceWindowDecayFactor,omitempty"`
	// +optional
	PrecopyPossibleFactor *resource.Quantity `json:"precopyPossibleFactor,omitempty"`
	// +optional
	SearchLocalMinima *bool `json:"searchLocalMinima,omitempty"`
	// +optional
	StallMargin int64 `json:"stallMargin,omitempty"`
	// +optional
	StallProgressTimeout int64 `json:"stallProgressTimeout,omitempty"`
	// +optional
	SwitchoverTimeout int64 `json:"switchoverTimeout,omitempty"`
}

// VMIMConfigurationOptions are the settings of one live migration.
type VMIMConfigurationOptions struct {
	// +optional
	AllowAutoConverge *bool `json:"allowAutoConverge,omitempty"`
	// +optional
	AllowPostCopy *bool `json:"allowPostCopy,omitempty"`
	// +optional
	AllowWorkloadDisruption *bool `json:"allowWorkloadDisruption,omitempty"`
	// +optional
	BandwidthPerMigration *resource.Quantity `json:"bandwidthPerMigration,omitempty"`
	// +optional
	CompletionTimeoutPerGiB int64 `json:"completionTimeoutPerGiB,omitempty"`
	// +optional
	DisableTLS *bool `json:"disableTLS,omitempty"`
	// +optional
	Experimental *ExperimentalMigrationOptions `json:"experimental,omitempty"`
	// +optional
	MatchSELinuxLevelOnMigration *bool `json:"matchSELinuxLevelOnMigration,omitempty"`
	// +optional
	MaxDowntimeMs int64 `json:"maxDowntimeMs,omitempty"`
	// +optional
	Network string `json:"network,omitempty"`
	// +optional
	NodeDrainTaintKey string `json:"nodeDrainTaintKey,omitempty"`
	// +optional
	ParallelMigrationsPerCluster int64 `json:"parallelMigrationsPerCluster,omitempty"`
	// +optional
	ParallelOutboundMigrationsPerNode int64 `json:"parallelOutboundMigrationsPerNode,omitempty"`
	// +optional
	ProgressTimeout int64 `json:"progressTimeout,omitempty"`
	// +optional
	UnsafeMigrationOverride *bool `json:"unsafeMigrationOverride,omitempty"`
	// +optional
	UtilityVolumesTimeout int64 `json:"utilityVolumesTimeout,omitempty"`
}

// VirtualMachineInstanceMigrationSourceState is the side that a machine migrates from.
type VirtualMachineInstanceMigrationSourceState struct {
	// +optional
	DomainName string `json:"domainName,omitempty"`
	// +optional
	DomainNamespace string `json:"domainNamespace,omitempty"`
	// +optional
	MigrationUID string `json:"migrationUID,omitempty"`
	// +optional
	Node string `json:"node,omitempty"`
	// +optional
	NodeSelectors map[string]string `json:"nodeSelectors,omitempty"`
	// +optional
	PersistentStatePVCName string `json:"persistentStatePVCName,omitempty"`
	// +optional
	Pod string `json:"pod,omitempty"`
	// +optional
	SelinuxContext string `json:"selinuxContext,omitempty"`
	// +optional
	SyncAddress string `json:"syncAddress,omitempty"`
	// +optional
	VirtualMachineInstanceUID string `json:"virtualMachineInstanceUID,omitempty"`
}

// VirtualMachineInstanceMigrationState is how far a live migration has come.
type VirtualMachineInstanceMigrationState struct {
	// +optional
	AbortRequested *bool `json:"abortRequested,omitempty"`
	// +optional
	AbortStatus string `json:"abortStatus,omitempty"`
	// +optional
	Completed *bool `json:"completed,omitempty"`
	// +optional
	EndTimestamp *metav1.Time `json:"endTimestamp,omitempty"`
	// +optional
	Failed *bool `json:"failed,omitempty"`
	// +optional
	FailureReason string `json:"failureReason,omitempty"`
	// +optional
	MigrationConfiguration *VMIMConfigurationOptions `json:"migrationConfiguration,omitempty"`
	// +optional
	MigrationNetworkType string `json:"migrationNetworkType,omitempty"`
	// +optional
	MigrationPolicyName string `json:"migrationPolicyName,omitempty"`
	// +optional
	MigrationUid string `json:"migrationUid,omitempty"`
	// +optional
	Mode string `json:"mode,omitempty"`
	// +optional
	SourceNode string `json:"sourceNode,omitempty"`
	// +optional
	SourcePersistentStatePVCName string `json:"sourcePersistentStatePVCName,omitempty"`
	// +optional
	SourcePod string `json:"sourcePod,omitempty"`
	// +optional
	SourceState *VirtualMachineInstanceMigrationSourceState `json:"sourceState,omitempty"`
	// +optional
	StartTimestamp *metav1.Time `json:"startTimestamp,omitempty"`
	// +optional
	TargetAttachmentPodUID string `json:"targetAttachmentPodUID,omitempty"`
	// +optional
	TargetCPUSet []int32 `json:"targetCPUSet,omitempty"`
	// +optional
	TargetDirectMigrationNodePorts map[string]int32 `json:"targetDirectMigrationNodePorts,omitempty"`
	// +optional
	TargetMemoryOverhead *resource.Quantity `json:"targetMemoryOverhead,omitempty"`
	// +optional
	TargetNode string `json:"targetNode,omitempty"`
	// +optional
	TargetNodeAddress string `json:"targetNodeAddress,omitempty"`
	// +optional
	TargetNodeDomainDetected *bool `json:"targetNodeDomainDetected,omitempty"`
	// +optional
	TargetNodeDomainReadyTimestamp *metav1.Time `json:"targetNodeDomainReadyTimestamp,omitempty"`
	// +optional
	TargetNodeTopology string `json:"targetNodeTopology,omitempty"`
	// +optional
	TargetPersistentStatePVCName string `json:"targetPersistentStatePVCName,omitempty"`
	// +optional
	TargetPod string `json:"targetPod,omitempty"`
	// +optional
	TargetState *VirtualMachineInstanceMigrationTargetState `json:"targetState,omitempty"`
}

// VirtualMachineInstanceMigrationTargetState is the side that a machine migrates to.
type VirtualMachineInstanceMigrationTargetState struct {
	// +optional
	AttachmentPodUID string `json:"attachmentPodUID,omitempty"`
	// +optional
	CpuSet []int32 `json:"cpuSet,omitempty"`
	// +optional
	DirectMigrationNodePorts map[string]int32 `json:"directMigrationNodePorts,omitempty"`
	// +optional
	DomainDetected *bool `json:"domainDetected,omitempty"`
	// +optional
	DomainName string `json:"domainName,omitempty"`
	// +optional
	DomainNamespace string `json:"domainNamespace,omitempty"`
	// +optional
	DomainReadyTimestamp *metav1.Time `json:"domainReadyTimestamp,omitempty"`
	// +optional
	MigrationUID string `json:"migrationUID,omitempty"`
	// +optional
	Node string `json:"node,omitempty"`
	// +optional
	NodeAddress string `json:"nodeAddress,omitempty"`
	// +optional
	NodeTopology string `json:"nodeTopology,omitempty"`
	// +optional
	PersistentStatePVCName string `json:"persistentStatePVCName,omitempty"`
	// +optional
	Pod string `json:"pod,omitempty"`
	// +optional
	SelinuxContext string `json:"selinuxContext,omitempty"`
	// +optional
	SyncAddress string `json:"syncAddress,omitempty"`
	// +optional
	VirtualMachineInstanceUID string `json:"virtualMachineInstanceUID,omitempty"`
}
