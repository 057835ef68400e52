// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Errors of Stream that a caller tells apart.
var (
	// ErrOtherFile is an image that is not whole by itself: it has a backing file
	// or keeps its data in another file.
	ErrOtherFile = errors.New("the image needs another file")
	// ErrOrder is an image that uses a place of its file twice, so that it cannot
	// be read from front to end. With StreamOptions.Keep it can.
	ErrOrder = errors.New("the image uses one place of its file more than once")
)

// maxItems bounds the parts of a file that are known and not reached yet. Runs of
// clusters are one item, so only a hostile or absurdly fragmented file has more.
const maxItems = 8 << 20

// StreamOptions are Stream's.
type StreamOptions struct {
	// Begin is called once with the virtual size, before anything is written.
	Begin func(size int64) error
	// Write takes the guest's bytes at an offset, from several goroutines at a
	// time. What is never written reads as zeroes. b is the caller's again afterwards.
	Write func(b []byte, off int64) error
	// Dir is where bytes are put (in a file without a name) that came before the
	// table that says what they are. Empty means the directory for temporary files.
	Dir string
	// MaxParked bounds these, in bytes.
	MaxParked int64
	// Keep parks every byte, for images that are ErrOrder otherwise.
	Keep bool
}

// Stream reads a whole qcow2 file from front to end and writes the guest's bytes as
// they come by. Images that tools make have each table in front of the clusters
// that it names, so next to nothing has to be kept; where that is not so, bytes are
// parked until their table has come. The format is QEMU's docs/interop/qcow2.txt.
//
// The file is untrusted: Vet's rules hold, memory and parked bytes are bounded. It
// returns at the end of r's stream or at the first error.
func Stream(ctx context.Context, r *bufio.Reader, o StreamOptions) (size int64, err error) {
	head, err := r.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return 0, err
	}
	if err := o.Begin(h.size); err != nil {
		return h.size, err
	}
	group, ctx := errgroup.WithContext(ctx)
	s := &stream{header: h, o: o, r: r, jobs: make(chan job, 16), free: make(chan []byte, 64), ctx: ctx}
	defer s.parked.close()
	s.parked.dir, s.parked.max = o.Dir, o.MaxParked
	for range max(1, runtime.GOMAXPROCS(0)) {
		group.Go(func() error { return s.inflate(ctx) })
	}
	group.Go(func() error {
		defer close(s.jobs)
		return s.run()
	})
	return h.size, group.Wait()
}

// header is what the stream needs of a vetted header.
type header struct {
	size     int64
	bits     uint
	cluster  int64
	l1Offset int64
	l1Bytes  int64
	extended bool // L2 entries of 16 bytes with subclusters
	zstd     bool
}

func parseHeader(head []byte) (header, error) {
	be := binary.BigEndian
	padded := make([]byte, headBytes)
	copy(padded, head)
	if len(head) < 112 {
		return header{}, errors.New("the header is cut short")
	}
	if be.Uint64(padded[8:]) != 0 || be.Uint32(padded[16:]) != 0 ||
		be.Uint32(padded[4:]) == 3 && be.Uint64(padded[72:])&featureDataFile != 0 {
		_, err := Vet(bytes.NewReader(padded), math.MaxInt64)
		return header{}, fmt.Errorf("%w: %w", ErrOtherFile, err)
	}
	info, err := Vet(bytes.NewReader(padded), math.MaxInt64)
	if err != nil {
		return header{}, err
	}
	if info.Format != FormatQCOW2 {
		return header{}, errors.New("no qcow2 image")
	}
	bits := uint(be.Uint32(padded[20:]))
	h := header{size: info.Size, bits: bits, cluster: 1 << bits, l1Offset: int64(be.Uint64(padded[40:])), l1Bytes: int64(be.Uint32(padded[36:])) * 8}
	if be.Uint32(padded[4:]) == 3 {
		f := be.Uint64(padded[72:])
		h.extended = f&featureExtendedL2 != 0
		h.zstd = f&featureCompression != 0 && padded[104] == 1
	}
	if h.extended && bits < 14 {
		return header{}, fmt.Errorf("subclusters in clusters of 2^%d bytes: at least 2^14 are needed", bits)
	}
	// The L1 table must be able to map the whole disk; what is more is ignored.
	l2 := h.l2Span()
	if need := (h.size + l2 - 1) / l2 * 8; need > h.l1Bytes {
		return header{}, fmt.Errorf("L1 table of %d bytes: %d are needed for %d bytes of disk", h.l1Bytes, need, h.size)
	} else {
		h.l1Bytes = need
	}
	return h, nil
}

func (h header) entryBytes() int64 {
	if h.extended {
		return 16
	}
	return 8
}

// l2Span is how many bytes of the disk one L2 table maps.
func (h header) l2Span() int64 { return h.cluster / h.entryBytes() * h.cluster }

// kind is what a part of the file is.
type kind uint8

const (
	kindL1 kind = iota
	kindL2
	kindData
	kindCompressed
	kindPark // the rest of something whose beginning is parked already
)

// item is a part of the file whose meaning is known.
type item struct {
	host, length, guest int64
	kind                kind
}

func (i item) end() int64 { return i.host + i.length }

type items []item

func (q items) Len() int           { return len(q) }
func (q items) Less(a, b int) bool { return q[a].host < q[b].host }
func (q items) Swap(a, b int)      { q[a], q[b] = q[b], q[a] }
func (q *items) Push(x any)        { *q = append(*q, x.(item)) }
func (q *items) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// job is a compressed cluster.
type job struct {
	data  []byte
	guest int64
}

type stream struct {
	header
	o      StreamOptions
	ctx    context.Context
	r      *bufio.Reader
	pos    int64  // of r in the file
	end    bool   // r has ended
	back   []byte // was read and is to be read again
	known  items
	late   []item // begin in what is parked, end in what is to come
	parked park
	jobs   chan job
	free   chan []byte
}

func (s *stream) run() error {
	s.push(item{host: s.l1Offset, length: s.l1Bytes, kind: kindL1})
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if len(s.known) == 0 {
			if err := s.skip(math.MaxInt64); err != nil {
				return err
			}
			if len(s.late) == 0 && len(s.known) == 0 {
				return nil
			}
			for _, i := range s.late {
				if err := s.useParked(i); err != nil {
					return err
				}
			}
			s.late = nil
			continue
		}
		i := heap.Pop(&s.known).(item)
		var err error
		switch {
		case i.host >= s.pos:
			if err = s.skip(i.host); err == nil {
				err = s.use(i)
			}
		case i.end() <= s.pos || s.end:
			err = s.useParked(i)
		default:
			s.late = append(s.late, i)
			if i.kind == kindCompressed {
				s.push(item{host: s.pos, length: i.end() - s.pos, kind: kindPark})
			} else {
				err = s.skip(i.end())
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *stream) push(i item) { heap.Push(&s.known, i) }

// skip parks everything up to an offset in the file, or to its end.
func (s *stream) skip(to int64) error {
	buf := s.buffer(256 << 10)
	defer s.release(buf)
	for s.pos < to && !s.end {
		n, err := s.read(buf[:min(int64(len(buf)), to-s.pos)])
		if n > 0 {
			if err := s.parked.add(s.pos, buf[:n]); err != nil {
				return err
			}
			s.pos += int64(n)
		}
		if errors.Is(err, io.EOF) {
			s.end = true
		} else if err != nil {
			return err
		}
	}
	if s.pos < to && to != math.MaxInt64 {
		return fmt.Errorf("%w: it ends at byte %d, and byte %d is used", io.ErrUnexpectedEOF, s.pos, to)
	}
	return nil
}

// read is r's, after what was given back.
func (s *stream) read(b []byte) (int, error) {
	if len(s.back) > 0 {
		n := copy(b, s.back)
		s.back = s.back[n:]
		return n, nil
	}
	return s.r.Read(b)
}

// take fills b with the next bytes of the file. Where something ends within a
// sector the next cluster may begin in it, so the last sector is given back.
func (s *stream) take(b []byte, k kind) error {
	at := s.pos
	n, err := io.ReadFull(readerFunc(s.read), b)
	s.pos += int64(n)
	loose := k == kindCompressed || k == kindPark
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if err != nil {
		s.end = true
		if !loose || n == 0 {
			return fmt.Errorf("%w: it ends at byte %d, and byte %d is used", io.ErrUnexpectedEOF, s.pos, at+int64(len(b)))
		}
		// The last sector need not be there to its end.
		clear(b[n:])
		return s.parked.add(at, b[:n])
	}
	if s.o.Keep || k == kindPark {
		if err := s.parked.add(at, b); err != nil {
			return err
		}
	}
	if loose {
		last := max((s.pos-1)&^511, at)
		s.back = append(bytes.Clone(b[last-at:]), s.back...)
		s.pos = last
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// use handles the item at the stream's position.
func (s *stream) use(i item) error {
	switch i.kind {
	case kindL1, kindL2, kindCompressed:
		b := s.buffer(int(i.length))
		if err := s.take(b, i.kind); err != nil {
			return err
		}
		return s.handle(i, b)
	}
	buf := s.buffer(int(min(i.length, 1<<20)))
	defer s.release(buf)
	for done := int64(0); done < i.length; {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), i.length-done)]
		if i.kind == kindPark {
			b = buf[:i.length] // not longer than a compressed cluster
		}
		if err := s.take(b, i.kind); err != nil {
			return err
		}
		if i.kind == kindData {
			if err := s.write(b, i.guest+done); err != nil {
				return err
			}
		}
		done += int64(len(b))
	}
	return nil
}

// useParked handles an item whose bytes have come by.
func (s *stream) useParked(i item) error {
	switch i.kind {
	case kindPark:
		return nil
	case kindL1, kindL2, kindCompressed:
		b := s.buffer(int(i.length))
		if err := s.parked.read(b, i.host, s.end && i.kind == kindCompressed); err != nil {
			return err
		}
		return s.handle(i, b)
	}
	buf := s.buffer(int(min(i.length, 1<<20)))
	defer s.release(buf)
	for done := int64(0); done < i.length; {
		b := buf[:min(int64(len(buf)), i.length-done)]
		if err := s.parked.read(b, i.host+done, false); err != nil {
			return err
		}
		if err := s.write(b, i.guest+done); err != nil {
			return err
		}
		done += int64(len(b))
	}
	return nil
}

// handle takes a table or a compressed cluster; b is its own from here on.
func (s *stream) handle(i item, b []byte) error {
	switch i.kind {
	case kindL1:
		defer s.release(b)
		return s.readL1(b)
	case kindL2:
		defer s.release(b)
		return s.readL2(b, i.guest)
	}
	select {
	case s.jobs <- job{b, i.guest}:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

const offsetMask = 1<<56 - 1<<9

func (s *stream) readL1(b []byte) error {
	for n := int64(0); n < int64(len(b))/8; n++ {
		off := int64(binary.BigEndian.Uint64(b[8*n:]) & offsetMask)
		if off == 0 {
			continue
		}
		if off%s.cluster != 0 {
			return fmt.Errorf("L2 table at offset %d: must be a multiple of the cluster size %d", off, s.cluster)
		}
		s.push(item{host: off, length: s.cluster, guest: n * s.l2Span(), kind: kindL2})
	}
	return nil
}

func (s *stream) readL2(b []byte, guest int64) error {
	var run item // clusters that follow each other in the file and on the disk
	flush := func() error {
		if run.length > 0 {
			s.push(run)
		}
		run = item{}
		if len(s.known) > maxItems {
			return fmt.Errorf("more than %d pieces are spread over the file", maxItems)
		}
		return nil
	}
	add := func(host, guest, n int64) error {
		if run.length > 0 && run.end() == host && run.guest+run.length == guest {
			run.length += n
			return nil
		}
		err := flush()
		run = item{host: host, length: n, guest: guest, kind: kindData}
		return err
	}
	step := s.entryBytes()
	for at := int64(0); at < int64(len(b)) && guest < s.size; at, guest = at+step, guest+s.cluster {
		e := binary.BigEndian.Uint64(b[at:])
		var err error
		switch {
		case e&(1<<62) != 0:
			x := 62 - (s.bits - 8)
			host := int64(e & (1<<x - 1))
			sectors := int64(e >> x & (1<<(s.bits-8) - 1))
			if host == 0 {
				return errors.New("a compressed cluster at offset 0")
			}
			if err = flush(); err == nil {
				s.push(item{host: host, length: (sectors+1)*512 - host&511, guest: guest, kind: kindCompressed})
			}
		case s.extended:
			host := int64(e & offsetMask)
			bitmap := binary.BigEndian.Uint64(b[at+8:])
			allocated := uint32(bitmap) &^ uint32(bitmap>>32)
			if host%s.cluster != 0 || host == 0 && allocated != 0 {
				return fmt.Errorf("a cluster at offset %d: must be a multiple of the cluster size %d", host, s.cluster)
			}
			sub := s.cluster / 32
			for n := int64(0); n < 32 && err == nil; n++ {
				if allocated>>n&1 != 0 {
					err = add(host+n*sub, guest+n*sub, sub)
				}
			}
		default:
			host := int64(e & offsetMask)
			if host == 0 || e&1 != 0 {
				continue // nothing there, or zeroes
			}
			if host%s.cluster != 0 {
				return fmt.Errorf("a cluster at offset %d: must be a multiple of the cluster size %d", host, s.cluster)
			}
			err = add(host, guest, s.cluster)
		}
		if err != nil {
			return err
		}
	}
	return flush()
}

// write cuts off what lies beyond the disk's end.
func (s *stream) write(b []byte, guest int64) error {
	if guest >= s.size {
		return nil
	}
	return s.o.Write(b[:min(int64(len(b)), s.size-guest)], guest)
}

// inflate decompresses clusters and writes them.
func (s *stream) inflate(ctx context.Context) error {
	out := make([]byte, s.cluster)
	var in bytes.Reader
	var next func() (io.Reader, error)
	if s.zstd {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		defer z.Close()
		next = func() (io.Reader, error) { return z, z.Reset(&in) }
	} else {
		f := flate.NewReader(&in)
		next = func() (io.Reader, error) { return f, f.(flate.Resetter).Reset(&in, nil) }
	}
	for {
		var j job
		var ok bool
		select {
		case <-ctx.Done():
			return ctx.Err()
		case j, ok = <-s.jobs:
		}
		if !ok {
			return nil
		}
		in.Reset(j.data)
		r, err := next()
		if err == nil {
			_, err = io.ReadFull(r, out)
		}
		s.release(j.data)
		if err != nil {
			return fmt.Errorf("compressed cluster of the disk's offset %d: %v", j.guest, err)
		}
		if err := s.write(out, j.guest); err != nil {
			return err
		}
	}
}

// buffer and release keep a few buffers for another use.
func (s *stream) buffer(n int) []byte {
	select {
	case b := <-s.free:
		if cap(b) >= n {
			return b[:n]
		}
	default:
	}
	return make([]byte, n, max(int64(n), 2*s.cluster+512))
}

func (s *stream) release(b []byte) {
	select {
	case s.free <- b:
	default:
	}
}
