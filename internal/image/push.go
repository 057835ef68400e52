// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/skerry-dev/skerry/internal/qcow2"
)

// Pushed is what came of a push.
type Pushed struct {
	Ref, Digest string
	Format      Format // of the file that was pushed
	VirtualSize int64  // of its disk, in bytes
	Bytes       int64  // that went to the registry
}

// qemuUser owns the disk in the image, as KubeVirt's documentation asks for.
const qemuUser = 107

// Push makes a container disk of the disk in the file and pushes it as ref: one
// layer, compressed with zstd, with one qcow2 file in /disk. A qcow2 file goes as it
// is, a raw disk becomes one on the way; no copy is made on this machine.
// Options.Progress is told of the disk's bytes that were read.
func Push(ctx context.Context, file, ref string, o Options) (Pushed, error) {
	r, err := parseRef(ref)
	if err != nil {
		return Pushed{}, err
	}
	tag, ok := r.(name.Tag)
	if !ok {
		return Pushed{}, &Error{Kind: BadName, Ref: ref, Text: "an image is pushed under a tag, like registry.example:5000/project/name:tag"}
	}
	f, err := os.Open(file)
	if err != nil {
		return Pushed{}, err
	}
	defer f.Close()
	d, err := openDisk(ctx, f)
	if err != nil {
		return Pushed{}, fmt.Errorf("disk %s: %w", file, err)
	}
	places, err := o.places(tag)
	if err != nil {
		return Pushed{}, named(ref, err)
	}
	own := places[len(places)-1]
	out := Pushed{Ref: own.String(), Format: d.format, VirtualSize: d.size}
	err = o.connect(ctx, own.Context(), transport.PushScope, func(s *source) error {
		defer s.idle()
		var read, total atomic.Int64
		total.Store(d.bytes)
		stop := report(o.Progress, &read, &total)
		layer, err := s.upload(ctx, d, &read)
		stop()
		if err != nil {
			return err
		}
		out.Bytes = layer.Size
		img, err := containerDisk(layer, d)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		out.Digest = digest.String()
		return remote.Write(own, img, remote.WithContext(ctx), remote.WithTransport(s.rt))
	})
	if err != nil {
		return out, named(ref, err)
	}
	return out, nil
}

// disk is one that can be pushed.
type disk struct {
	format Format
	size   int64 // virtual
	length int64 // of the qcow2 file
	bytes  int64 // that are read for it
	write  func(ctx context.Context, w io.Writer, read *atomic.Int64) error
}

func openDisk(ctx context.Context, f *os.File) (*disk, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	info, err := qcow2.Vet(f, end)
	if err != nil {
		return nil, err
	}
	if info.Format == qcow2.FormatQCOW2 {
		return &disk{QCOW2, info.Size, end, end, func(_ context.Context, w io.Writer, read *atomic.Int64) error {
			_, err := io.Copy(w, counting{io.NewSectionReader(f, 0, end), read})
			return err
		}}, nil
	}
	used, err := usedClusters(ctx, f, end)
	if err != nil {
		return nil, err
	}
	l, err := qcow2.NewLayout(info.Size, used)
	if err != nil {
		return nil, err
	}
	return &disk{Raw, info.Size, l.Length(), int64(len(used)) * qcow2.ClusterSize, func(ctx context.Context, w io.Writer, read *atomic.Int64) error {
		return l.Write(ctx, w, countingAt{f, read})
	}}, nil
}

type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

type countingAt struct {
	r io.ReaderAt
	n *atomic.Int64
}

func (c countingAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	c.n.Add(int64(n))
	return n, err
}

// Where to go on in a sparse file, lseek(2).
const (
	seekData = 3
	seekHole = 4
)

// usedClusters reads a raw disk for those that are not all zeroes; holes are not read.
func usedClusters(ctx context.Context, f *os.File, end int64) ([]int64, error) {
	var used []int64
	buf := make([]byte, 16*qcow2.ClusterSize)
	for off := int64(0); off < end; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if next, err := f.Seek(off, seekData); err == nil && next > off {
			off = next / qcow2.ClusterSize * qcow2.ClusterSize
		} else if err != nil && holeToEnd(f, off, end) {
			break
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return nil, fmt.Errorf("read it at offset %d: %w", off, err)
		}
		for at := 0; at < n; at += qcow2.ClusterSize {
			if !isZero(buf[at:min(n, at+qcow2.ClusterSize)]) {
				used = append(used, (off+int64(at))/qcow2.ClusterSize)
			}
		}
		off += int64(n)
	}
	return used, nil
}

// holeToEnd tells whether nothing but a hole follows: SEEK_DATA fails there, and
// also where holes are not known.
func holeToEnd(f *os.File, off, end int64) bool {
	hole, err := f.Seek(off, seekHole)
	return err == nil && hole == off && off < end
}

// chunk is how many bytes of a layer go in one request.
const chunk = 16 << 20

// upload sends the layer in chunks while it is made (distribution-spec, "Pushing a
// blob in chunks").
func (s *source) upload(ctx context.Context, d *disk, read *atomic.Int64) (v1.Descriptor, error) {
	// What an interrupted chunk has left is the registry's to forget.
	u := &uploader{ctx: ctx, s: s, whole: sha256.New(), buf: make([]byte, 0, chunk)}
	start := &url.URL{Scheme: s.repo.Scheme(), Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/blobs/uploads/"}
	if err := u.do(http.MethodPost, start, nil, http.StatusAccepted); err != nil {
		return v1.Descriptor{}, err
	}
	z, err := zstd.NewWriter(u, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return v1.Descriptor{}, err
	}
	plain := sha256.New()
	t := tar.NewWriter(io.MultiWriter(z, plain))
	epoch := time.Unix(0, 0)
	err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "disk/", Mode: 0o555, Uid: qemuUser, Gid: qemuUser, ModTime: epoch})
	if err == nil {
		err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "disk/disk.qcow2", Size: d.length, Mode: 0o440, Uid: qemuUser, Gid: qemuUser, ModTime: epoch})
	}
	if err == nil {
		err = d.write(ctx, t, read)
	}
	if err = errors.Join(err, t.Close()); err != nil {
		z.Close()
		return v1.Descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return v1.Descriptor{}, err
	}
	if err := u.flush(); err != nil {
		return v1.Descriptor{}, err
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(u.whole.Sum(nil))}
	end := *u.at
	q := end.Query()
	q.Set("digest", digest.String())
	end.RawQuery = q.Encode()
	if err := u.do(http.MethodPut, &end, nil, http.StatusCreated); err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{
		MediaType: types.OCILayerZStd, Size: u.sent, Digest: digest,
		Annotations: map[string]string{diffID: "sha256:" + hex.EncodeToString(plain.Sum(nil))},
	}, nil
}

// diffID carries the digest of the uncompressed layer from upload to containerDisk.
const diffID = "diffID"

type uploader struct {
	ctx   context.Context
	s     *source
	at    *url.URL // where the next request goes
	whole hash.Hash
	buf   []byte
	sent  int64
}

func (u *uploader) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		m := min(len(b), cap(u.buf)-len(u.buf))
		u.buf = append(u.buf, b[:m]...)
		b = b[m:]
		if len(u.buf) == cap(u.buf) {
			if err := u.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (u *uploader) flush() error {
	if len(u.buf) == 0 {
		return nil
	}
	u.whole.Write(u.buf)
	if err := u.do(http.MethodPatch, u.at, u.buf, http.StatusAccepted, http.StatusNoContent, http.StatusCreated); err != nil {
		return err
	}
	u.sent += int64(len(u.buf))
	u.buf = u.buf[:0]
	return nil
}

// do sends one request and remembers where the next one goes.
func (u *uploader) do(method string, to *url.URL, body []byte, good ...int) error {
	req, err := http.NewRequestWithContext(u.ctx, method, to.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.sent, u.sent+int64(len(body))-1))
	}
	res, err := httpClient(u.s.rt).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := transport.CheckError(res, good...); err != nil {
		return err
	}
	if l := res.Header.Get("Location"); l != "" {
		next, err := to.Parse(l)
		if err != nil {
			return fmt.Errorf("the registry sent on to %q: %w", l, err)
		}
		u.at = next
	}
	if u.at == nil {
		return errors.New("the registry does not say where an upload goes")
	}
	return nil
}

// containerDisk is the image around a layer that is at the registry already.
func containerDisk(l v1.Descriptor, d *disk) (v1.Image, error) {
	diff, err := v1.NewHash(l.Annotations[diffID])
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Labels: map[string]string{"dev.skerry.disk.virtual-size": fmt.Sprint(d.size)}}})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: remoteLayer{l, diff}, MediaType: l.MediaType})
}

// remoteLayer is one that the registry has.
type remoteLayer struct {
	desc v1.Descriptor
	diff v1.Hash
}

var errThere = errors.New("the registry has lost the layer that was just pushed")

func (r remoteLayer) Digest() (v1.Hash, error)             { return r.desc.Digest, nil }
func (r remoteLayer) DiffID() (v1.Hash, error)             { return r.diff, nil }
func (r remoteLayer) Size() (int64, error)                 { return r.desc.Size, nil }
func (r remoteLayer) MediaType() (types.MediaType, error)  { return r.desc.MediaType, nil }
func (r remoteLayer) Compressed() (io.ReadCloser, error)   { return nil, errThere }
func (r remoteLayer) Uncompressed() (io.ReadCloser, error) { return nil, errThere }
