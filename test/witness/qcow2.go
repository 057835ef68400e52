// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// qcow2 reads the guest's view of a qcow2 file without a backing file, compressed
// or encrypted clusters, external data or extended L2 entries: of what an empty
// disk is (QEMU, docs/interop/qcow2.txt).
type qcow2 struct {
	file     io.ReaderAt
	size     int64
	bits     uint
	l1       []uint64
	perTable int64
}

// OpenQcow2 returns the disk in a qcow2 file and its size in bytes.
func OpenQcow2(file io.ReaderAt) (io.ReaderAt, int64, error) {
	h := make([]byte, 104)
	if _, err := file.ReadAt(h, 0); err != nil {
		return nil, 0, fmt.Errorf("read the qcow2 header: %w", err)
	}
	u32, u64 := binary.BigEndian.Uint32, binary.BigEndian.Uint64
	q := &qcow2{file: file, bits: uint(u32(h[20:])), size: int64(u64(h[24:]))}
	const dirty = 1 // the only incompatible feature that does not change the tables
	switch {
	case string(h[:4]) != "QFI\xfb" || u32(h[4:]) < 2 || u32(h[4:]) > 3:
		return nil, 0, errors.New("not a qcow2 file of version 2 or 3")
	case u64(h[8:]) != 0:
		return nil, 0, errors.New("the qcow2 file has a backing file")
	case u32(h[32:]) != 0:
		return nil, 0, errors.New("the qcow2 file is encrypted")
	case q.bits < 9 || q.bits > 21 || q.size < 0 || q.size > 1<<40:
		return nil, 0, fmt.Errorf("the qcow2 file has clusters of 2^%d bytes and %d bytes in all", q.bits, q.size)
	case u32(h[4:]) == 3 && u64(h[72:])&^dirty != 0:
		return nil, 0, fmt.Errorf("the qcow2 file has the incompatible features %#x", u64(h[72:]))
	}
	q.perTable = int64(1) << (q.bits - 3)
	n := u32(h[36:])
	if n > 1<<16 {
		return nil, 0, fmt.Errorf("the qcow2 file's first table has %d entries", n)
	}
	b := make([]byte, 8*n)
	if _, err := file.ReadAt(b, int64(u64(h[40:]))); err != nil {
		return nil, 0, fmt.Errorf("read the qcow2 file's first table: %w", err)
	}
	for i := range n {
		q.l1 = append(q.l1, u64(b[8*i:])&offsetMask)
	}
	return q, q.size, nil
}

// offsetMask are the bits of a table's entry that say where in the file.
const offsetMask = 0x00fffffffffffe00

// ReadAt reads from the disk; what was never written is zero.
func (q *qcow2) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		if at >= q.size {
			return n, io.EOF
		}
		cluster := int64(1) << q.bits
		part := p[n:min(int64(len(p)), int64(n)+cluster-at%cluster)]
		where, err := q.cluster(at >> q.bits)
		if err != nil {
			return n, err
		}
		if where == 0 {
			clear(part)
		} else if _, err := q.file.ReadAt(part, where+at%cluster); err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(p), nil
}

// cluster says where a cluster is in the file, 0 for nowhere.
func (q *qcow2) cluster(i int64) (int64, error) {
	if i/q.perTable >= int64(len(q.l1)) || q.l1[i/q.perTable] == 0 {
		return 0, nil
	}
	var b [8]byte
	if _, err := q.file.ReadAt(b[:], int64(q.l1[i/q.perTable])+i%q.perTable*8); err != nil {
		return 0, fmt.Errorf("read the qcow2 file's table: %w", err)
	}
	e := binary.BigEndian.Uint64(b[:])
	const compressed, zero = 1 << 62, 1
	switch {
	case e&compressed != 0:
		return 0, errors.New("the qcow2 file has compressed clusters")
	case e&zero != 0:
		return 0, nil
	}
	return int64(e & offsetMask), nil
}
