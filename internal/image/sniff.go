// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Format is what a stream of bytes is, by its first ones.
type Format string

// Formats. Raw is whatever is nothing else.
const (
	Raw     Format = "raw"
	QCOW2   Format = "qcow2"
	VMDK    Format = "vmdk"
	VDI     Format = "vdi"
	VHDX    Format = "vhdx"
	VHD     Format = "vhd"
	gzipped Format = "gzip"
	xzipped Format = "xz"
	zstded  Format = "zstd"
	bzipped Format = "bzip2"
	tarred  Format = "tar"
	zipped  Format = "zip"
	text    Format = "text"
	program Format = "program"
)

// sniffBytes is how much of a stream is looked at.
const sniffBytes = 4096

var magics = []struct {
	offset int
	magic  string
	format Format
}{
	{0, "QFI\xfb", QCOW2},
	{0, "KDMV", VMDK},
	{0, "COWD", VMDK},
	{0, "# Disk DescriptorFile", VMDK},
	{0x40, "\x7f\x10\xda\xbe", VDI},
	{0, "vhdxfile", VHDX},
	{0, "conectix", VHD},
	{0, "\x1f\x8b", gzipped},
	{0, "\xfd7zXZ\x00", xzipped},
	{0, "\x28\xb5\x2f\xfd", zstded},
	{0, "BZh", bzipped},
	{0, "PK\x03\x04", zipped},
	{0, "\x7fELF", program},
	{257, "ustar", tarred},
}

// Sniff says what begins with head, of which sniffBytes are enough.
func Sniff(head []byte) Format {
	// zstd's skippable frames may come first (estargz, zstd:chunked).
	if len(head) >= 4 && binary.LittleEndian.Uint32(head)&^0xf == 0x184d2a50 {
		return zstded
	}
	for _, m := range magics {
		if len(head) >= m.offset+len(m.magic) && string(head[m.offset:m.offset+len(m.magic)]) == m.magic {
			return m.format
		}
	}
	if len(head) > 0 && bytes.IndexFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0xfffd || r == 0x7f }) < 0 {
		return text
	}
	return Raw
}

// bootable says whether the first bytes are a disk's or a file system's: those of a
// raw disk whose length is no multiple of a sector.
func bootable(head []byte) bool {
	has := func(at int, s string) bool { return len(head) >= at+len(s) && string(head[at:at+len(s)]) == s }
	return has(510, "\x55\xaa") || has(512, "EFI PART") || has(1080, "\x53\xef") || has(0, "XFSB") || has(512, "LABELONE") || has(0, "LUKS\xba\xbe")
}

// maxWindow bounds the memory of a decompressor, in bytes: what `zstd --long` and
// `xz -9` need, twice.
const maxWindow = 128 << 20

// decompress takes compression off a stream, whatever its name says, twice at
// most: a compressed disk in a compressed layer. It returns what is below, and how
// to close it.
func decompress(r *bufio.Reader) (*bufio.Reader, func(), error) {
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	for depth := 0; ; depth++ {
		head, err := r.Peek(sniffBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			closeAll()
			return nil, nil, err
		}
		f := Sniff(head)
		var inner io.Reader
		switch f {
		case gzipped:
			inner, err = gzip.NewReader(r)
		case zstded:
			var z *zstd.Decoder
			z, err = zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
			if err == nil {
				closers = append(closers, z.Close)
				inner = z
			}
		case xzipped:
			inner, err = xz.NewReader(r, maxWindow)
		default:
			return r, closeAll, nil
		}
		if err == nil && depth == 2 {
			err = errors.New("it is compressed more than twice")
		}
		if err != nil {
			closeAll()
			return nil, nil, fail(NotDisk, err, "its %s compression cannot be read", f)
		}
		r = bufio.NewReaderSize(damaged{inner, f}, 256<<10)
	}
}

// damaged says which compression an error comes from.
type damaged struct {
	r io.Reader
	f Format
}

func (d damaged) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	var e *Error
	if errors.As(err, &e) {
		return n, err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return n, fail(Truncated, err, "its %s compression ends early: build and push the image again", d.f)
	}
	return n, fail(NotDisk, err, "its %s compression is damaged: build and push the image again", d.f)
}
