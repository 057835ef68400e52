// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var qemuImg = flag.String("qemu-img", "", "path of qemu-img: make testdata anew with it")

const diskSize = 4<<20 + 512

// testDisk has data of all kinds here and there: text, noise, zeroes.
func testDisk() []byte {
	b := make([]byte, diskSize)
	r := rand.New(rand.NewPCG(1, 2))
	for off := 0; off < len(b); off += 4096 {
		part := b[off:min(off+4096, len(b))]
		switch n := r.IntN(40); {
		case n < 6:
			copy(part, strings.Repeat(fmt.Sprintf("block %d. ", off), 400))
		case n == 6:
			for i := 0; i < min(len(part), 700); i++ {
				part[i] = byte(r.Uint32())
			}
		}
	}
	copy(b[len(b)-100:], "the end")
	return b
}

// fixtures are files that QEMU's own tool wrote (version 7.2).
var fixtures = map[string][]string{
	"plain":      {"convert -O qcow2 -o cluster_size=4k raw out"},
	"zlib":       {"convert -c -O qcow2 -o cluster_size=4k raw out"},
	"zstd":       {"convert -c -O qcow2 -o cluster_size=64k,compression_type=zstd raw out"},
	"version2":   {"convert -c -O qcow2 -o compat=0.10 raw out"},
	"subcluster": {"convert -O qcow2 -o extended_l2=on,cluster_size=128k raw out"},
	"metadata":   {"convert -O qcow2 -o preallocation=metadata,cluster_size=64k raw out"},
	// The L1 table moves to the end when the disk grows.
	"grown":     {"convert -c -O qcow2 -o cluster_size=512 raw out", "resize out 64M", "resize --shrink out 4194816"},
	"snapshots": {"convert -O qcow2 -o cluster_size=4k raw out", "snapshot -c one out"},
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".qcow2.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMakeFixtures(t *testing.T) {
	if *qemuImg == "" {
		return // the fixtures are checked in; -qemu-img makes them anew
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, commands := range fixtures {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "raw"), testDisk(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			c = strings.ReplaceAll(c, "convert ", "convert -f raw ")
			cmd := exec.Command(*qemuImg, strings.Fields(c)...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", c, err, out)
			}
		}
		b, err := os.ReadFile(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		var z bytes.Buffer
		w, _ := gzip.NewWriterLevel(&z, 9)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := os.WriteFile(filepath.Join("testdata", name+".qcow2.gz"), z.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// memory is a disk in memory.
type memory struct {
	mu    sync.Mutex
	b     []byte
	twice bool // something was written twice
	seen  map[int64]bool
}

func (m *memory) write(b []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[off] {
		m.twice = true
	}
	m.seen[off] = true
	copy(m.b[off:], b)
	return nil
}

func unpack(t testing.TB, file []byte, o StreamOptions) ([]byte, error) {
	m := &memory{seen: map[int64]bool{}}
	o.Begin = func(size int64) error {
		if size > 1<<30 {
			return errors.New("too large for this test")
		}
		m.b = make([]byte, size)
		return nil
	}
	o.Write = m.write
	if o.MaxParked == 0 {
		o.MaxParked = 1 << 30
	}
	o.Dir = t.TempDir()
	_, err := Stream(t.Context(), bufio.NewReaderSize(bytes.NewReader(file), headBytes), o)
	if err == nil && m.twice {
		t.Error("a place of the disk was written twice")
	}
	return m.b, err
}

func same(t *testing.T, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("differs from offset %d on", i)
			}
		}
	}
}

func TestStreamReadsWhatQEMUWrites(t *testing.T) {
	t.Parallel()
	want := testDisk()
	for name := range fixtures {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " keep ", keep), func(t *testing.T) {
				t.Parallel()
				got, err := unpack(t, fixture(t, name), StreamOptions{Keep: keep})
				if err != nil {
					t.Fatal(err)
				}
				same(t, got, want)
			})
		}
	}
}

// A usual image needs next to nothing held back, or a second copy would be made.
func TestStreamParksLittle(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "zlib", "zstd", "version2", "metadata"} {
		file := fixture(t, name)
		if _, err := unpack(t, file, StreamOptions{MaxParked: 5*65536 + int64(len(file))/8}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := unpack(t, fixture(t, "grown"), StreamOptions{MaxParked: 1000}); err == nil || !strings.Contains(err.Error(), "qemu-img convert") {
		t.Errorf("more parked than allowed: %v", err)
	}
}

func TestStreamCutShort(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "zlib", "grown"} {
		file := fixture(t, name)
		for _, n := range []int{len(file) / 3, len(file) / 2} {
			if _, err := unpack(t, file[:n], StreamOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrOrder) {
				t.Errorf("%s cut to %d of %d bytes: got %v", name, n, len(file), err)
			}
		}
	}
}

// Two places of the disk in one cluster of the file: only a file that is kept can
// give it twice.
func TestStreamOneClusterTwice(t *testing.T) {
	t.Parallel()
	l, err := NewLayout(4*clusterSize, []int64{0, 2})
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, 4*clusterSize)
	copy(disk, "first")
	copy(disk[2*clusterSize:], "third")
	var b bytes.Buffer
	if err := l.Write(t.Context(), &b, bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	file := b.Bytes()
	l2 := binary.BigEndian.Uint64(file[(1+l.refTable+l.refBlocks)*clusterSize:]) & offsetMask
	copy(file[l2+3*8:l2+4*8], file[l2:l2+8])
	if _, err := unpack(t, file, StreamOptions{}); !errors.Is(err, ErrOrder) {
		t.Errorf("got %v, want ErrOrder", err)
	}
	got, err := unpack(t, file, StreamOptions{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	copy(disk[3*clusterSize:], "first")
	same(t, got, disk)
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	backing := file(t, Image{Size: 1 << 20, Backing: "/etc/shadow", BackingFormat: FormatRaw})
	data := file(t, Image{Size: 1 << 20})
	binary.BigEndian.PutUint64(data[72:], featureDataFile)
	for name, f := range map[string][]byte{"backing file": backing, "data file": data} {
		if _, err := unpack(t, f, StreamOptions{}); !errors.Is(err, ErrOtherFile) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	huge := file(t, Image{Size: 2 << 30})
	if _, err := unpack(t, huge, StreamOptions{}); err == nil || !strings.Contains(err.Error(), "too large for this test") {
		t.Errorf("Begin's error: got %v", err)
	}
	l2 := fixture(t, "plain")
	l1 := binary.BigEndian.Uint64(l2[40:])
	binary.BigEndian.PutUint64(l2[l1:], 4096+512)
	if _, err := unpack(t, l2, StreamOptions{}); err == nil || !strings.Contains(err.Error(), "multiple of the cluster size") {
		t.Errorf("misaligned L2 table: got %v", err)
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int64{512, clusterSize, 3*clusterSize + 512, diskSize} {
		disk := make([]byte, size)
		var used []int64
		for c := int64(0); c*clusterSize < size; c++ {
			if r.IntN(3) == 0 || (c+1)*clusterSize >= size {
				used = append(used, c)
				disk[c*clusterSize+r.Int64N(min(clusterSize, size-c*clusterSize))] = 1
			}
		}
		l, err := NewLayout(size, used)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := l.Write(t.Context(), &b, bytes.NewReader(disk)); err != nil {
			t.Fatal(err)
		}
		if int64(b.Len()) != l.Length() {
			t.Errorf("size %d: %d bytes written, %d announced", size, b.Len(), l.Length())
		}
		if got, err := Vet(bytes.NewReader(b.Bytes()), l.Length()); err != nil || got != (Info{FormatQCOW2, size}) {
			t.Errorf("size %d: Vet says %v, %v", size, got, err)
		}
		got, err := unpack(t, b.Bytes(), StreamOptions{MaxParked: 4 * clusterSize})
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, disk)
		if *qemuImg != "" {
			path := filepath.Join(t.TempDir(), "x.qcow2")
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(*qemuImg, "check", path).CombinedOutput(); err != nil {
				t.Errorf("qemu-img check: %v: %s", err, out)
			}
		}
	}
	// Several L2 tables, and one in the middle that is not there.
	used := []int64{0, 8191, 8192, 3 * 8192}
	l, err := NewLayout(4<<30, used)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.Write(t.Context(), &b, numbered{}); err != nil {
		t.Fatal(err)
	}
	var got []int64
	if _, err := Stream(t.Context(), bufio.NewReaderSize(&b, headBytes), StreamOptions{
		Begin: func(int64) error { return nil },
		Write: func(b []byte, off int64) error {
			for ; len(b) > 0; b, off = b[clusterSize:], off+clusterSize {
				if c := int64(binary.BigEndian.Uint64(b)); c != off/clusterSize {
					t.Errorf("cluster %d at %d", c, off)
				}
				got = append(got, off/clusterSize)
			}
			return nil
		},
		MaxParked: 4 * clusterSize,
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, used) {
		t.Errorf("got clusters %v, want %v", got, used)
	}
	if _, err := NewLayout(clusterSize, []int64{1}); err == nil {
		t.Error("a cluster beyond the end was accepted")
	}
}

// numbered is a disk of which each cluster begins with its number.
type numbered struct{}

func (numbered) ReadAt(b []byte, off int64) (int, error) {
	binary.BigEndian.PutUint64(b, uint64(off/clusterSize))
	return len(b), nil
}

func FuzzStream(f *testing.F) {
	for name := range fixtures {
		f.Add(fixture(f, name)[:30000])
	}
	l, err := NewLayout(clusterSize, []int64{0})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.Write(f.Context(), &b, bytes.NewReader(bytes.Repeat([]byte("x"), clusterSize))); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, keep := range []bool{false, true} {
			var size int64
			_, err := Stream(t.Context(), bufio.NewReaderSize(bytes.NewReader(b), headBytes), StreamOptions{
				Begin: func(n int64) error {
					if size = n; n > 64<<20 {
						return errors.New("too large")
					}
					return nil
				},
				Write: func(b []byte, off int64) error {
					if off < 0 || off+int64(len(b)) > size {
						t.Errorf("%d bytes written at %d of a disk of %d", len(b), off, size)
					}
					return nil
				},
				Dir: t.TempDir(), MaxParked: 16 << 20, Keep: keep,
			})
			if keep && errors.Is(err, ErrOrder) {
				t.Error("ErrOrder although every byte was kept")
			}
		}
	})
}
