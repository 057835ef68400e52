// SPDX-License-Identifier: Apache-2.0

package v1

// VMIRenewable says whether the machine's QEMU can be replaced while the guest
// runs, and if not why. An addition of Skerry's own; the node agent's.
const VMIRenewable VirtualMachineInstanceConditionType = "Renewable"

// Reasons of VMIRenewable. With status True:
const (
	RenewableUpToDate  = "UpToDate"  // QEMU is the one of the node's launcher image
	RenewableOutdated  = "Outdated"  // the node's launcher image has another one
	RenewableAvailable = "Available" // the node does not know what is the newest
)

// And with status False:
const (
	RenewablePodContract = "PodContract" // the pod is of a version that has no room for a newer QEMU
	RenewableQEMUVersion = "QEMUVersion" // the QEMU that runs cannot be replaced, or the new one is no replacement
	RenewableMemory      = "Memory"      // memory that a new QEMU could not take over
	RenewableDevice      = "Device"      // a device that a new QEMU could not take over
	RenewableState       = "State"       // neither running nor paused, or in the middle of something
	RenewableFailed      = "RenewFailed" // it was tried, and the old QEMU runs on
)

// QEMUStatus says which QEMU runs a machine.
type QEMUStatus struct {
	// Version is upstream's, such as 11.1.3.
	Version string `json:"version"`
	// Package is the version of the Debian package that it is from.
	// +optional
	Package string `json:"package,omitempty"`
	// Renewed holds the first digits of the launcher image's digest from which
	// QEMU was replaced; empty while it is the one that the pod was started with.
	// +optional
	Renewed string `json:"renewed,omitempty"`
}
