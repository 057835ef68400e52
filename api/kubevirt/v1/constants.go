// SPDX-License-Identifier: Apache-2.0

package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// VirtualMachineInstancePhase is where a VirtualMachineInstance stands in its life.
type VirtualMachineInstancePhase string

// The phases, in the order in which a machine passes them.
const (
	Pending    VirtualMachineInstancePhase = "Pending"    // accepted, no pod yet
	Scheduling VirtualMachineInstancePhase = "Scheduling" // the pod exists
	Scheduled  VirtualMachineInstancePhase = "Scheduled"  // the pod is bound to a node; the node agent owns it now
	Running    VirtualMachineInstancePhase = "Running"    // QEMU runs (perhaps paused)
	Succeeded  VirtualMachineInstancePhase = "Succeeded"  // the guest powered off
	Failed     VirtualMachineInstancePhase = "Failed"     // QEMU or the guest crashed, or the pod was lost
	Unknown    VirtualMachineInstancePhase = "Unknown"
)

// IsFinal tells whether the phase is never left again.
func (p VirtualMachineInstancePhase) IsFinal() bool { return p == Succeeded || p == Failed }

// VirtualMachineRunStrategy says when a VirtualMachine should have an instance.
type VirtualMachineRunStrategy string

// The run strategies of KubeVirt's API. WaitAsReceiver belongs to migration between clusters.
const (
	RunStrategyAlways         VirtualMachineRunStrategy = "Always"
	RunStrategyRerunOnFailure VirtualMachineRunStrategy = "RerunOnFailure"
	RunStrategyManual         VirtualMachineRunStrategy = "Manual"
	RunStrategyOnce           VirtualMachineRunStrategy = "Once"
	RunStrategyHalted         VirtualMachineRunStrategy = "Halted"
	RunStrategyWaitAsReceiver VirtualMachineRunStrategy = "WaitAsReceiver"
)

// VirtualMachinePrintableStatus is the STATUS column of `kubectl get vm`.
type VirtualMachinePrintableStatus string

// The printable statuses; the first that matches wins, in the order of KubeVirt's list.
const (
	StatusTerminating          VirtualMachinePrintableStatus = "Terminating"
	StatusStopping             VirtualMachinePrintableStatus = "Stopping"
	StatusMigrating            VirtualMachinePrintableStatus = "Migrating"
	StatusPaused               VirtualMachinePrintableStatus = "Paused"
	StatusRunning              VirtualMachinePrintableStatus = "Running"
	StatusErrorPvcNotFound     VirtualMachinePrintableStatus = "ErrorPvcNotFound"
	StatusDataVolumeError      VirtualMachinePrintableStatus = "DataVolumeError"
	StatusErrorUnschedulable   VirtualMachinePrintableStatus = "ErrorUnschedulable"
	StatusProvisioning         VirtualMachinePrintableStatus = "Provisioning"
	StatusWaitingForVolumeBind VirtualMachinePrintableStatus = "WaitingForVolumeBinding"
	StatusErrImagePull         VirtualMachinePrintableStatus = "ErrImagePull"
	StatusImagePullBackOff     VirtualMachinePrintableStatus = "ImagePullBackOff"
	StatusStarting             VirtualMachinePrintableStatus = "Starting"
	StatusCrashLoopBackOff     VirtualMachinePrintableStatus = "CrashLoopBackOff"
	StatusStopped              VirtualMachinePrintableStatus = "Stopped"
	StatusUnknown              VirtualMachinePrintableStatus = "Unknown"
)

// VirtualMachineInstanceConditionType names a condition of a VirtualMachineInstance.
type VirtualMachineInstanceConditionType string

// Conditions of a VirtualMachineInstance. Who writes it stands behind each:
// C is the controller, A the node agent. No two write the same one.
const (
	VMIReady             VirtualMachineInstanceConditionType = "Ready"             // C: copied from the pod once Running
	VMISynchronized      VirtualMachineInstanceConditionType = "Synchronized"      // C before Scheduled (pod, image); A from then on
	VMIPaused            VirtualMachineInstanceConditionType = "Paused"            // A: removed on resume
	VMIAgentConnected    VirtualMachineInstanceConditionType = "AgentConnected"    // A: removed when the guest agent goes
	VMILiveMigratable    VirtualMachineInstanceConditionType = "LiveMigratable"    // A
	VMIPodScheduled      VirtualMachineInstanceConditionType = "PodScheduled"      // C: copied from the pod while it is unschedulable
	VMISoftwareEmulation VirtualMachineInstanceConditionType = "SoftwareEmulation" // A: True where the node cannot run KVM guests
)

// VirtualMachineConditionType names a condition of a VirtualMachine.
type VirtualMachineConditionType string

// Conditions of a VirtualMachine. Every condition of its instance but Ready is copied as well.
const (
	VMReady           VirtualMachineConditionType = "Ready"
	VMFailure         VirtualMachineConditionType = "Failure"
	VMPaused          VirtualMachineConditionType = "Paused"
	VMRestartRequired VirtualMachineConditionType = "RestartRequired"
)

// StateChangeRequestAction is what a pending request asks of a VirtualMachine.
type StateChangeRequestAction string

// The actions.
const (
	StartRequest StateChangeRequestAction = "Start"
	StopRequest  StateChangeRequestAction = "Stop"
)

// StateChangeRequestPaused is the key in a Start request's data that asks for a paused start ("true").
const StateChangeRequestPaused = "paused"

// Labels, annotations and finalizers of KubeVirt's API that Skerry uses too.
const (
	AppLabel                 = "kubevirt.io"            // on pods; value AppLauncher
	AppLauncher              = "virt-launcher"          // of a machine's pod
	CreatedByLabel           = "kubevirt.io/created-by" // on pods: UID of the VirtualMachineInstance
	DomainAnnotation         = "kubevirt.io/domain"     // on pods: name of the VirtualMachineInstance
	VMNameLabel              = "vm.kubevirt.io/name"    // on pods: sanitised host name
	VMIIDLabel               = "vmi.kubevirt.io/id"     // on pods: name of the VirtualMachineInstance, shortened when long
	NodeNameLabel            = "kubevirt.io/nodeName"   // on instances: the node whose agent owns it
	SchedulableLabel         = "kubevirt.io/schedulable"
	HeartbeatAnnotation      = "kubevirt.io/heartbeat"
	MemoryOverheadAnnotation = "kubevirt.io/memory-overhead-bytes"
	VMGenerationAnnotation   = "kubevirt.io/vm-generation"

	VMIFinalizer = "kubevirt.io/foregroundDeleteVirtualMachine"
	VMFinalizer  = "kubevirt.io/virtualMachineControllerFinalize"
)

// UnpausedReadinessGate is the pod condition that keeps a paused machine out of Services.
const UnpausedReadinessGate = "kubevirt.io/virtual-machine-unpaused"

// ComputeContainer is the name of the pod's one container.
const ComputeContainer = "compute"

// Device resources that a machine's pod asks for.
const (
	KVMResource      = "devices.kubevirt.io/kvm"
	TunResource      = "devices.kubevirt.io/tun"
	VhostNetResource = "devices.kubevirt.io/vhost-net"
)

// VirtualizationCondition is the Node's condition in which its agent says how
// machines run there: True on KVM, False in software emulation.
const VirtualizationCondition = "SkerryVirtualization"

// QEMUUser is the uid and gid that QEMU runs as.
const QEMUUser = 107

// Stage names a step of a machine's start.
type Stage string

// The stages, in the usual order. C is written by the controller, A by the node agent.
const (
	StageAdmitted    Stage = "Admitted"     // C: the instance was created
	StageScheduled   Stage = "Scheduled"    // C: its pod was bound to a node
	StageImageReady  Stage = "ImageReady"   // A: the pod's container runs, so its images are on the node
	StageNetwork     Stage = "NetworkReady" // A: tap, bridge and rules are in the pod's network namespace
	StageQEMU        Stage = "QEMUStarted"  // A: QEMU answered on QMP
	StageFirstOutput Stage = "FirstOutput"  // A: the guest wrote its first byte to the serial console
	StageGuestAgent  Stage = "GuestAgent"   // A: the guest agent's channel was opened by the guest
)

// StageTimestamp says when a machine reached a stage.
type StageTimestamp struct {
	Stage Stage `json:"stage"`
	// Time has microseconds, unlike Kubernetes' usual timestamps.
	Time metav1.MicroTime `json:"time"`
}
