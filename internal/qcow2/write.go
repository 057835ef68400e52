// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"encoding/binary"
	"fmt"
	"strings"
)

const (
	magic = 0x514649fb // "QFI\xfb"

	clusterBits = 16 // 64 KiB, QEMU's default
	clusterSize = 1 << clusterBits
	headerSize  = 112 // version 3 with the compression type and its padding

	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extDataFile      = 0x44415441
	extEncryption    = 0x0537be77
)

// MaxSize is the largest virtual size in bytes that is written or accepted.
const MaxSize = 64 << 40

// Image is an empty qcow2 file to be.
type Image struct {
	// Size is the virtual size in bytes, a multiple of 512.
	Size int64
	// Backing is the path of the file below, or "". It is written as it is, so it
	// must be absolute: QEMU looks for others beside the overlay, and takes a
	// colon before the first slash for the name of a protocol.
	Backing string
	// BackingFormat is "raw" or "qcow2"; without it QEMU would guess, and a guest
	// that owns a raw file could make it guess wrongly.
	BackingFormat string
}

// Encode returns the first bytes of the file and its whole length; what is
// between the two is zeroes. An empty image is a header, a refcount table with
// one block, and an empty L1 table.
func (i Image) Encode() (head []byte, length int64, err error) {
	if i.Size <= 0 || i.Size > MaxSize || i.Size%512 != 0 {
		return nil, 0, fmt.Errorf("virtual size %d: must be a multiple of 512 between 512 and %d", i.Size, int64(MaxSize))
	}
	if i.Backing != "" {
		if !strings.HasPrefix(i.Backing, "/") || len(i.Backing) > 1023 || strings.ContainsRune(i.Backing, 0) {
			return nil, 0, fmt.Errorf("backing file %q: must be an absolute path of at most 1023 bytes", i.Backing)
		}
		if i.BackingFormat != FormatRaw && i.BackingFormat != FormatQCOW2 {
			return nil, 0, fmt.Errorf("backing format %q: must be %q or %q", i.BackingFormat, FormatRaw, FormatQCOW2)
		}
	}
	const perL2 = clusterSize / 8 * clusterSize // bytes that one L2 table maps
	l1Entries := (i.Size + perL2 - 1) / perL2
	l1Clusters := (l1Entries*8 + clusterSize - 1) / clusterSize
	// Clusters: 0 header, 1 refcount table, 2 refcount block, 3… L1 table.
	clusters := 3 + l1Clusters

	be := binary.BigEndian
	head = make([]byte, 3*clusterSize)
	be.PutUint32(head[0:], magic)
	be.PutUint32(head[4:], 3)
	be.PutUint32(head[20:], clusterBits)
	be.PutUint64(head[24:], uint64(i.Size))
	be.PutUint32(head[36:], uint32(l1Entries))
	be.PutUint64(head[40:], 3*clusterSize) // L1 table
	be.PutUint64(head[48:], 1*clusterSize) // refcount table
	be.PutUint32(head[56:], 1)             // of one cluster
	be.PutUint32(head[96:], 4)             // refcounts of 16 bits
	be.PutUint32(head[100:], headerSize)

	at := headerSize
	extension := func(kind uint32, data string) {
		be.PutUint32(head[at:], kind)
		be.PutUint32(head[at+4:], uint32(len(data)))
		copy(head[at+8:], data)
		at += 8 + (len(data)+7)/8*8
	}
	if i.Backing != "" {
		extension(extBackingFormat, i.BackingFormat)
	}
	extension(extEnd, "")
	if i.Backing != "" {
		be.PutUint64(head[8:], uint64(at))
		be.PutUint32(head[16:], uint32(len(i.Backing)))
		copy(head[at:], i.Backing)
	}

	be.PutUint64(head[clusterSize:], 2*clusterSize) // the refcount block
	for c := range clusters {
		be.PutUint16(head[2*clusterSize+2*c:], 1)
	}
	return head, clusters * clusterSize, nil
}
