// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	cdiv1beta1 "github.com/skerry-dev/skerry/api/cdi/v1beta1"
)

// ACPI is the API type of that name.
type ACPI struct {
	// +optional
	MsdmNameRef string `json:"msdmNameRef,omitempty"`
	// +optional
	SlicNameRef string `json:"slicNameRef,omitempty"`
}

// AccessCredential is the API type of that name.
type AccessCredential struct {
	// +optional
	SshPublicKey *SSHPublicKeyAccessCredential `json:"sshPublicKey,omitempty"`
	// +optional
	UserPassword *UserPasswordAccessCredential `json:"userPassword,omitempty"`
}

// AccessCredentialSecretSource is the API type of that name.
type AccessCredentialSecretSource struct {
	SecretName string `json:"secretName"`
}

// AddVolumeOptions is the API type of that name.
type AddVolumeOptions struct {
	Disk Disk `json:"disk"`
	// +optional
	DryRun       []string            `json:"dryRun,omitempty"`
	Name         string              `json:"name"`
	VolumeSource HotplugVolumeSource `json:"volumeSource"`
}

// BIOS is the API type of that name.
type BIOS struct {
	// +optional
	UseSerial *bool `json:"useSerial,omitempty"`
}

// BlockSize is the API type of that name.
type BlockSize struct {
	// +optional
	Custom *CustomBlockSize `json:"custom,omitempty"`
	// +optional
	MatchVolume *FeatureState `json:"matchVolume,omitempty"`
}

// Bootloader is the API type of that name.
type Bootloader struct {
	// +optional
	BIOS *BIOS `json:"bios,omitempty"`
	// +optional
	EFI *EFI `json:"efi,omitempty"`
}

// CDRomTarget is the API type of that name.
type CDRomTarget struct {
	// +optional
	Bus string `json:"bus,omitempty"`
	// +optional
	Readonly *bool `json:"readonly,omitempty"`
	// +optional
	Tray string `json:"tray,omitempty"`
}

// CPU is the API type of that name.
type CPU struct {
	// +optional
	Cores int64 `json:"cores,omitempty"`
	// +optional
	DedicatedCPUPlacement *bool `json:"dedicatedCpuPlacement,omitempty"`
	// +optional
	Features []CPUFeature `json:"features,omitempty"`
	// +optional
	IsolateEmulatorThread *bool `json:"isolateEmulatorThread,omitempty"`
	// +optional
	MaxSockets int64 `json:"maxSockets,omitempty"`
	// +optional
	Model string `json:"model,omitempty"`
	// +optional
	NUMA *NUMA `json:"numa,omitempty"`
	// +optional
	Realtime *Realtime `json:"realtime,omitempty"`
	// +optional
	Sockets int64 `json:"sockets,omitempty"`
	// +optional
	Threads int64 `json:"threads,omitempty"`
}

// CPUFeature is the API type of that name.
type CPUFeature struct {
	Name string `json:"name"`
	// +optional
	Policy string `json:"policy,omitempty"`
}

// CPUTopology is the API type of that name.
type CPUTopology struct {
	// +optional
	Cores int64 `json:"cores,omitempty"`
	// +optional
	Sockets int64 `json:"sockets,omitempty"`
	// +optional
	Threads int64 `json:"threads,omitempty"`
}

// ChangedBlockTrackingStatus is the API type of that name.
type ChangedBlockTrackingStatus struct {
	// +optional
	BackupStatus *VirtualMachineInstanceBackupStatus `json:"backupStatus,omitempty"`
	State        string                              `json:"state"`
}

// Chassis is the API type of that name.
type Chassis struct {
	// +optional
	Asset string `json:"asset,omitempty"`
	// +optional
	Manufacturer string `json:"manufacturer,omitempty"`
	// +optional
	Serial string `json:"serial,omitempty"`
	// +optional
	SKU string `json:"sku,omitempty"`
	// +optional
	Version string `json:"version,omitempty"`
}

// ClaimRequest is the API type of that name.
type ClaimRequest struct {
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	RequestName string `json:"requestName,omitempty"`
}

// ClientPassthroughDevices is the API type of that name.
type ClientPassthroughDevices struct {
}

// Clock is the API type of that name.
type Clock struct {
	// +optional
	Timer *Timer `json:"timer,omitempty"`
	// +optional
	Timezone *string `json:"timezone,omitempty"`
	// +optional
	UTC *ClockOffsetUTC `json:"utc,omitempty"`
}

// ClockOffsetUTC is the API type of that name.
type ClockOffsetUTC struct {
	// +optional
	OffsetSeconds *int32 `json:"offsetSeconds,omitempty"`
}

// CloudInitConfigDriveSource is the API type of that name.
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

// CloudInitNoCloudSource is the API type of that name.
type CloudInitNoCloudSource struct {
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

// ConfigDriveSSHPublicKeyAccessCredentialPropagation is the API type of that name.
type ConfigDriveSSHPublicKeyAccessCredentialPropagation struct {
}

// ConfigMapVolumeSource is the API type of that name.
type ConfigMapVolumeSource struct {
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	Optional *bool `json:"optional,omitempty"`
	// +optional
	VolumeLabel string `json:"volumeLabel,omitempty"`
}

// ContainerDiskInfo is the API type of that name.
type ContainerDiskInfo struct {
	// +optional
	Checksum int64 `json:"checksum,omitempty"`
}

// ContainerDiskSource is the API type of that name.
type ContainerDiskSource struct {
	Image string `json:"image"`
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// +optional
	ImagePullSecret string `json:"imagePullSecret,omitempty"`
	// +optional
	Path string `json:"path,omitempty"`
}

// ContainerPathVolumeSource is the API type of that name.
type ContainerPathVolumeSource struct {
	Path string `json:"path"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// ControllerRevisionRef is the API type of that name.
type ControllerRevisionRef struct {
	// +optional
	Name string `json:"name,omitempty"`
}

// CustomBlockSize is the API type of that name.
type CustomBlockSize struct {
	// +optional
	DiscardGranularity int32 `json:"discardGranularity,omitempty"`
	// +optional
	Logical int32 `json:"logical,omitempty"`
	// +optional
	Physical int32 `json:"physical,omitempty"`
}

// DHCPOptions is the API type of that name.
type DHCPOptions struct {
	// +optional
	BootFileName string `json:"bootFileName,omitempty"`
	// +optional
	NtpServers []string `json:"ntpServers,omitempty"`
	// +optional
	PrivateOptions []DHCPPrivateOptions `json:"privateOptions,omitempty"`
	// +optional
	TftpServerName string `json:"tftpServerName,omitempty"`
}

// DHCPPrivateOptions is the API type of that name.
type DHCPPrivateOptions struct {
	Option int32  `json:"option"`
	Value  string `json:"value"`
}

// DataVolumeSource is the API type of that name.
type DataVolumeSource struct {
	// +optional
	Hotpluggable *bool  `json:"hotpluggable,omitempty"`
	Name         string `json:"name"`
}

// DataVolumeTemplateDummyStatus is the API type of that name.
type DataVolumeTemplateDummyStatus struct {
}

// DataVolumeTemplateSpec is the API type of that name.
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

// DeprecatedInterfaceMacvtap is the API type of that name.
type DeprecatedInterfaceMacvtap struct {
}

// DeprecatedInterfacePasst is the API type of that name.
type DeprecatedInterfacePasst struct {
}

// DeprecatedInterfaceSlirp is the API type of that name.
type DeprecatedInterfaceSlirp struct {
}

// Devices is the API type of that name.
type Devices struct {
	// +optional
	AutoattachGraphicsDevice *bool `json:"autoattachGraphicsDevice,omitempty"`
	// +optional
	AutoattachInputDevice *bool `json:"autoattachInputDevice,omitempty"`
	// +optional
	AutoattachMemBalloon *bool `json:"autoattachMemBalloon,omitempty"`
	// +optional
	AutoattachPodInterface *bool `json:"autoattachPodInterface,omitempty"`
	// +optional
	AutoattachSerialConsole *bool `json:"autoattachSerialConsole,omitempty"`
	// +optional
	AutoattachVSOCK *bool `json:"autoattachVSOCK,omitempty"`
	// +optional
	BlockMultiQueue *bool `json:"blockMultiQueue,omitempty"`
	// +optional
	ClientPassthrough *ClientPassthroughDevices `json:"clientPassthrough,omitempty"`
	// +optional
	DisableHotplug *bool `json:"disableHotplug,omitempty"`
	// +optional
	Disks []Disk `json:"disks,omitempty"`
	// +optional
	DownwardMetrics *DownwardMetrics `json:"downwardMetrics,omitempty"`
	// +optional
	Filesystems []Filesystem `json:"filesystems,omitempty"`
	// +optional
	GPUs []GPU `json:"gpus,omitempty"`
	// +optional
	HostDevices []HostDevice `json:"hostDevices,omitempty"`
	// +optional
	Inputs []Input `json:"inputs,omitempty"`
	// +optional
	Interfaces []Interface `json:"interfaces,omitempty"`
	// +optional
	LogSerialConsole *bool `json:"logSerialConsole,omitempty"`
	// +optional
	NetworkInterfaceMultiqueue *bool `json:"networkInterfaceMultiqueue,omitempty"`
	// +optional
	PanicDevices []PanicDevice `json:"panicDevices,omitempty"`
	// +optional
	Rng *Rng `json:"rng,omitempty"`
	// +optional
	Sound *SoundDevice `json:"sound,omitempty"`
	// +optional
	TPM *TPMDevice `json:"tpm,omitempty"`
	// +optional
	UseVirtioTransitional *bool `json:"useVirtioTransitional,omitempty"`
	// +optional
	Video *VideoDevice `json:"video,omitempty"`
	// +optional
	Watchdog *Watchdog `json:"watchdog,omitempty"`
}

// Diag288Watchdog is the API type of that name.
type Diag288Watchdog struct {
	// +optional
	Action string `json:"action,omitempty"`
}

// Disk is the API type of that name.
type Disk struct {
	// +optional
	BlockSize *BlockSize `json:"blockSize,omitempty"`
	// +optional
	BootOrder *int32 `json:"bootOrder,omitempty"`
	// +optional
	Cache string `json:"cache,omitempty"`
	// +optional
	CDRom *CDRomTarget `json:"cdrom,omitempty"`
	// +optional
	ChangedBlockTracking *bool `json:"changedBlockTracking,omitempty"`
	// +optional
	DedicatedIOThread *bool `json:"dedicatedIOThread,omitempty"`
	// +optional
	Disk *DiskTarget `json:"disk,omitempty"`
	// +optional
	ErrorPolicy string `json:"errorPolicy,omitempty"`
	// +optional
	IO string `json:"io,omitempty"`
	// +optional
	LUN  *LunTarget `json:"lun,omitempty"`
	Name string     `json:"name"`
	// +optional
	Serial string `json:"serial,omitempty"`
	// +optional
	Shareable *bool `json:"shareable,omitempty"`
	// +optional
	Tag string `json:"tag,omitempty"`
}

// DiskIOThreads is the API type of that name.
type DiskIOThreads struct {
	// +optional
	SupplementalPoolThreadCount *int64 `json:"supplementalPoolThreadCount,omitempty"`
}

// DiskTarget is the API type of that name.
type DiskTarget struct {
	// +optional
	Bus string `json:"bus,omitempty"`
	// +optional
	PciAddress string `json:"pciAddress,omitempty"`
	// +optional
	Readonly *bool `json:"readonly,omitempty"`
}

// DomainMemoryDumpInfo is the API type of that name.
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

// DomainSpec is the API type of that name.
type DomainSpec struct {
	// +optional
	Chassis *Chassis `json:"chassis,omitempty"`
	// +optional
	Clock *Clock `json:"clock,omitempty"`
	// +optional
	CPU     *CPU    `json:"cpu,omitempty"`
	Devices Devices `json:"devices"`
	// +optional
	Features *Features `json:"features,omitempty"`
	// +optional
	Firmware *Firmware `json:"firmware,omitempty"`
	// +optional
	IoThreads *DiskIOThreads `json:"ioThreads,omitempty"`
	// +optional
	IoThreadsPolicy *string `json:"ioThreadsPolicy,omitempty"`
	// +optional
	LaunchSecurity *LaunchSecurity `json:"launchSecurity,omitempty"`
	// +optional
	Machine *Machine `json:"machine,omitempty"`
	// +optional
	Memory *Memory `json:"memory,omitempty"`
	// +optional
	RebootPolicy string `json:"rebootPolicy,omitempty"`
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`
}

// DowntimeTuningOptions is the API type of that name.
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

// DownwardAPIVolumeSource is the API type of that name.
type DownwardAPIVolumeSource struct {
	// +optional
	Fields []corev1.DownwardAPIVolumeFile `json:"fields,omitempty"`
	// +optional
	VolumeLabel string `json:"volumeLabel,omitempty"`
}

// DownwardMetrics is the API type of that name.
type DownwardMetrics struct {
}

// DownwardMetricsVolumeSource is the API type of that name.
type DownwardMetricsVolumeSource struct {
}

// EFI is the API type of that name.
type EFI struct {
	// +optional
	Persistent *bool `json:"persistent,omitempty"`
	// +optional
	SecureBoot *bool `json:"secureBoot,omitempty"`
}

// EmptyDiskSource is the API type of that name.
type EmptyDiskSource struct {
	Capacity resource.Quantity `json:"capacity"`
}

// EphemeralVolumeSource is the API type of that name.
type EphemeralVolumeSource struct {
	// +optional
	PersistentVolumeClaim *corev1.PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`
}

// ExperimentalMigrationOptions is the API type of that name.
type ExperimentalMigrationOptions struct {
	// +optional
	Compression string `json:"compression,omitempty"`
	// +optional
	DowntimeTuning *DowntimeTuningOptions `json:"downtimeTuning,omitempty"`
	// +optional
	StallDetector *StallDetectorOptions `json:"stallDetector,omitempty"`
}

// FeatureAPIC is the API type of that name.
type FeatureAPIC struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	EndOfInterrupt *bool `json:"endOfInterrupt,omitempty"`
}

// FeatureHyperv is the API type of that name.
type FeatureHyperv struct {
	// +optional
	Evmcs *FeatureState `json:"evmcs,omitempty"`
	// +optional
	Frequencies *FeatureState `json:"frequencies,omitempty"`
	// +optional
	Ipi *FeatureState `json:"ipi,omitempty"`
	// +optional
	Reenlightenment *FeatureState `json:"reenlightenment,omitempty"`
	// +optional
	Relaxed *FeatureState `json:"relaxed,omitempty"`
	// +optional
	Reset *FeatureState `json:"reset,omitempty"`
	// +optional
	Runtime *FeatureState `json:"runtime,omitempty"`
	// +optional
	Spinlocks *FeatureSpinlocks `json:"spinlocks,omitempty"`
	// +optional
	Synic *FeatureState `json:"synic,omitempty"`
	// +optional
	Synictimer *SyNICTimer `json:"synictimer,omitempty"`
	// +optional
	Tlbflush *TLBFlush `json:"tlbflush,omitempty"`
	// +optional
	Vapic *FeatureState `json:"vapic,omitempty"`
	// +optional
	Vendorid *FeatureVendorID `json:"vendorid,omitempty"`
	// +optional
	Vpindex *FeatureState `json:"vpindex,omitempty"`
}

// FeatureKVM is the API type of that name.
type FeatureKVM struct {
	// +optional
	Hidden *bool `json:"hidden,omitempty"`
}

// FeatureSpinlocks is the API type of that name.
type FeatureSpinlocks struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Spinlocks *int64 `json:"spinlocks,omitempty"`
}

// FeatureState is the API type of that name.
type FeatureState struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// FeatureVendorID is the API type of that name.
type FeatureVendorID struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Vendorid string `json:"vendorid,omitempty"`
}

// Features is the API type of that name.
type Features struct {
	// +optional
	ACPI *FeatureState `json:"acpi,omitempty"`
	// +optional
	Apic *FeatureAPIC `json:"apic,omitempty"`
	// +optional
	Hyperv *FeatureHyperv `json:"hyperv,omitempty"`
	// +optional
	HypervPassthrough *HyperVPassthrough `json:"hypervPassthrough,omitempty"`
	// +optional
	KVM *FeatureKVM `json:"kvm,omitempty"`
	// +optional
	Pvspinlock *FeatureState `json:"pvspinlock,omitempty"`
	// +optional
	SMM *FeatureState `json:"smm,omitempty"`
}

// Filesystem is the API type of that name.
type Filesystem struct {
	Name     string             `json:"name"`
	Virtiofs FilesystemVirtiofs `json:"virtiofs"`
}

// FilesystemVirtiofs is the API type of that name.
type FilesystemVirtiofs struct {
}

// Firmware is the API type of that name.
type Firmware struct {
	// +optional
	ACPI *ACPI `json:"acpi,omitempty"`
	// +optional
	Bootloader *Bootloader `json:"bootloader,omitempty"`
	// +optional
	KernelBoot *KernelBoot `json:"kernelBoot,omitempty"`
	// +optional
	Serial string `json:"serial,omitempty"`
	// +optional
	UUID string `json:"uuid,omitempty"`
}

// FreezeUnfreezeTimeout is the API type of that name.
type FreezeUnfreezeTimeout struct {
	UnfreezeTimeout metav1.Duration `json:"unfreezeTimeout"`
}

// GPU is the API type of that name.
type GPU struct {
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	DeviceName string `json:"deviceName,omitempty"`
	Name       string `json:"name"`
	// +optional
	RequestName string `json:"requestName,omitempty"`
	// +optional
	Tag string `json:"tag,omitempty"`
	// +optional
	VirtualGPUOptions *VGPUOptions `json:"virtualGPUOptions,omitempty"`
}

// GuestAgentCommandInfo is the API type of that name.
type GuestAgentCommandInfo struct {
	// +optional
	Enabled *bool  `json:"enabled,omitempty"`
	Name    string `json:"name"`
}

// GuestAgentPing is the API type of that name.
type GuestAgentPing struct {
}

// HPETTimer is the API type of that name.
type HPETTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
	// +optional
	TickPolicy string `json:"tickPolicy,omitempty"`
}

// HostDevice is the API type of that name.
type HostDevice struct {
	// +optional
	ClaimName string `json:"claimName,omitempty"`
	// +optional
	DeviceName string `json:"deviceName,omitempty"`
	Name       string `json:"name"`
	// +optional
	RequestName string `json:"requestName,omitempty"`
	// +optional
	Tag string `json:"tag,omitempty"`
}

// HostDisk is the API type of that name.
type HostDisk struct {
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	Path     string             `json:"path"`
	// +optional
	Shared *bool  `json:"shared,omitempty"`
	Type   string `json:"type"`
}

// HotplugVolumeSource is the API type of that name.
type HotplugVolumeSource struct {
	// +optional
	DataVolume *DataVolumeSource `json:"dataVolume,omitempty"`
	// +optional
	PersistentVolumeClaim *PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim,omitempty"`
}

// HotplugVolumeStatus is the API type of that name.
type HotplugVolumeStatus struct {
	// +optional
	AttachPodName string `json:"attachPodName,omitempty"`
	// +optional
	AttachPodUID string `json:"attachPodUID,omitempty"`
}

// Hugepages is the API type of that name.
type Hugepages struct {
	// +optional
	PageSize string `json:"pageSize,omitempty"`
}

// HyperVPassthrough is the API type of that name.
type HyperVPassthrough struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// HypervTimer is the API type of that name.
type HypervTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
}

// I6300ESBWatchdog is the API type of that name.
type I6300ESBWatchdog struct {
	// +optional
	Action string `json:"action,omitempty"`
}

// InitrdInfo is the API type of that name.
type InitrdInfo struct {
	// +optional
	Checksum int64 `json:"checksum,omitempty"`
}

// Input is the API type of that name.
type Input struct {
	// +optional
	Bus  string `json:"bus,omitempty"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// InstancetypeMatcher is the API type of that name.
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

// InstancetypeStatusRef is the API type of that name.
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

// Interface is the API type of that name.
type Interface struct {
	// +optional
	AcpiIndex int32 `json:"acpiIndex,omitempty"`
	// +optional
	Binding *PluginBinding `json:"binding,omitempty"`
	// +optional
	BootOrder *int32 `json:"bootOrder,omitempty"`
	// +optional
	Bridge *InterfaceBridge `json:"bridge,omitempty"`
	// +optional
	DhcpOptions *DHCPOptions `json:"dhcpOptions,omitempty"`
	// +optional
	MacAddress string `json:"macAddress,omitempty"`
	// +optional
	Macvtap *DeprecatedInterfaceMacvtap `json:"macvtap,omitempty"`
	// +optional
	Masquerade *InterfaceMasquerade `json:"masquerade,omitempty"`
	// +optional
	Model string `json:"model,omitempty"`
	Name  string `json:"name"`
	// +optional
	Passt *DeprecatedInterfacePasst `json:"passt,omitempty"`
	// +optional
	PasstBinding *InterfacePasstBinding `json:"passtBinding,omitempty"`
	// +optional
	PciAddress string `json:"pciAddress,omitempty"`
	// +optional
	PortRanges []PortRange `json:"portRanges,omitempty"`
	// +optional
	Ports []Port `json:"ports,omitempty"`
	// +optional
	Slirp *DeprecatedInterfaceSlirp `json:"slirp,omitempty"`
	// +optional
	Sriov *InterfaceSRIOV `json:"sriov,omitempty"`
	// +optional
	State string `json:"state,omitempty"`
	// +optional
	Tag string `json:"tag,omitempty"`
}

// InterfaceBridge is the API type of that name.
type InterfaceBridge struct {
}

// InterfaceMasquerade is the API type of that name.
type InterfaceMasquerade struct {
}

// InterfacePasstBinding is the API type of that name.
type InterfacePasstBinding struct {
}

// InterfaceSRIOV is the API type of that name.
type InterfaceSRIOV struct {
}

// KVMTimer is the API type of that name.
type KVMTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
}

// KernelBoot is the API type of that name.
type KernelBoot struct {
	// +optional
	Container *KernelBootContainer `json:"container,omitempty"`
	// +optional
	KernelArgs string `json:"kernelArgs,omitempty"`
}

// KernelBootContainer is the API type of that name.
type KernelBootContainer struct {
	Image string `json:"image"`
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// +optional
	ImagePullSecret string `json:"imagePullSecret,omitempty"`
	// +optional
	InitrdPath string `json:"initrdPath,omitempty"`
	// +optional
	KernelPath string `json:"kernelPath,omitempty"`
}

// KernelBootStatus is the API type of that name.
type KernelBootStatus struct {
	// +optional
	InitrdInfo *InitrdInfo `json:"initrdInfo,omitempty"`
	// +optional
	KernelInfo *KernelInfo `json:"kernelInfo,omitempty"`
}

// KernelInfo is the API type of that name.
type KernelInfo struct {
	// +optional
	Checksum int64 `json:"checksum,omitempty"`
}

// LaunchSecurity is the API type of that name.
type LaunchSecurity struct {
	// +optional
	Sev *SEV `json:"sev,omitempty"`
	// +optional
	Snp *SEVSNP `json:"snp,omitempty"`
	// +optional
	Tdx *TDX `json:"tdx,omitempty"`
}

// LunTarget is the API type of that name.
type LunTarget struct {
	// +optional
	Bus string `json:"bus,omitempty"`
	// +optional
	Readonly *bool `json:"readonly,omitempty"`
	// +optional
	Reservation *bool `json:"reservation,omitempty"`
}

// Machine is the API type of that name.
type Machine struct {
	// +optional
	Type string `json:"type,omitempty"`
}

// Memory is the API type of that name.
type Memory struct {
	// +optional
	Guest *resource.Quantity `json:"guest,omitempty"`
	// +optional
	Hugepages *Hugepages `json:"hugepages,omitempty"`
	// +optional
	MaxGuest *resource.Quantity `json:"maxGuest,omitempty"`
	// +optional
	ReservedOverhead *ReservedOverhead `json:"reservedOverhead,omitempty"`
}

// MemoryDumpVolumeSource is the API type of that name.
type MemoryDumpVolumeSource struct {
	ClaimName string `json:"claimName"`
	// +optional
	Hotpluggable *bool `json:"hotpluggable,omitempty"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// MemoryStatus is the API type of that name.
type MemoryStatus struct {
	// +optional
	GuestAtBoot *resource.Quantity `json:"guestAtBoot,omitempty"`
	// +optional
	GuestCurrent *resource.Quantity `json:"guestCurrent,omitempty"`
	// +optional
	GuestRequested *resource.Quantity `json:"guestRequested,omitempty"`
	// +optional
	MemoryOverhead *resource.Quantity `json:"memoryOverhead,omitempty"`
}

// MigrateOptions is the API type of that name.
type MigrateOptions struct {
	// +optional
	AddedNodeSelector map[string]string `json:"addedNodeSelector,omitempty"`
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// MultusNetwork is the API type of that name.
type MultusNetwork struct {
	// +optional
	Default     *bool  `json:"default,omitempty"`
	NetworkName string `json:"networkName"`
}

// NUMA is the API type of that name.
type NUMA struct {
	// +optional
	GuestMappingPassthrough *NUMAGuestMappingPassthrough `json:"guestMappingPassthrough,omitempty"`
}

// NUMAGuestMappingPassthrough is the API type of that name.
type NUMAGuestMappingPassthrough struct {
}

// Network is the API type of that name.
type Network struct {
	// +optional
	Multus *MultusNetwork `json:"multus,omitempty"`
	Name   string         `json:"name"`
	// +optional
	Pod *PodNetwork `json:"pod,omitempty"`
	// +optional
	ResourceClaim *ClaimRequest `json:"resourceClaim,omitempty"`
}

// NoCloudSSHPublicKeyAccessCredentialPropagation is the API type of that name.
type NoCloudSSHPublicKeyAccessCredentialPropagation struct {
}

// PITTimer is the API type of that name.
type PITTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
	// +optional
	TickPolicy string `json:"tickPolicy,omitempty"`
}

// PanicDevice is the API type of that name.
type PanicDevice struct {
	// +optional
	Model string `json:"model,omitempty"`
}

// PauseOptions is the API type of that name.
type PauseOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// PersistentVolumeClaimInfo is the API type of that name.
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

// PersistentVolumeClaimVolumeSource is the API type of that name.
type PersistentVolumeClaimVolumeSource struct {
	ClaimName string `json:"claimName"`
	// +optional
	Hotpluggable *bool `json:"hotpluggable,omitempty"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
}

// PluginBinding is the API type of that name.
type PluginBinding struct {
	Name string `json:"name"`
}

// PodNetwork is the API type of that name.
type PodNetwork struct {
	// +optional
	VMIPv6NetworkCIDR string `json:"vmIPv6NetworkCIDR,omitempty"`
	// +optional
	VMNetworkCIDR string `json:"vmNetworkCIDR,omitempty"`
}

// Port is the API type of that name.
type Port struct {
	// +optional
	Name string `json:"name,omitempty"`
	Port int32  `json:"port"`
	// +optional
	Protocol string `json:"protocol,omitempty"`
}

// PortRange is the API type of that name.
type PortRange struct {
	End      int32  `json:"end"`
	Protocol string `json:"protocol"`
	Start    int32  `json:"start"`
}

// PreferenceMatcher is the API type of that name.
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

// Probe is the API type of that name.
type Probe struct {
	// +optional
	Exec *corev1.ExecAction `json:"exec,omitempty"`
	// +optional
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// +optional
	GuestAgentPing *GuestAgentPing `json:"guestAgentPing,omitempty"`
	// +optional
	HttpGet *corev1.HTTPGetAction `json:"httpGet,omitempty"`
	// +optional
	InitialDelaySeconds int32 `json:"initialDelaySeconds,omitempty"`
	// +optional
	PeriodSeconds int32 `json:"periodSeconds,omitempty"`
	// +optional
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
	// +optional
	TcpSocket *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// QemuGuestAgentSSHPublicKeyAccessCredentialPropagation is the API type of that name.
type QemuGuestAgentSSHPublicKeyAccessCredentialPropagation struct {
	Users []string `json:"users"`
}

// QemuGuestAgentUserPasswordAccessCredentialPropagation is the API type of that name.
type QemuGuestAgentUserPasswordAccessCredentialPropagation struct {
}

// RTCTimer is the API type of that name.
type RTCTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
	// +optional
	TickPolicy string `json:"tickPolicy,omitempty"`
	// +optional
	Track string `json:"track,omitempty"`
}

// Realtime is the API type of that name.
type Realtime struct {
	// +optional
	Mask string `json:"mask,omitempty"`
}

// RemoveVolumeOptions is the API type of that name.
type RemoveVolumeOptions struct {
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	Name   string   `json:"name"`
}

// ReservedOverhead is the API type of that name.
type ReservedOverhead struct {
	// +optional
	AddedOverhead *resource.Quantity `json:"addedOverhead,omitempty"`
	// +optional
	MemLock string `json:"memLock,omitempty"`
}

// ResourceRequirements is the API type of that name.
type ResourceRequirements struct {
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
	// +optional
	OvercommitGuestOverhead *bool `json:"overcommitGuestOverhead,omitempty"`
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// RestartOptions is the API type of that name.
type RestartOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// Rng is the API type of that name.
type Rng struct {
}

// SEV is the API type of that name.
type SEV struct {
	// +optional
	Attestation *SEVAttestation `json:"attestation,omitempty"`
	// +optional
	DhCert string `json:"dhCert,omitempty"`
	// +optional
	Policy *SEVPolicy `json:"policy,omitempty"`
	// +optional
	Session string `json:"session,omitempty"`
}

// SEVAttestation is the API type of that name.
type SEVAttestation struct {
}

// SEVPolicy is the API type of that name.
type SEVPolicy struct {
	// +optional
	EncryptedState *bool `json:"encryptedState,omitempty"`
}

// SEVSNP is the API type of that name.
type SEVSNP struct {
}

// SSHPublicKeyAccessCredential is the API type of that name.
type SSHPublicKeyAccessCredential struct {
	PropagationMethod SSHPublicKeyAccessCredentialPropagationMethod `json:"propagationMethod"`
	Source            SSHPublicKeyAccessCredentialSource            `json:"source"`
}

// SSHPublicKeyAccessCredentialPropagationMethod is the API type of that name.
type SSHPublicKeyAccessCredentialPropagationMethod struct {
	// +optional
	ConfigDrive *ConfigDriveSSHPublicKeyAccessCredentialPropagation `json:"configDrive,omitempty"`
	// +optional
	NoCloud *NoCloudSSHPublicKeyAccessCredentialPropagation `json:"noCloud,omitempty"`
	// +optional
	QemuGuestAgent *QemuGuestAgentSSHPublicKeyAccessCredentialPropagation `json:"qemuGuestAgent,omitempty"`
}

// SSHPublicKeyAccessCredentialSource is the API type of that name.
type SSHPublicKeyAccessCredentialSource struct {
	// +optional
	Secret *AccessCredentialSecretSource `json:"secret,omitempty"`
}

// SecretVolumeSource is the API type of that name.
type SecretVolumeSource struct {
	// +optional
	Optional *bool `json:"optional,omitempty"`
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// +optional
	VolumeLabel string `json:"volumeLabel,omitempty"`
}

// ServiceAccountVolumeSource is the API type of that name.
type ServiceAccountVolumeSource struct {
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// SoundDevice is the API type of that name.
type SoundDevice struct {
	// +optional
	Model string `json:"model,omitempty"`
	Name  string `json:"name"`
}

// StallDetectorOptions is the API type of that name.
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

// StartOptions is the API type of that name.
type StartOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// +optional
	Paused *bool `json:"paused,omitempty"`
}

// StopOptions is the API type of that name.
type StopOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	GracePeriod *int64 `json:"gracePeriod,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// StorageMigratedVolumeInfo is the API type of that name.
type StorageMigratedVolumeInfo struct {
	// +optional
	DestinationPVCInfo *PersistentVolumeClaimInfo `json:"destinationPVCInfo,omitempty"`
	// +optional
	SourcePVCInfo *PersistentVolumeClaimInfo `json:"sourcePVCInfo,omitempty"`
	VolumeName    string                     `json:"volumeName"`
}

// SyNICTimer is the API type of that name.
type SyNICTimer struct {
	// +optional
	Direct *FeatureState `json:"direct,omitempty"`
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// SysprepSource is the API type of that name.
type SysprepSource struct {
	// +optional
	ConfigMap *corev1.LocalObjectReference `json:"configMap,omitempty"`
	// +optional
	Secret *corev1.LocalObjectReference `json:"secret,omitempty"`
}

// TDX is the API type of that name.
type TDX struct {
}

// TLBFlush is the API type of that name.
type TLBFlush struct {
	// +optional
	Direct *FeatureState `json:"direct,omitempty"`
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Extended *FeatureState `json:"extended,omitempty"`
}

// TPMDevice is the API type of that name.
type TPMDevice struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Persistent *bool `json:"persistent,omitempty"`
}

// Timer is the API type of that name.
type Timer struct {
	// +optional
	HPET *HPETTimer `json:"hpet,omitempty"`
	// +optional
	Hyperv *HypervTimer `json:"hyperv,omitempty"`
	// +optional
	KVM *KVMTimer `json:"kvm,omitempty"`
	// +optional
	PIT *PITTimer `json:"pit,omitempty"`
	// +optional
	RTC *RTCTimer `json:"rtc,omitempty"`
}

// TopologyHints is the API type of that name.
type TopologyHints struct {
	// +optional
	TscFrequency int64 `json:"tscFrequency,omitempty"`
}

// UnpauseOptions is the API type of that name.
type UnpauseOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// UserPasswordAccessCredential is the API type of that name.
type UserPasswordAccessCredential struct {
	PropagationMethod UserPasswordAccessCredentialPropagationMethod `json:"propagationMethod"`
	Source            UserPasswordAccessCredentialSource            `json:"source"`
}

// UserPasswordAccessCredentialPropagationMethod is the API type of that name.
type UserPasswordAccessCredentialPropagationMethod struct {
	// +optional
	QemuGuestAgent *QemuGuestAgentUserPasswordAccessCredentialPropagation `json:"qemuGuestAgent,omitempty"`
}

// UserPasswordAccessCredentialSource is the API type of that name.
type UserPasswordAccessCredentialSource struct {
	// +optional
	Secret *AccessCredentialSecretSource `json:"secret,omitempty"`
}

// UtilityVolume is the API type of that name.
type UtilityVolume struct {
	ClaimName string `json:"claimName"`
	Name      string `json:"name"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
	// +optional
	Type string `json:"type,omitempty"`
}

// VGPUDisplayOptions is the API type of that name.
type VGPUDisplayOptions struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	RamFB *FeatureState `json:"ramFB,omitempty"`
}

// VGPUOptions is the API type of that name.
type VGPUOptions struct {
	// +optional
	Display *VGPUDisplayOptions `json:"display,omitempty"`
}

// VMIMConfigurationOptions is the API type of that name.
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

// VideoDevice is the API type of that name.
type VideoDevice struct {
	// +optional
	Type string `json:"type,omitempty"`
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
type VirtualMachine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VirtualMachineSpec `json:"spec"`
	// +optional
	Status VirtualMachineStatus `json:"status,omitempty"`
}

// VirtualMachineCondition is the API type of that name.
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

// VirtualMachineInstance is one run of a machine: one pod, one QEMU. It has no
// status subresource (as in the peer's API); a ValidatingAdmissionPolicy says
// who may write its status.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=virtualmachineinstances,shortName=vmi;vmis,categories=all
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="IP",type="string",JSONPath=".status.interfaces[0].ipAddress"
// +kubebuilder:printcolumn:name="NodeName",type="string",JSONPath=".status.nodeName"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Live-Migratable",type="string",JSONPath=".status.conditions[?(@.type=='LiveMigratable')].status",priority=1
// +kubebuilder:printcolumn:name="Paused",type="string",JSONPath=".status.conditions[?(@.type=='Paused')].status",priority=1
type VirtualMachineInstance struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VirtualMachineInstanceSpec `json:"spec"`
	// +optional
	Status VirtualMachineInstanceStatus `json:"status,omitempty"`
}

// VirtualMachineInstanceBackupStatus is the API type of that name.
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

// VirtualMachineInstanceBackupVolumeInfo is the API type of that name.
type VirtualMachineInstanceBackupVolumeInfo struct {
	VolumeName string `json:"volumeName"`
}

// VirtualMachineInstanceCondition is the API type of that name.
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

// VirtualMachineInstanceFileSystem is the API type of that name.
type VirtualMachineInstanceFileSystem struct {
	// +optional
	Disk           []VirtualMachineInstanceFileSystemDisk `json:"disk,omitempty"`
	DiskName       string                                 `json:"diskName"`
	FileSystemType string                                 `json:"fileSystemType"`
	MountPoint     string                                 `json:"mountPoint"`
	TotalBytes     int32                                  `json:"totalBytes"`
	UsedBytes      int32                                  `json:"usedBytes"`
}

// VirtualMachineInstanceFileSystemDisk is the API type of that name.
type VirtualMachineInstanceFileSystemDisk struct {
	BusType string `json:"busType"`
	// +optional
	Serial string `json:"serial,omitempty"`
}

// VirtualMachineInstanceFileSystemInfo is the API type of that name.
type VirtualMachineInstanceFileSystemInfo struct {
	Disks []VirtualMachineInstanceFileSystem `json:"disks"`
}

// VirtualMachineInstanceFileSystemList is the API type of that name.
type VirtualMachineInstanceFileSystemList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachineInstanceFileSystem `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// VirtualMachineInstanceGuestAgentInfo is the API type of that name.
type VirtualMachineInstanceGuestAgentInfo struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	FsFreezeStatus string `json:"fsFreezeStatus,omitempty"`
	// +optional
	FsInfo *VirtualMachineInstanceFileSystemInfo `json:"fsInfo,omitempty"`
	// +optional
	GuestAgentVersion string `json:"guestAgentVersion,omitempty"`
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// +optional
	Os *VirtualMachineInstanceGuestOSInfo `json:"os,omitempty"`
	// +optional
	SupportedCommands []GuestAgentCommandInfo `json:"supportedCommands,omitempty"`
	// +optional
	Timezone string `json:"timezone,omitempty"`
	// +optional
	UserList []VirtualMachineInstanceGuestOSUser `json:"userList,omitempty"`
}

// VirtualMachineInstanceGuestOSInfo is the API type of that name.
type VirtualMachineInstanceGuestOSInfo struct {
	// +optional
	ID string `json:"id,omitempty"`
	// +optional
	KernelRelease string `json:"kernelRelease,omitempty"`
	// +optional
	KernelVersion string `json:"kernelVersion,omitempty"`
	// +optional
	Machine string `json:"machine,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// +optional
	PrettyName string `json:"prettyName,omitempty"`
	// +optional
	Version string `json:"version,omitempty"`
	// +optional
	VersionId string `json:"versionId,omitempty"`
}

// VirtualMachineInstanceGuestOSUser is the API type of that name.
type VirtualMachineInstanceGuestOSUser struct {
	// +optional
	Domain string `json:"domain,omitempty"`
	// +optional
	LoginTime float64 `json:"loginTime,omitempty"`
	UserName  string  `json:"userName"`
}

// VirtualMachineInstanceGuestOSUserList is the API type of that name.
type VirtualMachineInstanceGuestOSUserList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachineInstanceGuestOSUser `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// VirtualMachineInstanceList is a list of VirtualMachineInstances.
//
// +kubebuilder:object:root=true
type VirtualMachineInstanceList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachineInstance `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// VirtualMachineInstanceMigrationSourceState is the API type of that name.
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

// VirtualMachineInstanceMigrationState is the API type of that name.
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

// VirtualMachineInstanceMigrationTargetState is the API type of that name.
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

// VirtualMachineInstanceNetworkInterface is the API type of that name.
type VirtualMachineInstanceNetworkInterface struct {
	// +optional
	InfoSource string `json:"infoSource,omitempty"`
	// +optional
	InterfaceName string `json:"interfaceName,omitempty"`
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
	// +optional
	PodInterfaceName string `json:"podInterfaceName,omitempty"`
	// +optional
	QueueCount int32 `json:"queueCount,omitempty"`
}

// VirtualMachineInstancePhaseTransitionTimestamp is the API type of that name.
type VirtualMachineInstancePhaseTransitionTimestamp struct {
	// +optional
	Phase VirtualMachineInstancePhase `json:"phase,omitempty"`
	// +optional
	PhaseTransitionTimestamp *metav1.Time `json:"phaseTransitionTimestamp,omitempty"`
}

// VirtualMachineInstanceResourceClaim is the API type of that name.
type VirtualMachineInstanceResourceClaim struct {
	Name string `json:"name"`
	// +optional
	ResourceClaimName string `json:"resourceClaimName,omitempty"`
	// +optional
	ResourceClaimTemplateName string `json:"resourceClaimTemplateName,omitempty"`
}

// VirtualMachineInstanceSpec is the API type of that name.
type VirtualMachineInstanceSpec struct {
	// +optional
	AccessCredentials []AccessCredential `json:"accessCredentials,omitempty"`
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// +optional
	Architecture string `json:"architecture,omitempty"`
	// +optional
	DNSConfig *corev1.PodDNSConfig `json:"dnsConfig,omitempty"`
	// +optional
	DNSPolicy corev1.DNSPolicy `json:"dnsPolicy,omitempty"`
	Domain    DomainSpec       `json:"domain"`
	// +optional
	EvictionStrategy *string `json:"evictionStrategy,omitempty"`
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// +optional
	LivenessProbe *Probe `json:"livenessProbe,omitempty"`
	// +optional
	Networks []Network `json:"networks,omitempty"`
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// +optional
	ReadinessProbe *Probe `json:"readinessProbe,omitempty"`
	// +optional
	ResourceClaims []VirtualMachineInstanceResourceClaim `json:"resourceClaims,omitempty"`
	// +optional
	SchedulerName string `json:"schedulerName,omitempty"`
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// +optional
	StartStrategy *string `json:"startStrategy,omitempty"`
	// +optional
	Subdomain string `json:"subdomain,omitempty"`
	// +optional
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// +optional
	UtilityVolumes []UtilityVolume `json:"utilityVolumes,omitempty"`
	// +optional
	Volumes []Volume `json:"volumes,omitempty"`
}

// VirtualMachineInstanceStatus is the API type of that name.
type VirtualMachineInstanceStatus struct {
	// +optional
	VSOCKCID *int64 `json:"VSOCKCID,omitempty"`
	// +optional
	ActivePods map[string]string `json:"activePods,omitempty"`
	// +optional
	ChangedBlockTracking *ChangedBlockTrackingStatus `json:"changedBlockTracking,omitempty"`
	// +optional
	Conditions []VirtualMachineInstanceCondition `json:"conditions,omitempty"`
	// +optional
	CurrentCPUTopology *CPUTopology `json:"currentCPUTopology,omitempty"`
	// +optional
	EvacuationNodeName string `json:"evacuationNodeName,omitempty"`
	// +optional
	FsFreezeStatus string `json:"fsFreezeStatus,omitempty"`
	// +optional
	GuestOSInfo *VirtualMachineInstanceGuestOSInfo `json:"guestOSInfo,omitempty"`
	// +optional
	Interfaces []VirtualMachineInstanceNetworkInterface `json:"interfaces,omitempty"`
	// +optional
	KernelBootStatus *KernelBootStatus `json:"kernelBootStatus,omitempty"`
	// +optional
	LauncherContainerImageVersion string `json:"launcherContainerImageVersion,omitempty"`
	// +optional
	Machine *Machine `json:"machine,omitempty"`
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
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// +optional
	Phase VirtualMachineInstancePhase `json:"phase,omitempty"`
	// +optional
	PhaseTransitionTimestamps []VirtualMachineInstancePhaseTransitionTimestamp `json:"phaseTransitionTimestamps,omitempty"`
	// +optional
	QosClass corev1.PodQOSClass `json:"qosClass,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	RuntimeUser int64 `json:"runtimeUser,omitempty"`
	// +optional
	SelinuxContext string `json:"selinuxContext,omitempty"`
	// Stages are the times at which the machine passed each stage of its start,
	// in the order in which they were reached. An addition of Skerry's own.
	// +optional
	Stages []StageTimestamp `json:"stages,omitempty"`
	// +optional
	TopologyHints *TopologyHints `json:"topologyHints,omitempty"`
	// +optional
	VirtualMachineRevisionName string `json:"virtualMachineRevisionName,omitempty"`
	// +optional
	VolumeStatus []VolumeStatus `json:"volumeStatus,omitempty"`
}

// VirtualMachineInstanceTemplateSpec is the API type of that name.
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

// VirtualMachineMemoryDumpRequest is the API type of that name.
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

// VirtualMachineSpec is the API type of that name.
type VirtualMachineSpec struct {
	// +optional
	DataVolumeTemplates []DataVolumeTemplateSpec `json:"dataVolumeTemplates,omitempty"`
	// +optional
	Instancetype *InstancetypeMatcher `json:"instancetype,omitempty"`
	// +optional
	Preference *PreferenceMatcher `json:"preference,omitempty"`
	// +optional
	RunStrategy *VirtualMachineRunStrategy `json:"runStrategy,omitempty"`
	// +optional
	Running  *bool                              `json:"running,omitempty"`
	Template VirtualMachineInstanceTemplateSpec `json:"template"`
	// +optional
	UpdateVolumesStrategy *string `json:"updateVolumesStrategy,omitempty"`
}

// VirtualMachineStartFailure is the API type of that name.
type VirtualMachineStartFailure struct {
	// +optional
	ConsecutiveFailCount int32 `json:"consecutiveFailCount,omitempty"`
	// +optional
	LastFailedVMIUID types.UID `json:"lastFailedVMIUID,omitempty"`
	// +optional
	RetryAfterTimestamp *metav1.Time `json:"retryAfterTimestamp,omitempty"`
}

// VirtualMachineStateChangeRequest is the API type of that name.
type VirtualMachineStateChangeRequest struct {
	Action StateChangeRequestAction `json:"action"`
	// +optional
	Data map[string]string `json:"data,omitempty"`
	// +optional
	UID types.UID `json:"uid,omitempty"`
}

// VirtualMachineStatus is the API type of that name.
type VirtualMachineStatus struct {
	// +optional
	ChangedBlockTracking *ChangedBlockTrackingStatus `json:"changedBlockTracking,omitempty"`
	// +optional
	Conditions []VirtualMachineCondition `json:"conditions,omitempty"`
	// +optional
	Created *bool `json:"created,omitempty"`
	// +optional
	DesiredGeneration int64 `json:"desiredGeneration,omitempty"`
	// +optional
	InstancetypeRef *InstancetypeStatusRef `json:"instancetypeRef,omitempty"`
	// +optional
	MemoryDumpRequest *VirtualMachineMemoryDumpRequest `json:"memoryDumpRequest,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	PreferenceRef *InstancetypeStatusRef `json:"preferenceRef,omitempty"`
	// +optional
	PrintableStatus VirtualMachinePrintableStatus `json:"printableStatus,omitempty"`
	// +optional
	Ready *bool `json:"ready,omitempty"`
	// +optional
	RestoreInProgress string `json:"restoreInProgress,omitempty"`
	// +optional
	RunStrategy VirtualMachineRunStrategy `json:"runStrategy,omitempty"`
	// +optional
	SnapshotInProgress string `json:"snapshotInProgress,omitempty"`
	// +optional
	StartFailure *VirtualMachineStartFailure `json:"startFailure,omitempty"`
	// +optional
	StateChangeRequests []VirtualMachineStateChangeRequest `json:"stateChangeRequests,omitempty"`
	// +optional
	VolumeRequests []VirtualMachineVolumeRequest `json:"volumeRequests,omitempty"`
	// +optional
	VolumeSnapshotStatuses []VolumeSnapshotStatus `json:"volumeSnapshotStatuses,omitempty"`
	// +optional
	VolumeUpdateState *VolumeUpdateState `json:"volumeUpdateState,omitempty"`
}

// VirtualMachineVolumeRequest is the API type of that name.
type VirtualMachineVolumeRequest struct {
	// +optional
	AddVolumeOptions *AddVolumeOptions `json:"addVolumeOptions,omitempty"`
	// +optional
	RemoveVolumeOptions *RemoveVolumeOptions `json:"removeVolumeOptions,omitempty"`
}

// Volume is the API type of that name.
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

// VolumeMigrationState is the API type of that name.
type VolumeMigrationState struct {
	// +optional
	MigratedVolumes []StorageMigratedVolumeInfo `json:"migratedVolumes,omitempty"`
}

// VolumeSnapshotStatus is the API type of that name.
type VolumeSnapshotStatus struct {
	Enabled bool   `json:"enabled"`
	Name    string `json:"name"`
	// +optional
	Reason string `json:"reason,omitempty"`
}

// VolumeStatus is the API type of that name.
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
	// +optional
	Size   int64  `json:"size,omitempty"`
	Target string `json:"target"`
}

// VolumeUpdateState is the API type of that name.
type VolumeUpdateState struct {
	// +optional
	VolumeMigrationState *VolumeMigrationState `json:"volumeMigrationState,omitempty"`
}

// Watchdog is the API type of that name.
type Watchdog struct {
	// +optional
	Diag288 *Diag288Watchdog `json:"diag288,omitempty"`
	// +optional
	I6300esb *I6300ESBWatchdog `json:"i6300esb,omitempty"`
	Name     string            `json:"name"`
}
