// SPDX-License-Identifier: Apache-2.0

package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddVolumeOptions is the body of the addvolume subresource.
type AddVolumeOptions struct {
	Disk Disk `json:"disk"`
	// +optional
	DryRun       []string            `json:"dryRun,omitempty"`
	Name         string              `json:"name"`
	VolumeSource HotplugVolumeSource `json:"volumeSource"`
}

// FreezeUnfreezeTimeout is the body of the freeze subresource.
type FreezeUnfreezeTimeout struct {
	UnfreezeTimeout metav1.Duration `json:"unfreezeTimeout"`
}

// GuestAgentCommandInfo is a command of the guest agent.
type GuestAgentCommandInfo struct {
	// +optional
	Enabled *bool  `json:"enabled,omitempty"`
	Name    string `json:"name"`
}

// MigrateOptions is the body of the migrate subresource.
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

// PauseOptions is the body of the pause subresource.
type PauseOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// RemoveVolumeOptions is the body of the removevolume subresource.
type RemoveVolumeOptions struct {
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	Name   string   `json:"name"`
}

// RestartOptions is the body of the restart subresource.
type RestartOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// GracePeriodSeconds may be 0, which switches the machine off at once.
	// +optional
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// StartOptions is the body of the start subresource.
type StartOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// Paused holds the guest before its first instruction.
	// +optional
	Paused *bool `json:"paused,omitempty"`
}

// StopOptions is the body of the stop subresource.
type StopOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// GracePeriod in seconds replaces the spec's.
	// +optional
	GracePeriod *int64 `json:"gracePeriod,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// UnpauseOptions is the body of the unpause subresource.
type UnpauseOptions struct {
	// +optional
	ApiVersion string `json:"apiVersion,omitempty"`
	// +optional
	DryRun []string `json:"dryRun,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
}

// VirtualMachineInstanceFileSystem is a mounted file system of the guest.
type VirtualMachineInstanceFileSystem struct {
	// +optional
	Disk           []VirtualMachineInstanceFileSystemDisk `json:"disk,omitempty"`
	DiskName       string                                 `json:"diskName"`
	FileSystemType string                                 `json:"fileSystemType"`
	MountPoint     string                                 `json:"mountPoint"`
	// TotalBytes is the file system's size. Go's int in KubeVirt: the published int32 is too small
	// for real disks.
	TotalBytes int64 `json:"totalBytes"`
	// UsedBytes is how much of it is used.
	UsedBytes int64 `json:"usedBytes"`
}

// VirtualMachineInstanceFileSystemDisk is a disk below a file system of the guest.
type VirtualMachineInstanceFileSystemDisk struct {
	BusType string `json:"busType"`
	// +optional
	Serial string `json:"serial,omitempty"`
}

// VirtualMachineInstanceFileSystemInfo lists the guest's file systems.
type VirtualMachineInstanceFileSystemInfo struct {
	Disks []VirtualMachineInstanceFileSystem `json:"disks"`
}

// VirtualMachineInstanceFileSystemList is the answer of the filesystemlist subresource.
type VirtualMachineInstanceFileSystemList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachineInstanceFileSystem `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// VirtualMachineInstanceGuestAgentInfo is the answer of the guestosinfo subresource.
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

// VirtualMachineInstanceGuestOSInfo is what the guest says about its operating system.
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

// VirtualMachineInstanceGuestOSUser is a user who is logged in to the guest.
type VirtualMachineInstanceGuestOSUser struct {
	// +optional
	Domain string `json:"domain,omitempty"`
	// LoginTime in seconds since 1970.
	// +optional
	LoginTime float64 `json:"loginTime,omitempty"`
	UserName  string  `json:"userName"`
}

// VirtualMachineInstanceGuestOSUserList is the answer of the userlist subresource.
type VirtualMachineInstanceGuestOSUserList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachineInstanceGuestOSUser `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}
