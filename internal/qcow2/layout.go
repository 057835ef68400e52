// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// Layout is a qcow2 file to be written from front to end: all tables first, then
// the clusters that hold something, in the disk's order. Whoever reads it can do so
// from front to end too.
type Layout struct {
	size int64
	used []int64 // clusters of the disk that hold something, ascending

	refTable, refBlocks, l1, l2 int64 // in clusters
}

// NewLayout plans a file for a disk of size bytes, of which the given clusters
// (of ClusterSize bytes, ascending) hold something.
func NewLayout(size int64, used []int64) (*Layout, error) {
	if size <= 0 || size > MaxSize || size%512 != 0 {
		return nil, fmt.Errorf("virtual size %d: must be a multiple of 512 between 512 and %d", size, int64(MaxSize))
	}
	const perTable = clusterSize / 8
	l := &Layout{size: size, used: used}
	l1Entries := (size + perTable*clusterSize - 1) / (perTable * clusterSize)
	l.l1 = (l1Entries*8 + clusterSize - 1) / clusterSize
	last := int64(-1)
	for _, c := range used {
		if c < 0 || c*clusterSize >= size {
			return nil, fmt.Errorf("cluster %d lies beyond the disk of %d bytes", c, size)
		}
		if t := c / perTable; t != last {
			l.l2, last = l.l2+1, t
		}
	}
	// The refcounts count themselves: grow until they are enough.
	for {
		all := l.clusters()
		blocks := (all + clusterSize/2 - 1) / (clusterSize / 2)
		table := (blocks*8 + clusterSize - 1) / clusterSize
		if blocks == l.refBlocks && table == l.refTable {
			return l, nil
		}
		l.refBlocks, l.refTable = blocks, table
	}
}

// ClusterSize is the size in bytes of a cluster of a Layout.
const ClusterSize = clusterSize

func (l *Layout) clusters() int64 {
	return 1 + l.refTable + l.refBlocks + l.l1 + l.l2 + int64(len(l.used))
}

// Length is the file's, in bytes.
func (l *Layout) Length() int64 { return l.clusters() * clusterSize }

// Write writes the file, with the disk's content read from src.
func (l *Layout) Write(ctx context.Context, w io.Writer, src io.ReaderAt) error {
	be := binary.BigEndian
	const copied = 1 << 63
	buf := make([]byte, clusterSize)
	flush := func() error {
		_, err := w.Write(buf)
		clear(buf)
		return err
	}
	const perTable = clusterSize / 8
	l1At := 1 + l.refTable + l.refBlocks
	l2At := l1At + l.l1
	dataAt := l2At + l.l2

	be.PutUint32(buf[0:], magic)
	be.PutUint32(buf[4:], 3)
	be.PutUint32(buf[20:], clusterBits)
	be.PutUint64(buf[24:], uint64(l.size))
	be.PutUint32(buf[36:], uint32((l.size+perTable*clusterSize-1)/(perTable*clusterSize)))
	be.PutUint64(buf[40:], uint64(l1At*clusterSize))
	be.PutUint64(buf[48:], clusterSize)
	be.PutUint32(buf[56:], uint32(l.refTable))
	be.PutUint32(buf[96:], 4)
	be.PutUint32(buf[100:], headerSize)
	if err := flush(); err != nil {
		return err
	}
	// Tables of offsets: n entries that begin at a cluster, one cluster apart.
	table := func(clusters, entries, first int64, flag uint64, has func(int64) bool) error {
		next := first
		for c := range clusters {
			for e := range int64(perTable) {
				if i := c*perTable + e; i < entries && has(i) {
					be.PutUint64(buf[8*e:], uint64(next*clusterSize)|flag)
					next++
				}
			}
			if err := flush(); err != nil {
				return err
			}
		}
		return nil
	}
	always := func(int64) bool { return true }
	if err := table(l.refTable, l.refBlocks, 1+l.refTable, 0, always); err != nil {
		return err
	}
	all := l.clusters()
	for b := range l.refBlocks {
		for e := range int64(clusterSize / 2) {
			if b*(clusterSize/2)+e < all {
				be.PutUint16(buf[2*e:], 1)
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
	// L1: an entry for each stretch of the disk that holds something.
	at := 0
	if err := table(l.l1, l.l1*perTable, l2At, copied, func(i int64) bool {
		for at < len(l.used) && l.used[at]/perTable < i {
			at++
		}
		return at < len(l.used) && l.used[at]/perTable == i
	}); err != nil {
		return err
	}
	for n := 0; n < len(l.used); {
		t := l.used[n] / perTable
		for ; n < len(l.used) && l.used[n]/perTable == t; n++ {
			be.PutUint64(buf[l.used[n]%perTable*8:], uint64((dataAt+int64(n))*clusterSize)|copied)
		}
		if err := flush(); err != nil {
			return err
		}
	}
	for _, c := range l.used {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(clusterSize, l.size-c*clusterSize)
		if m, err := src.ReadAt(buf[:n], c*clusterSize); int64(m) < n && err != io.EOF {
			return fmt.Errorf("read the disk at offset %d: %w", c*clusterSize, err)
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}
