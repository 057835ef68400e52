// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CPUTopology is the CPU topology that the guest has now.
type CPUTopology struct {
	// +optional
	Cores int64 `json:"cores,omitempty"`
	// +optional
	Sockets int64 `json:"sockets,omitempty"`
	// +optional
	Threads int64 `json:"threads,omitempty"`
}

// ContainerDiskInfo identifies the disk image in a container image.
type ContainerDiskInfo struct {
	// +optional
	Checksum int64 `json:"checksum,omitempty"`
}

// DomainMemoryDumpInfo is a dump of the guest's memory as it was observed.
type DomainMemoryDumpInfo struct {
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	EndTimestamp *metav1.Time `json:"endTimestamp,omitempty"`
	// +optional
	StartTimestamp *metav1.Time `json:"startTimestamp,omitempty"`
	// +optional
	TargetFileName string `json:"targetFileName,omitempty"`
}

// HotplugVolumeStatus names the pod that holds a volume that was plugged in.
type HotplugVolumeStatus struct {
	// +optional
	AttachPodName string `json:"attachPodName,omitempty"`
	// +optional
	AttachPodUID string `json:"attachPodUID,omitempty"`
}

// InitrdInfo identifies the initrd's file.
type InitrdInfo struct {
	// +optional
	Checksum int64 `json:"checksum,omitempty"`
}

// KernelBootStatus identifies the kernel that the machine was booted with.
type KernelBootStatus struct {
	// +optional
	InitrdInfo *InitrdInfo `json:"initrdInfo,omitempty"`
	// +optional
	KernelInfo *KernelInfo `json:"kernelInfo,omitempty"`
}

// KernelInfo identifies the kernel's file.
type KernelInfo struct {
	// +optional
	Checksum int64 `json:"checksum,omitempty"`
}

// MemoryStatus is how much memory the guest had, has and shall have, and what the machine needs
// beyond it.
type MemoryStatus struct {
	// +optional
	GuestAtBoot *resource.Quantity `json:"guestAtBoot,omitempty"`
	// +optional
	GuestCurrent *resource.Quantity `json:"guestCurrent,omitempty"`
	// +optional
	GuestRequested *resource.Quantity `json:"guestRequested,omitempty"`
	// MemoryOverhead is what the machine needs beyond the guest's memory.
	// +optional
	MemoryOverhead *resource.Quantity `json:"memoryOverhead,omitempty"`
}

// PersistentVolumeClaimInfo is what was known of a volume's claim when the instance started.
type PersistentVolumeClaimInfo struct {
	// +optional
	AccessModes []string `json:"accessModes,omitempty"`
	// +optional
	Capacity map[string]resource.Quantity `json:"capacity,omitempty"`
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	FilesystemOverhead string `json:"filesystemOverhead,omitempty"`
	// +optional
	Preallocated *bool `json:"preallocated,omitempty"`
	// +optional
	Requests map[string]resource.Quantity `json:"requests,omitempty"`
	// +optional
	VolumeMode string `json:"volumeMode,omitempty"`
}

// TopologyHints are properties of nodes that the instance was bound to.
type TopologyHints struct {
	// +optional
	TscFrequency int64 `json:"tscFrequency,omitempty"`
}

// VirtualMachineInstanceBackupStatus is how far a backup has come.
type VirtualMachineInstanceBackupStatus struct {
	// +optional
	BackupMsg string `json:"backupMsg,omitempty"`
	// +optional
	BackupName string `json:"backupName,omitempty"`
	// +optional
	CheckpointName string `json:"checkpointName,omitempty"`
	// +optional
	Completed *bool `json:"completed,omitempty"`
	// +optional
	EndTimestamp *metav1.Time `json:"endTimestamp,omitempty"`
	// +optional
	Failed *bool `json:"failed,omitempty"`
	// +optional
	QuiesceStatus string `json:"quiesceStatus,omitempty"`
	// +optional
	StartTimestamp *metav1.Time `json:"startTimestamp,omitempty"`
	// +optional
	Volumes []VirtualMachineInstanceBackupVolumeInfo `json:"volumes,omitempty"`
}

// VirtualMachineInstanceBackupVolumeInfo is one volume of a backup.
type VirtualMachineInstanceBackupVolumeInfo struct {
	VolumeName string `json:"volumeName"`
}

// VirtualMachineInstanceCondition is one aspect of an instance's state.
type VirtualMachineInstanceCondition struct {
	// +optional
	// +nullable
	LastProbeTime metav1.Time `json:"lastProbeTime,omitempty"`
	// +optional
	// +nullable
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Reason string                              `json:"reason,omitempty"`
	Status corev1.ConditionStatus              `json:"status"`
	Type   VirtualMachineInstanceConditionType `json:"type"`
}

// VirtualMachineInstanceNetworkInterface is an interface as it was observed. The one on the pod
// network comes first.
type VirtualMachineInstanceNetworkInterface struct {
	// InfoSource lists where this is known from: domain, guest-agent, multus-status, joined by ", ".
	// +optional
	InfoSource string `json:"infoSource,omitempty"`
	// InterfaceName is the interface's name in the guest.
	// +optional
	InterfaceName string `json:"interfaceName,omitempty"`
	// IPAddress under which others reach the guest: the pod's with masquerade.
	// +optional
	IPAddress string `json:"ipAddress,omitempty"`
	// +optional
	IPAddresses []string `json:"ipAddresses,omitempty"`
	// +optional
	LinkState string `json:"linkState,omitempty"`
	// +optional
	MAC string `json:"mac,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// PodInterfaceName is the interface's name in the pod.
	// +optional
	PodInterfaceName string `json:"podInterfaceName,omitempty"`
	// +optional
	QueueCount int32 `json:"queueCount,omitempty"`
}

// VirtualMachineInstancePhaseTransitionTimestamp says when an instance entered a phase.
type VirtualMachineInstancePhaseTransitionTimestamp struct {
	// +optional
	Phase VirtualMachineInstancePhase `json:"phase,omitempty"`
	// +optional
	PhaseTransitionTimestamp *metav1.Time `json:"phaseTransitionTimestamp,omitempty"`
}

// VirtualMachineInstanceStatus is what was last observed of an instance. Each field has one
// writer: the controller or the node agent.
type VirtualMachineInstanceStatus struct {
	// +optional
	VSOCKCID *int64 `json:"VSOCKCID,omitempty"`
	// ActivePods maps the UID of each pod that may run the machine to the name of its node. Agents
	// act on these pods only.
	// +optional
	ActivePods map[string]string `json:"activePods,omitempty"`
	// +optional
	ChangedBlockTracking *ChangedBlockTrackingStatus `json:"changedBlockTracking,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []VirtualMachineInstanceCondition `json:"conditions,omitempty"`
	// CurrentCPUTopology is what the guest has now.
	// +optional
	CurrentCPUTopology *CPUTopology `json:"currentCPUTopology,omitempty"`
	// +optional
	EvacuationNodeName string `json:"evacuationNodeName,omitempty"`
	// +optional
	FsFreezeStatus string `json:"fsFreezeStatus,omitempty"`
	// GuestOSInfo is what the guest agent says.
	// +optional
	GuestOSInfo *VirtualMachineInstanceGuestOSInfo `json:"guestOSInfo,omitempty"`
	// Interfaces of the guest; the one on the pod network comes first.
	// +optional
	Interfaces []VirtualMachineInstanceNetworkInterface `json:"interfaces,omitempty"`
	// +optional
	KernelBootStatus *KernelBootStatus `json:"kernelBootStatus,omitempty"`
	// LauncherContainerImageVersion is the image of the machine's pod.
	// +optional
	LauncherContainerImageVersion string `json:"launcherContainerImageVersion,omitempty"`
	// Machine is the type that the machine was started with, such as pc-q35-10.0.
	// +optional
	Machine *Machine `json:"machine,omitempty"`
	// Memory of the guest and what the machine needs beyond it.
	// +optional
	Memory *MemoryStatus `json:"memory,omitempty"`
	// +optional
	MigratedVolumes []StorageMigratedVolumeInfo `json:"migratedVolumes,omitempty"`
	// +optional
	MigrationMethod string `json:"migrationMethod,omitempty"`
	// +optional
	MigrationState *VirtualMachineInstanceMigrationState `json:"migrationState,omitempty"`
	// +optional
	MigrationTransport string `json:"migrationTransport,omitempty"`
	// NetworkStatus says how the machine's pod is attached to networks beside the
	// pods' own, where Skerry attached it. An addition of Skerry's own.
	// +optional
	NetworkStatus []NetworkStatus `json:"networkStatus,omitempty"`
	// NodeName is the node whose agent owns the machine.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// Phase is where the instance stands in its life.
	// +optional
	Phase VirtualMachineInstancePhase `json:"phase,omitempty"`
	// PhaseTransitionTimestamps has one entry for each phase, in order.
	// +optional
	PhaseTransitionTimestamps []VirtualMachineInstancePhaseTransitionTimestamp `json:"phaseTransitionTimestamps,omitempty"`
	// QEMU is the one that runs the machine now. An addition of Skerry's own.
	// +optional
	QEMU *QEMUStatus `json:"qemu,omitempty"`
	// QosClass of the machine's pod.
	// +optional
	QosClass corev1.PodQOSClass `json:"qosClass,omitempty"`
	// Reason explains the phase in one word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Resize is how far a change of the running machine's CPUs or memory has
	// come. An addition of Skerry's own.
	// +optional
	Resize *ResizeStatus `json:"resize,omitempty"`
	// RuntimeUser is the uid that QEMU runs as; never left out.
	// +optional
	RuntimeUser int64 `json:"runtimeUser"`
	// +optional
	SelinuxContext string `json:"selinuxContext,omitempty"`
	// Stages are the times at which the machine passed each stage of its start,
	// in the order in which they were reached. An addition of Skerry's own.
	// +optional
	Stages []StageTimestamp `json:"stages,omitempty"`
	// +optional
	TopologyHints *TopologyHints `json:"topologyHints,omitempty"`
	// VirtualMachineRevisionName is the ControllerRevision with the VirtualMachine's spec at the
	// start.
	// +optional
	VirtualMachineRevisionName string `json:"virtualMachineRevisionName,omitempty"`
	// VolumeStatus has one entry for each volume, sorted by name.
	// +optional
	VolumeStatus []VolumeStatus `json:"volumeStatus,omitempty"`
}

// VolumeStatus is a volume of an instance as it was observed.
type VolumeStatus struct {
	// +optional
	ContainerDiskVolume *ContainerDiskInfo `json:"containerDiskVolume,omitempty"`
	// +optional
	HotplugVolume *HotplugVolumeStatus `json:"hotplugVolume,omitempty"`
	// +optional
	MemoryDumpVolume *DomainMemoryDumpInfo `json:"memoryDumpVolume,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	Name    string `json:"name"`
	// +optional
	PersistentVolumeClaimInfo *PersistentVolumeClaimInfo `json:"persistentVolumeClaimInfo,omitempty"`
	// +optional
	Phase string `json:"phase,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// Size in bytes.
	// +optional
	Size int64 `json:"size,omitempty"`
	// Target is the name that the disk is expected to have in the guest, such as vda.
	Target string `json:"target"`
}
