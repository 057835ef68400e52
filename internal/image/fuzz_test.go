// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// target counts how far it was written.
type target struct{ end int64 }

func (t *target) WriteAt(b []byte, off int64) (int, error) {
	t.end = max(t.end, off+int64(len(b)))
	return len(b), nil
}

// FuzzContent gives any bytes as a layer.
func FuzzContent(f *testing.F) {
	f.Add([]byte("QFI\xfb"), false)
	f.Add(gz([]byte("x")), true)
	f.Add(zst(make([]byte, 5000)), false)
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01"), false)
	f.Add(append(make([]byte, 257), "ustar"...), false)
	f.Fuzz(func(t *testing.T, b []byte, isFile bool) {
		const limit = 1 << 20
		out := &target{}
		p := &pull{ctx: t.Context(), o: Options{TempDir: t.TempDir()}, sink: &sink{target: out}, limit: limit, found: &found{manifest: &v1.Manifest{}}}
		l := v1.Descriptor{MediaType: types.OCILayer}
		if isFile {
			l.Annotations = map[string]string{titleAnnotation: "x"}
		}
		err := p.content(bufio.NewReader(bytes.NewReader(b)), l)
		if out.end > limit {
			t.Errorf("written up to %d of %d", out.end, limit)
		}
		if err == nil && p.got != nil && (p.got.VirtualSize < 512 || p.got.VirtualSize > limit) {
			t.Errorf("a disk of %d bytes", p.got.VirtualSize)
		}
	})
}

func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://h/v1/":{"auth":"YTpi"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var k Keychain
		_ = k.AddDockerConfig(b)
		k.lookup("h", "a/b")
	})
}

func FuzzSink(f *testing.F) {
	f.Add([]byte("x"), int64(4095))
	f.Fuzz(func(t *testing.T, b []byte, off int64) {
		off &= 1<<40 - 1
		s := &sink{target: &recorder{base: off, b: make([]byte, len(b))}}
		if err := s.write(bytes.Clone(b), off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.target.(*recorder).b, b) {
			t.Error("what was left out was not zero")
		}
	})
}

type recorder struct {
	base int64
	b    []byte
}

func (r *recorder) WriteAt(b []byte, off int64) (int, error) {
	if off < r.base || off-r.base+int64(len(b)) > int64(len(r.b)) {
		return 0, io.ErrShortWrite
	}
	return copy(r.b[off-r.base:], b), nil
}
