// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ACPI refers to volumes with ACPI tables for the guest.
type ACPI struct {
	// +optional
	MsdmNameRef string `json:"msdmNameRef,omitempty"`
	// +optional
	SlicNameRef string `json:"slicNameRef,omitempty"`
}

// BIOS boots by SeaBIOS.
type BIOS struct {
	// UseSerial shows SeaBIOS's output on the serial console.
	// +optional
	UseSerial *bool `json:"useSerial,omitempty"`
}

// Bootloader is BIOS or UEFI; BIOS when left out.
type Bootloader struct {
	// +optional
	BIOS *BIOS `json:"bios,omitempty"`
	// +optional
	EFI *EFI `json:"efi,omitempty"`
}

// CPU is the guest's processors. The number of virtual CPUs is sockets × cores × threads; each is
// 1 when left out.
type CPU struct {
	// +optional
	Cores int64 `json:"cores,omitempty"`
	// DedicatedCPUPlacement gives each virtual CPU a CPU of its own.
	// +optional
	DedicatedCPUPlacement *bool `json:"dedicatedCpuPlacement,omitempty"`
	// +optional
	Features []CPUFeature `json:"features,omitempty"`
	// +optional
	IsolateEmulatorThread *bool `json:"isolateEmulatorThread,omitempty"`
	// MaxSockets is how many sockets the guest may grow to while it runs.
	// +optional
	MaxSockets int64 `json:"maxSockets,omitempty"`
	// Model is host-model, host-passthrough or a model of QEMU.
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

// CPUFeature asks for one feature of the CPU model.
type CPUFeature struct {
	Name string `json:"name"`
	// Policy is force, require (also when left out), optional, disable or forbid.
	// +optional
	Policy string `json:"policy,omitempty"`
}

// Chassis is what the guest reads about its housing (SMBIOS type 3).
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

// Clock is the guest's real-time clock: it starts at UTC, or at UTC shifted by an offset, or at a
// time zone's local time.
type Clock struct {
	// +optional
	Timer *Timer `json:"timer,omitempty"`
	// +optional
	Timezone *string `json:"timezone,omitempty"`
	// +optional
	UTC *ClockOffsetUTC `json:"utc,omitempty"`
}

// ClockOffsetUTC shifts the clock from UTC.
type ClockOffsetUTC struct {
	// +optional
	OffsetSeconds *int32 `json:"offsetSeconds,omitempty"`
}

// DiskIOThreads sizes the pool of I/O threads.
type DiskIOThreads struct {
	// +optional
	SupplementalPoolThreadCount *int64 `json:"supplementalPoolThreadCount,omitempty"`
}

// DomainSpec describes the machine itself: processors, memory, firmware and devices.
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
	// RebootPolicy Terminate ends the instance when the guest reboots.
	// +optional
	RebootPolicy string `json:"rebootPolicy,omitempty"`
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`
}

// EFI boots by UEFI. Secure boot is on unless it is switched off.
type EFI struct {
	// Persistent keeps UEFI's variables when the machine stops.
	// +optional
	Persistent *bool `json:"persistent,omitempty"`
	// SecureBoot is on when left out.
	// +optional
	SecureBoot *bool `json:"secureBoot,omitempty"`
}

// FeatureAPIC is the interrupt controller.
type FeatureAPIC struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// EndOfInterrupt switches KVM's paravirtual end-of-interrupt.
	// +optional
	EndOfInterrupt *bool `json:"endOfInterrupt,omitempty"`
}

// FeatureHyperv are Hyper-V's enlightenments, which Windows guests use.
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

// FeatureKVM is how KVM shows itself to the guest.
type FeatureKVM struct {
	// +optional
	Hidden *bool `json:"hidden,omitempty"`
}

// FeatureSpinlocks tells the guest how often to try a lock before it yields.
type FeatureSpinlocks struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// Spinlocks is the number of tries, 4096 when left out.
	// +optional
	Spinlocks *int64 `json:"spinlocks,omitempty"`
}

// FeatureState switches a feature; one that is mentioned is on.
type FeatureState struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// FeatureVendorID is the hypervisor's name in CPUID, 12 characters at most.
type FeatureVendorID struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Vendorid string `json:"vendorid,omitempty"`
}

// Features are features of the machine and of the hypervisor that the guest sees.
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

// Firmware is what the machine boots with and what it says about itself.
type Firmware struct {
	// +optional
	ACPI *ACPI `json:"acpi,omitempty"`
	// +optional
	Bootloader *Bootloader `json:"bootloader,omitempty"`
	// +optional
	KernelBoot *KernelBoot `json:"kernelBoot,omitempty"`
	// Serial number of the machine (SMBIOS type 1).
	// +optional
	Serial string `json:"serial,omitempty"`
	// UUID of the machine. It is made when the machine is, and never changes.
	// +optional
	UUID string `json:"uuid,omitempty"`
}

// HPETTimer is the high precision event timer.
type HPETTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
	// +optional
	TickPolicy string `json:"tickPolicy,omitempty"`
}

// Hugepages puts the guest's memory into huge pages.
type Hugepages struct {
	// +optional
	PageSize string `json:"pageSize,omitempty"`
}

// HyperVPassthrough switches on every enlightenment that the host has.
type HyperVPassthrough struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// HypervTimer is Hyper-V's reference clock.
type HypervTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
}

// KVMTimer is KVM's paravirtual clock.
type KVMTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
}

// KernelBoot boots a kernel from a container image instead of a disk's boot loader.
type KernelBoot struct {
	// +optional
	Container *KernelBootContainer `json:"container,omitempty"`
	// KernelArgs is the kernel's command line.
	// +optional
	KernelArgs string `json:"kernelArgs,omitempty"`
}

// KernelBootContainer is the container image that holds the kernel and the initrd.
type KernelBootContainer struct {
	Image string `json:"image"`
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// +optional
	ImagePullSecret string `json:"imagePullSecret,omitempty"`
	// InitrdPath is the initrd's path in the image.
	// +optional
	InitrdPath string `json:"initrdPath,omitempty"`
	// KernelPath is the kernel's path in the image.
	// +optional
	KernelPath string `json:"kernelPath,omitempty"`
}

// LaunchSecurity encrypts the guest's memory.
type LaunchSecurity struct {
	// +optional
	Sev *SEV `json:"sev,omitempty"`
	// +optional
	Snp *SEVSNP `json:"snp,omitempty"`
	// +optional
	Tdx *TDX `json:"tdx,omitempty"`
}

// Machine is the kind of mainboard.
type Machine struct {
	// Type is q35 or a version of it such as pc-q35-10.0.
	// +optional
	Type string `json:"type,omitempty"`
}

// Memory is the guest's memory.
type Memory struct {
	// Guest is what the guest sees. Left out it is resources.requests.memory, or else
	// resources.limits.memory.
	// +optional
	Guest *resource.Quantity `json:"guest,omitempty"`
	// +optional
	Hugepages *Hugepages `json:"hugepages,omitempty"`
	// MaxGuest is how far the guest's memory may grow while it runs.
	// +optional
	MaxGuest *resource.Quantity `json:"maxGuest,omitempty"`
	// +optional
	ReservedOverhead *ReservedOverhead `json:"reservedOverhead,omitempty"`
}

// NUMA shapes the guest's NUMA nodes.
type NUMA struct {
	// +optional
	GuestMappingPassthrough *NUMAGuestMappingPassthrough `json:"guestMappingPassthrough,omitempty"`
}

// NUMAGuestMappingPassthrough gives the guest the NUMA nodes of its dedicated CPUs.
type NUMAGuestMappingPassthrough struct {
}

// PITTimer is the programmable interval timer.
type PITTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
	// +optional
	TickPolicy string `json:"tickPolicy,omitempty"`
}

// RTCTimer is the real-time clock's timer.
type RTCTimer struct {
	// +optional
	Present *bool `json:"present,omitempty"`
	// +optional
	TickPolicy string `json:"tickPolicy,omitempty"`
	// +optional
	Track string `json:"track,omitempty"`
}

// Realtime runs virtual CPUs with a real-time scheduling policy.
type Realtime struct {
	// +optional
	Mask string `json:"mask,omitempty"`
}

// ReservedOverhead adds to what the machine needs beyond the guest's memory.
type ReservedOverhead struct {
	// +optional
	AddedOverhead *resource.Quantity `json:"addedOverhead,omitempty"`
	// +optional
	MemLock string `json:"memLock,omitempty"`
}

// ResourceRequirements are the requests and limits of the machine's pod. What the machine needs
// beyond the guest's memory is added to them.
type ResourceRequirements struct {
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
	// +optional
	OvercommitGuestOverhead *bool `json:"overcommitGuestOverhead,omitempty"`
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// SEV is AMD's Secure Encrypted Virtualization.
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

// SEVAttestation holds the machine until it was attested.
type SEVAttestation struct {
}

// SEVPolicy is the policy of the encrypted guest.
type SEVPolicy struct {
	// +optional
	EncryptedState *bool `json:"encryptedState,omitempty"`
}

// SEVSNP is AMD's SEV with nested paging protection.
type SEVSNP struct {
}

// SyNICTimer are Hyper-V's synthetic timers.
type SyNICTimer struct {
	// +optional
	Direct *FeatureState `json:"direct,omitempty"`
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// TDX is Intel's Trust Domain Extensions.
type TDX struct {
}

// TLBFlush is Hyper-V's paravirtual TLB flush.
type TLBFlush struct {
	// +optional
	Direct *FeatureState `json:"direct,omitempty"`
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Extended *FeatureState `json:"extended,omitempty"`
}

// Timer are the guest's timers. Those that are left out are as QEMU has them.
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
