// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"encoding/binary"
	"fmt"
)

// GrubVideo is for the start of a grub.cfg: without a mode set by GRUB, a kernel
// that was started by UEFI has no screen.
const GrubVideo = "if [ \"$grub_platform\" = efi ]; then set gfxpayload=auto; fi\n"

// Places in GRUB's images that an installer fills in, from GRUB's boot.S and
// diskboot.S.
const (
	codeEnd       = 440   // behind it are the disk's signature and the partition table
	kernelSector  = 0x5c  // in the boot sector: where the core starts
	firstList     = 0x1f4 // in the core's first sector: where the rest is
	kernelSegment = 0x820 // and where in memory it goes
)

// patchBIOS puts GRUB's boot sector into mbr, which keeps its partition table,
// and returns the core as it has to be written at the sector start.
func patchBIOS(mbr, boot, core []byte, start, size int64) ([]byte, error) {
	if len(mbr) != sector || len(boot) != sector {
		return nil, fmt.Errorf("boot sectors of %d and %d bytes, want %d", len(mbr), len(boot), sector)
	}
	sectors := (int64(len(core)) + sector - 1) / sector
	if sectors < 2 || sectors > size {
		return nil, fmt.Errorf("GRUB's core has %d sectors, want 2 to %d", sectors, size)
	}
	copy(mbr[:codeEnd], boot)
	binary.LittleEndian.PutUint64(mbr[kernelSector:], uint64(start))
	patched := make([]byte, sectors*sector)
	copy(patched, core)
	binary.LittleEndian.PutUint64(patched[firstList:], uint64(start+1))
	binary.LittleEndian.PutUint16(patched[firstList+8:], uint16(sectors-1))
	binary.LittleEndian.PutUint16(patched[firstList+10:], kernelSegment)
	return patched, nil
}
