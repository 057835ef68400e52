// SPDX-License-Identifier: Apache-2.0

package contract

import "strconv"

// ClaimsSince is the first version of the contract that has claims.
const ClaimsSince = 3

// Where a pod has its machine's persistent volume claims.
const (
	// ClaimDir has one directory per claim with a file system, named after the
	// machine's volume (as in the peer's pods). The disk is the file ClaimImage in it.
	ClaimDir   = "/var/run/kubevirt-private/vmi-disks"
	ClaimImage = "disk.img"
	// ClaimDeviceDir has one block device per claim without, named after the
	// machine's volume.
	ClaimDeviceDir = "/dev/skerry"
)

// FirstClaimFD is the descriptor number at which QEMU finds the first claim; the
// others follow. The taps' numbers are below it.
const FirstClaimFD = 320

// Claim is a persistent volume that the launcher opens for QEMU. QEMU opens it by
// ClaimFile: so it can only ever be the file that the launcher has looked at,
// whatever somebody who shares the volume puts in that file's place.
type Claim struct {
	// Volume is the machine's volume.
	Volume string `json:"volume"`
	FD     int    `json:"fd"`
	// Block says that it is the device in ClaimDeviceDir, not a file in ClaimDir.
	Block    bool `json:"block,omitempty"`
	ReadOnly bool `json:"readOnly,omitempty"`
	// Size is how large the launcher makes the file, in bytes, if the volume is
	// empty. With 0 it makes none.
	Size int64 `json:"size,omitempty"`
}

// ClaimFile is the name by which QEMU opens what it has inherited at fd.
func ClaimFile(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
