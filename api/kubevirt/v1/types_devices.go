// SPDX-License-Identifier: Apache-2.0

package v1

// BlockSize is the size of a disk's blocks as the guest sees it.
type BlockSize struct {
	// +optional
	Custom *CustomBlockSize `json:"custom,omitempty"`
	// +optional
	MatchVolume *FeatureState `json:"matchVolume,omitempty"`
}

// CDRomTarget is a CD-ROM drive.
type CDRomTarget struct {
	// Bus is sata or scsi; sata when left out.
	// +optional
	Bus string `json:"bus,omitempty"`
	// Readonly is true when left out.
	// +optional
	Readonly *bool `json:"readonly,omitempty"`
	// Tray is open or closed; closed when left out.
	// +optional
	Tray string `json:"tray,omitempty"`
}

// ClientPassthroughDevices are slots for USB devices of the client.
type ClientPassthroughDevices struct {
}

// CustomBlockSize gives the sizes in bytes; powers of two.
type CustomBlockSize struct {
	// +optional
	DiscardGranularity int32 `json:"discardGranularity,omitempty"`
	// +optional
	Logical int32 `json:"logical,omitempty"`
	// +optional
	Physical int32 `json:"physical,omitempty"`
}

// Devices are the machine's devices. The autoattach fields add one that the spec does not list.
type Devices struct {
	// AutoattachGraphicsDevice adds a graphics card and VNC; true when left out.
	// +optional
	AutoattachGraphicsDevice *bool `json:"autoattachGraphicsDevice,omitempty"`
	// AutoattachInputDevice adds a USB tablet; false when left out.
	// +optional
	AutoattachInputDevice *bool `json:"autoattachInputDevice,omitempty"`
	// AutoattachMemBalloon adds a memory balloon; true when left out.
	// +optional
	AutoattachMemBalloon *bool `json:"autoattachMemBalloon,omitempty"`
	// AutoattachPodInterface adds the pod network where there is no network; true when left out.
	// +optional
	AutoattachPodInterface *bool `json:"autoattachPodInterface,omitempty"`
	// AutoattachSerialConsole adds a serial console; true when left out.
	// +optional
	AutoattachSerialConsole *bool `json:"autoattachSerialConsole,omitempty"`
	// +optional
	AutoattachVSOCK *bool `json:"autoattachVSOCK,omitempty"`
	// +optional
	BlockMultiQueue *bool `json:"blockMultiQueue,omitempty"`
	// +optional
	ClientPassthrough *ClientPassthroughDevices `json:"clientPassthrough,omitempty"`
	// DisableHotplug leaves out what plugging devices needs.
	// +optional
	DisableHotplug *bool `json:"disableHotplug,omitempty"`
	// Disks of the machine.
	// +kubebuilder:validation:MaxItems=256
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
	// Interfaces of the machine.
	// +kubebuilder:validation:MaxItems=256
	// +optional
	Interfaces []Interface `json:"interfaces,omitempty"`
	// LogSerialConsole shows the serial console's output in the pod's log; true when left out.
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

// Diag288Watchdog is the watchdog of s390x.
type Diag288Watchdog struct {
	// +optional
	Action string `json:"action,omitempty"`
}

// Disk is a disk drive, of the volume that has the same name. Exactly one of cdrom, disk and lun;
// a disk when none is given.
type Disk struct {
	// +optional
	BlockSize *BlockSize `json:"blockSize,omitempty"`
	// BootOrder: 1 is tried first. Unique among disks and interfaces.
	// +optional
	BootOrder *int32 `json:"bootOrder,omitempty"`
	// Cache is none, writethrough or writeback.
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
	// ErrorPolicy says what an I/O error does: stop, ignore, report or enospace.
	// +optional
	ErrorPolicy string `json:"errorPolicy,omitempty"`
	// IO is native or threads.
	// +optional
	IO string `json:"io,omitempty"`
	// +optional
	LUN *LunTarget `json:"lun,omitempty"`
	// Name of the volume.
	Name string `json:"name"`
	// Serial number that the guest sees.
	// +optional
	Serial string `json:"serial,omitempty"`
	// +optional
	Shareable *bool `json:"shareable,omitempty"`
	// +optional
	Tag string `json:"tag,omitempty"`
}

// DiskTarget is a disk on a bus.
type DiskTarget struct {
	// Bus is virtio, sata, scsi or usb; sata when left out (on amd64).
	// +optional
	Bus string `json:"bus,omitempty"`
	// +optional
	PciAddress string `json:"pciAddress,omitempty"`
	// +optional
	Readonly *bool `json:"readonly,omitempty"`
}

// DownwardMetrics shows the host's metrics to the guest on a serial port.
type DownwardMetrics struct {
}

// Filesystem shares a volume with the guest as a file system.
type Filesystem struct {
	Name     string             `json:"name"`
	Virtiofs FilesystemVirtiofs `json:"virtiofs"`
}

// FilesystemVirtiofs shares by virtio-fs.
type FilesystemVirtiofs struct {
}

// GPU is a graphics processor of the host, passed through.
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

// HostDevice is a device of the host, passed through.
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

// I6300ESBWatchdog is the watchdog of PCs.
type I6300ESBWatchdog struct {
	// Action is poweroff, reset or shutdown; reset when left out.
	// +optional
	Action string `json:"action,omitempty"`
}

// Input is an input device.
type Input struct {
	// Bus is usb or virtio; usb when left out.
	// +optional
	Bus  string `json:"bus,omitempty"`
	Name string `json:"name"`
	// Type is tablet.
	Type string `json:"type"`
}

// LunTarget is a SCSI device of the host, passed through.
type LunTarget struct {
	// +optional
	Bus string `json:"bus,omitempty"`
	// +optional
	Readonly *bool `json:"readonly,omitempty"`
	// +optional
	Reservation *bool `json:"reservation,omitempty"`
}

// PanicDevice lets the guest tell the host that its kernel panicked.
type PanicDevice struct {
	// Model is hyperv, isa or pvpanic.
	// +optional
	Model string `json:"model,omitempty"`
}

// Rng is a source of entropy for the guest.
type Rng struct {
}

// SoundDevice is a sound card.
type SoundDevice struct {
	// +optional
	Model string `json:"model,omitempty"`
	Name  string `json:"name"`
}

// TPMDevice is an emulated trusted platform module.
type TPMDevice struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	Persistent *bool `json:"persistent,omitempty"`
}

// VGPUDisplayOptions shows a virtual GPU's screen.
type VGPUDisplayOptions struct {
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// +optional
	RamFB *FeatureState `json:"ramFB,omitempty"`
}

// VGPUOptions are options of a virtual GPU.
type VGPUOptions struct {
	// +optional
	Display *VGPUDisplayOptions `json:"display,omitempty"`
}

// VideoDevice is the graphics card.
type VideoDevice struct {
	// Type is vga, cirrus, virtio, ramfb or bochs.
	// +optional
	Type string `json:"type,omitempty"`
}

// Watchdog acts when the guest stops feeding it.
type Watchdog struct {
	// +optional
	Diag288 *Diag288Watchdog `json:"diag288,omitempty"`
	// +optional
	I6300esb *I6300ESBWatchdog `json:"i6300esb,omitempty"`
	Name     string            `json:"name"`
}
