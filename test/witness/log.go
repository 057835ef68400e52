// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The layout of a record, as in witness.c.
const (
	block      = 4096
	maxPlaces  = 2048
	magic      = "SKWITN01"
	atNumber   = 8
	atPlaces   = 60
	atChecksum = 64
)

// Log is what was found on the witness's disk.
type Log struct {
	// Places is how many records there is room for, Records how many are whole.
	Places, Records uint64
	// First to Last are the numbers that should be there; Gaps counts those that
	// are not.
	First, Last, Gaps uint64
	// Torn counts blocks that begin as a record and are not one.
	Torn uint64
}

// Check says what is wrong with a log in which acked must be the last number or an
// earlier one.
func (l Log) Check(acked uint64) error {
	switch {
	case l.Torn != 0:
		return fmt.Errorf("%d records are torn: %+v", l.Torn, l)
	case l.Gaps != 0:
		return fmt.Errorf("%d records between %d and %d are missing: %+v", l.Gaps, l.First, l.Last, l)
	case l.Last < acked:
		return fmt.Errorf("writes %d to %d were acknowledged and are lost: %+v", l.Last+1, acked, l)
	}
	return nil
}

// ReadLog reads the log from a raw disk of so many bytes. A record that the guest
// may still be writing shows as torn: read when it has ended.
func ReadLog(r io.ReaderAt, size int64) (Log, error) {
	l := Log{Places: min(uint64(size)/block, maxPlaces)}
	if l.Places < 2 {
		return l, fmt.Errorf("a disk of %d bytes is too small for a log", size)
	}
	numbers := make([]uint64, l.Places)
	b := make([]byte, block)
	for i := range numbers {
		if _, err := r.ReadAt(b, int64(i)*block); err != nil && !errors.Is(err, io.EOF) {
			return l, fmt.Errorf("read record %d: %w", i, err)
		}
		if string(b[:len(magic)]) != magic {
			continue
		}
		want := binary.LittleEndian.Uint32(b[atChecksum:])
		clear(b[atChecksum : atChecksum+4])
		if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != want {
			l.Torn++
			continue
		}
		if places := uint64(binary.LittleEndian.Uint32(b[atPlaces:])); places != l.Places {
			return l, fmt.Errorf("record %d was written for %d places, the disk has %d", i, places, l.Places)
		}
		l.Records++
		numbers[i] = binary.LittleEndian.Uint64(b[atNumber:])
		l.Last = max(l.Last, numbers[i])
	}
	l.First = 1
	if l.Last > l.Places {
		l.First = l.Last - l.Places + 1
	}
	for n := l.First; n <= l.Last; n++ {
		if numbers[n%l.Places] != n {
			l.Gaps++
		}
	}
	return l, nil
}
