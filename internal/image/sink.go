// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// block is the unit in bytes in which zeroes are left out.
const block = 4096

// sink writes a disk to a target that reads as zeroes where nothing is written.
type sink struct {
	target  io.WriterAt
	written atomic.Int64
}

// begin makes the target read as zeroes throughout the first size bytes; size 0 means
// that it is not known, and then max counts. Regular files are emptied, block
// devices discarded; of any other target it is expected to be so already.
func (s *sink) begin(size, most int64) error {
	f, ok := s.target.(*os.File)
	if !ok {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().IsRegular() {
		if err := f.Truncate(0); err != nil {
			return err
		}
		return f.Truncate(size)
	}
	if size == 0 {
		size = most
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	size = min(size, end)
	// On a block device this zeroes, and discards where the device can.
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeroes := make([]byte, 1<<20)
	for off := int64(0); off < size; {
		n, err := f.WriteAt(zeroes[:min(int64(len(zeroes)), size-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// end gives a regular file its length and puts all on the disk.
func (s *sink) end(size int64) error {
	f, ok := s.target.(*os.File)
	if !ok {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().IsRegular() && st.Size() != size {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return f.Sync()
}

// write leaves out blocks of zeroes.
func (s *sink) write(b []byte, off int64) error {
	for len(b) > 0 {
		// The first piece ends at a block's border.
		n := 0
		for n < len(b) && isZero(b[n:pieceEnd(b, n, off)]) {
			n = pieceEnd(b, n, off)
		}
		b, off = b[n:], off+int64(n)
		n = 0
		for n < len(b) && !isZero(b[n:pieceEnd(b, n, off)]) {
			n = pieceEnd(b, n, off)
		}
		if n == 0 {
			continue
		}
		if _, err := s.target.WriteAt(b[:n], off); err != nil {
			return err
		}
		s.written.Add(int64(n))
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func pieceEnd(b []byte, at int, off int64) int {
	return min(len(b), at+int(block-(off+int64(at))%block))
}

func isZero(b []byte) bool {
	for len(b) >= len(zeroBlock) {
		if string(b[:len(zeroBlock)]) != zeroBlock {
			return false
		}
		b = b[len(zeroBlock):]
	}
	return string(b) == zeroBlock[:len(b)]
}

var zeroBlock = string(make([]byte, 1024))
