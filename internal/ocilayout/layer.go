// SPDX-License-Identifier: Apache-2.0

package ocilayout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the modification time of every entry and the creation time of every
// image.
var epoch = time.Unix(0, 0).UTC()

// File is one entry of a layer. Exactly one of Source, Content, Link and Dir
// says what it is; a regular file with neither Source nor Content is empty.
type File struct {
	// Path is relative to the image's root, with forward slashes and without a
	// leading one.
	Path string
	// Mode holds the permission bits and, for directories, the sticky bit.
	// Zero means 0755 for directories and 0644 for files.
	Mode fs.FileMode
	// UID and GID own the entry; root by default.
	UID, GID int
	// Source is the file on this machine whose content is taken.
	Source string
	// Content is the file's content.
	Content []byte
	// Link is the target of a symbolic link.
	Link string
	// Dir makes the entry a directory.
	Dir bool
}

// Compression says how a layer's blob is stored.
type Compression int

const (
	// Uncompressed layers are the quickest to import and unpack.
	Uncompressed Compression = iota
	// Gzip is for images that travel.
	Gzip
)

// Layer is a layer whose blob lies in a file. It implements v1.Layer.
type Layer struct {
	// Comment names the layer in the image's history.
	Comment string
	// Unpacked is the sum of the sizes of its regular files, in bytes.
	Unpacked int64

	blob      string
	size      int64
	digest    v1.Hash
	diffID    v1.Hash
	mediaType types.MediaType
}

var _ v1.Layer = (*Layer)(nil)

// Digest is the digest of the blob.
func (l *Layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is the digest of the uncompressed layer.
func (l *Layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Compressed reads the blob as it is stored.
func (l *Layer) Compressed() (io.ReadCloser, error) { return os.Open(l.blob) }

// Size is the blob's size in bytes.
func (l *Layer) Size() (int64, error) { return l.size, nil }

// MediaType is the OCI media type that fits the compression.
func (l *Layer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// Uncompressed reads the layer's tar stream.
func (l *Layer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.blob)
	if err != nil || l.mediaType != types.OCILayer {
		return f, err
	}
	zr, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read layer %s: %w", l.digest, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{zr, f}, nil
}

// NewLayer writes a layer made of files into the file blob and returns it.
// Parent directories that are not listed are added with mode 0755.
func NewLayer(blob, comment string, files []File, c Compression) (*Layer, error) {
	entries, err := arrange(files)
	if err != nil {
		return nil, fmt.Errorf("layer %q: %w", comment, err)
	}
	f, err := os.Create(blob)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &Layer{Comment: comment, blob: blob, mediaType: types.OCIUncompressedLayer}
	stored := newMeter(f)
	plain := stored
	var zw *gzip.Writer
	if c == Gzip {
		l.mediaType = types.OCILayer
		if zw, err = gzip.NewWriterLevel(stored, gzip.BestCompression); err != nil {
			return nil, err
		}
		plain = newMeter(zw)
	}
	tw := tar.NewWriter(plain)
	for _, e := range entries {
		n, err := e.write(tw)
		if err != nil {
			return nil, fmt.Errorf("layer %q: %s: %w", comment, e.Path, err)
		}
		l.Unpacked += n
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("layer %q: %w", comment, err)
	}
	if zw != nil {
		if err := zw.Close(); err != nil {
			return nil, fmt.Errorf("layer %q: %w", comment, err)
		}
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("layer %q: %w", comment, err)
	}
	l.size, l.digest, l.diffID = stored.n, stored.sum(), plain.sum()
	return l, nil
}

// FromDir lists everything below the directory root as entries of a layer.
// Modes are reduced to 0755 and 0644, so that the umask of whoever made the
// tree does not show. Anything but directories, regular files and symbolic
// links is an error, as are setuid and setgid files.
func FromDir(root string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := File{Path: filepath.ToSlash(rel)}
		switch mode := info.Mode(); {
		case mode.IsDir():
			f.Dir = true
		case mode&fs.ModeSymlink != 0:
			if f.Link, err = os.Readlink(p); err != nil {
				return err
			}
		case mode.IsRegular():
			if mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				return fmt.Errorf("%s is setuid or setgid (%s); layers take none of these", p, mode)
			}
			f.Source = p
			if mode&0o111 != 0 {
				f.Mode = 0o755
			}
		default:
			return fmt.Errorf("%s is %s; layers take directories, regular files and symbolic links", p, mode.Type())
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	return files, nil
}

// arrange checks the entries, adds missing parents and sorts by path, so that a
// directory always comes before what it holds.
func arrange(files []File) ([]File, error) {
	byPath := make(map[string]File, len(files))
	for _, f := range files {
		if f.Path == "" || f.Path == "." || !fs.ValidPath(f.Path) {
			return nil, fmt.Errorf("path %q is not relative and clean", f.Path)
		}
		kinds := 0
		for _, is := range []bool{f.Source != "", f.Content != nil, f.Link != "", f.Dir} {
			if is {
				kinds++
			}
		}
		if kinds > 1 {
			return nil, fmt.Errorf("%s: more than one of source, content, link and directory is set", f.Path)
		}
		allowed := fs.ModePerm
		if f.Dir {
			allowed |= fs.ModeSticky
		}
		if f.Mode&^allowed != 0 {
			return nil, fmt.Errorf("%s: mode %s has more than permission bits", f.Path, f.Mode)
		}
		if _, twice := byPath[f.Path]; twice {
			return nil, fmt.Errorf("%s is listed twice", f.Path)
		}
		byPath[f.Path] = f
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			parent, listed := byPath[dir]
			if listed && !parent.Dir {
				return nil, fmt.Errorf("%s is below %s, which is not a directory", f.Path, dir)
			}
			if !listed {
				byPath[dir] = File{Path: dir, Dir: true}
			}
		}
	}
	entries := make([]File, 0, len(byPath))
	for _, f := range byPath {
		entries = append(entries, f)
	}
	slices.SortFunc(entries, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

// write adds the entry to tw and returns the size of its content.
func (f File) write(tw *tar.Writer) (int64, error) {
	h := &tar.Header{Name: f.Path, Uid: f.UID, Gid: f.GID, ModTime: epoch, Mode: int64(f.Mode.Perm())}
	switch {
	case f.Dir:
		h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
		if f.Mode == 0 {
			h.Mode = 0o755
		}
		if f.Mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		return 0, tw.WriteHeader(h)
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		return 0, tw.WriteHeader(h)
	}
	h.Typeflag = tar.TypeReg
	if f.Mode == 0 {
		h.Mode = 0o644
	}
	if f.Source == "" {
		h.Size = int64(len(f.Content))
		if err := tw.WriteHeader(h); err != nil {
			return 0, err
		}
		return io.Copy(tw, bytes.NewReader(f.Content))
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is not a regular file", f.Source)
	}
	h.Size = info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return 0, err
	}
	n, err := io.Copy(tw, src)
	if errors.Is(err, tar.ErrWriteTooLong) || (err == nil && n != h.Size) {
		return n, fmt.Errorf("%s changed while it was read", f.Source)
	}
	return n, err
}

// meter counts and hashes what passes.
type meter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func newMeter(w io.Writer) *meter { return &meter{w: w, h: sha256.New()} }

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.h.Write(p[:n])
	m.n += int64(n)
	return n, err
}

func (m *meter) sum() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(m.h.Sum(nil))}
}
