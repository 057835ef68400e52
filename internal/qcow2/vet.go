// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The formats of disk images.
const (
	FormatRaw   = "raw"
	FormatQCOW2 = "qcow2"
)

// Info is what Vet found.
type Info struct {
	Format string // FormatRaw or FormatQCOW2
	Size   int64  // virtual size in bytes
}

// headBytes is how much of a file Vet reads at most: qcow2's header and its
// extensions are in the first cluster, of which no more than this is looked at.
const headBytes = 64 << 10

// Limits of QEMU's own (block/qcow2.c), checked here for the better message.
const (
	maxL1Bytes       = 32 << 20
	maxRefcountBytes = 8 << 20
	maxSnapshots     = 65536
)

// Incompatible features that can be accepted in a read-only backing file.
const (
	featureDirty       = 1 << 0 // refcounts may be stale: of no interest to a reader
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4
)

// foreign are formats that are neither qcow2 nor a disk's own bytes. Handing one
// to the guest as raw would only hide the mistake.
var foreign = []struct {
	offset int
	magic  string
	name   string
}{
	{0, "KDMV", "a VMDK image"},
	{0, "# Disk DescriptorFile", "a VMDK descriptor"},
	{0x40, "\x7f\x10\xda\xbe", "a VDI image"},
	{0, "vhdxfile", "a VHDX image"},
	{0, "conectix", "a VHD image"},
	{0, "QED\x00", "a QED image"},
	{0, "LUKS\xba\xbe", "a LUKS volume"},
	{0, "\x1f\x8b", "compressed with gzip"},
	{0, "\xfd7zXZ\x00", "compressed with xz"},
	{0, "\x28\xb5\x2f\xfd", "compressed with zstd"},
	{0, "BZh", "compressed with bzip2"},
	{0, "PK\x03\x04", "a zip archive"},
	{257, "ustar", "a tar archive"},
}

// Vet judges the disk image of the given length in bytes that r reads: its format
// and virtual size, or an error that says why it is refused. A qcow2 image is
// refused if it names another file (backing or data file), is encrypted, marked
// corrupt, or needs a feature that is not known.
func Vet(r io.ReaderAt, length int64) (Info, error) {
	head := make([]byte, min(max(length, 0), headBytes))
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, int64(len(head))), head); err != nil {
		return Info{}, fmt.Errorf("read image header: %w", err)
	}
	if len(head) >= 4 && binary.BigEndian.Uint32(head) == magic {
		size, err := vetHeader(head, length)
		if err != nil {
			return Info{}, fmt.Errorf("qcow2 image: %w", err)
		}
		return Info{Format: FormatQCOW2, Size: size}, nil
	}
	for _, f := range foreign {
		if len(head) >= f.offset+len(f.magic) && bytes.Equal(head[f.offset:f.offset+len(f.magic)], []byte(f.magic)) {
			return Info{}, fmt.Errorf("the file is %s; only qcow2 and raw images can be used", f.name)
		}
	}
	if length < 512 {
		return Info{}, fmt.Errorf("a raw image of %d bytes is smaller than one sector of 512", length)
	}
	if length > MaxSize {
		return Info{}, fmt.Errorf("a raw image of %d bytes is larger than the limit of %d", length, int64(MaxSize))
	}
	return Info{Format: FormatRaw, Size: (length + 511) / 512 * 512}, nil
}

// vetHeader returns the virtual size.
func vetHeader(head []byte, length int64) (int64, error) {
	be := binary.BigEndian
	if len(head) < 72 {
		return 0, errors.New("the header is cut short")
	}
	version := be.Uint32(head[4:])
	if version != 2 && version != 3 {
		return 0, fmt.Errorf("version %d: only 2 and 3 are known", version)
	}
	bits := be.Uint32(head[20:])
	if bits < 9 || bits > 21 {
		return 0, fmt.Errorf("cluster size of 2^%d bytes: must be between 2^9 and 2^21", bits)
	}
	size := be.Uint64(head[24:])
	if size == 0 || size > MaxSize {
		return 0, fmt.Errorf("virtual size of %d bytes: must be between 1 and %d", size, int64(MaxSize))
	}
	if be.Uint64(head[8:]) != 0 || be.Uint32(head[16:]) != 0 {
		return 0, errors.New("has a backing file, which an image in a container cannot have; flatten it with `qemu-img convert`")
	}
	if m := be.Uint32(head[32:]); m != 0 {
		return 0, fmt.Errorf("is encrypted (method %d), which is not supported", m)
	}
	cluster := uint64(1) << bits
	l1Bytes := uint64(be.Uint32(head[36:])) * 8
	if err := checkTable("L1 table", be.Uint64(head[40:]), l1Bytes, maxL1Bytes, cluster, length); err != nil {
		return 0, err
	}
	if err := checkTable("refcount table", be.Uint64(head[48:]), uint64(be.Uint32(head[56:]))*cluster, maxRefcountBytes, cluster, length); err != nil {
		return 0, err
	}
	if n := be.Uint32(head[60:]); n > maxSnapshots {
		return 0, fmt.Errorf("%d snapshots: at most %d are possible", n, maxSnapshots)
	}
	end := uint64(72)
	if version == 3 {
		var err error
		if end, err = vetVersion3(head, cluster); err != nil {
			return 0, err
		}
	}
	if err := vetExtensions(head, end, cluster); err != nil {
		return 0, err
	}
	return int64((size + 511) / 512 * 512), nil
}

func checkTable(name string, offset, bytes, limit, cluster uint64, length int64) error {
	switch {
	case bytes == 0 || bytes > limit:
		return fmt.Errorf("%s of %d bytes: must be between 1 and %d", name, bytes, limit)
	case offset == 0 || offset%cluster != 0:
		return fmt.Errorf("%s at offset %d: must be a multiple of the cluster size %d", name, offset, cluster)
	case offset > uint64(length) || bytes > uint64(length)-offset:
		return fmt.Errorf("%s lies beyond the end of the file (%d bytes): the image is cut short", name, length)
	}
	return nil
}

// vetVersion3 checks what version 3 added and returns the header's length.
func vetVersion3(head []byte, cluster uint64) (uint64, error) {
	be := binary.BigEndian
	if len(head) < 104 {
		return 0, errors.New("the header is cut short")
	}
	features := be.Uint64(head[72:])
	switch {
	case features&featureCorrupt != 0:
		return 0, errors.New("is marked corrupt; repair it with `qemu-img check -r all`")
	case features&featureDataFile != 0:
		return 0, errors.New("keeps its data in another file, which is not supported")
	case features&^(featureDirty|featureCompression|featureExtendedL2) != 0:
		return 0, fmt.Errorf("needs unknown features (%#x)", features)
	}
	if order := be.Uint32(head[96:]); order > 6 {
		return 0, fmt.Errorf("refcounts of 2^%d bits: at most 2^6 are possible", order)
	}
	end := uint64(be.Uint32(head[100:]))
	if end < 104 || end > cluster || end > uint64(len(head)) || end%8 != 0 {
		return 0, fmt.Errorf("header length %d: must be a multiple of 8 between 104 and the cluster size", end)
	}
	if features&featureCompression != 0 {
		if end < 112 || head[104] > 1 {
			return 0, errors.New("has an unknown compression type")
		}
	}
	return end, nil
}

// vetExtensions walks the header extensions, of which two must not be there.
func vetExtensions(head []byte, at, cluster uint64) error {
	be := binary.BigEndian
	end := min(cluster, uint64(len(head)))
	for at+8 <= end {
		kind, n := be.Uint32(head[at:]), uint64(be.Uint32(head[at+4:]))
		at += 8
		switch kind {
		case extEnd:
			return nil
		case extDataFile:
			return errors.New("names an external data file, which is not supported")
		case extEncryption:
			return errors.New("is encrypted, which is not supported")
		}
		if n > end-at {
			return fmt.Errorf("header extension %#x of %d bytes reaches beyond the header", kind, n)
		}
		at += (n + 7) / 8 * 8
	}
	if at > end {
		return errors.New("a header extension reaches beyond the header")
	}
	return nil
}
