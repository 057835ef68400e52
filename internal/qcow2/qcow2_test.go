// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// file is the whole file of an image.
func file(t testing.TB, i Image) []byte {
	t.Helper()
	head, length, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(head, make([]byte, length-int64(len(head)))...)
}

func TestEncodeThenVet(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{512, 1 << 20, 1<<29 - 512, 1 << 29, 1<<29 + 512, 10 << 30, 5 << 40, MaxSize} {
		b := file(t, Image{Size: size})
		got, err := Vet(bytes.NewReader(b), int64(len(b)))
		if want := (Info{FormatQCOW2, size}); err != nil || got != want {
			t.Errorf("size %d: got %v, %v; want %v", size, got, err, want)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		image Image
		want  string
	}{
		{Image{}, "virtual size 0"},
		{Image{Size: 513}, "virtual size 513"},
		{Image{Size: MaxSize + 512}, "virtual size"},
		{Image{Size: 512, Backing: "nbd:host", BackingFormat: "raw"}, "absolute path"},
		{Image{Size: 512, Backing: "/" + strings.Repeat("x", 1023), BackingFormat: "raw"}, "absolute path"},
		{Image{Size: 512, Backing: "/x"}, `backing format ""`},
		{Image{Size: 512, Backing: "/x", BackingFormat: "vmdk"}, `backing format "vmdk"`},
	} {
		if _, _, err := c.image.Encode(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want an error with %q", c.image, err, c.want)
		}
	}
}

func TestVetRefuses(t *testing.T) {
	t.Parallel()
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
	}
	put64 := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], v); return b }
	}
	extension := func(kind, n uint32) func([]byte) []byte {
		return func(b []byte) []byte { return put32(headerSize+4, n)(put32(headerSize, kind)(b)) }
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"version":             {put32(4, 4), "version 4"},
		"small clusters":      {put32(20, 8), "cluster size"},
		"large clusters":      {put32(20, 22), "cluster size"},
		"no size":             {put64(24, 0), "virtual size"},
		"huge":                {put64(24, 1<<62), "virtual size"},
		"backing offset":      {put64(8, 200), "backing file"},
		"backing length":      {put32(16, 5), "backing file"},
		"encrypted":           {put32(32, 1), "encrypted"},
		"L1 too large":        {put32(36, 1<<23), "L1 table"},
		"no L1":               {put32(36, 0), "L1 table"},
		"L1 at 0":             {put64(40, 0), "L1 table at offset 0"},
		"L1 misaligned":       {put64(40, 3*clusterSize+1), "multiple of the cluster size"},
		"L1 beyond the end":   {put64(40, 1<<40), "beyond the end"},
		"refcounts too large": {put32(56, 1<<10), "refcount table"},
		"snapshots":           {put32(60, 1<<20), "snapshots"},
		"corrupt":             {put64(72, 2), "corrupt"},
		"data file":           {put64(72, 4), "another file"},
		"unknown feature":     {put64(72, 1<<40), "unknown features"},
		"refcount order":      {put32(96, 7), "refcounts of 2^7"},
		"header length":       {put32(100, 8), "header length"},
		"long header":         {put32(100, 1<<20), "header length"},
		"compression type":    {func(b []byte) []byte { b[104] = 7; return put64(72, 8)(b) }, "compression"},
		"data file extension": {extension(extDataFile, 4), "external data file"},
		"encryption header":   {extension(extEncryption, 16), "encrypted"},
		"long extension":      {extension(0x12345678, 1<<31), "reaches beyond"},
		"cut in the header":   {func(b []byte) []byte { return b[:71] }, "cut short"},
		"cut in version 3":    {func(b []byte) []byte { return b[:4*clusterSize][:90] }, "beyond the end"},
		"cut before L1":       {func(b []byte) []byte { return b[:3*clusterSize] }, "cut short"},
		"vmdk":                {func(b []byte) []byte { return append([]byte("KDMV"), b[4:]...) }, "VMDK"},
		"gzip":                {func(b []byte) []byte { return append([]byte("\x1f\x8b"), b[2:]...) }, "gzip"},
		"empty":               {func([]byte) []byte { return nil }, "smaller than one sector"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.change(file(t, Image{Size: 1 << 30}))
			if _, err := Vet(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestVetAccepts(t *testing.T) {
	t.Parallel()
	b := file(t, Image{Size: 1 << 30})
	binary.BigEndian.PutUint64(b[72:], featureDirty|featureCompression|featureExtendedL2)
	b[104] = 1 // zstd
	if got, err := Vet(bytes.NewReader(b), int64(len(b))); err != nil || got.Format != FormatQCOW2 {
		t.Errorf("dirty, zstd, extended L2: got %v, %v", got, err)
	}
	raw := make([]byte, 1000)
	if got, err := Vet(bytes.NewReader(raw), 1000); err != nil || got != (Info{FormatRaw, 1024}) {
		t.Errorf("raw file of 1000 bytes: got %v, %v", got, err)
	}
}

// An overlay is refused as a backing file: chains that an image brings along could
// name any file of the pod.
func TestVetRefusesOverlay(t *testing.T) {
	t.Parallel()
	b := file(t, Image{Size: 1 << 30, Backing: "/etc/passwd", BackingFormat: FormatRaw})
	if _, err := Vet(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "backing file") {
		t.Errorf("got %v", err)
	}
}

func FuzzVet(f *testing.F) {
	f.Add(file(f, Image{Size: 1 << 30}))
	f.Add(file(f, Image{Size: 1 << 30, Backing: "/x", BackingFormat: FormatRaw})[:600])
	f.Add([]byte("QFI\xfb"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Vet(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if got.Size < 512 || got.Size > MaxSize || got.Size%512 != 0 {
			t.Errorf("accepted with virtual size %d", got.Size)
		}
		if got.Format == FormatQCOW2 && (binary.BigEndian.Uint64(b[8:]) != 0 || binary.BigEndian.Uint32(b[16:]) != 0) {
			t.Error("accepted with a backing file")
		}
	})
}
