// SPDX-License-Identifier: Apache-2.0

package launcherimage

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
)

// maxJSON bounds index and manifest in bytes.
const maxJSON = 1 << 20

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// archive is an OCI image layout in a tar file (OCI image-spec, image-layout.md).
type archive struct {
	f      *os.File
	blobs  map[string]*io.SectionReader // by path
	digest string                       // of the manifest
	layers []descriptor
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
}

func openArchive(file string) (*archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	a := &archive{f: f, blobs: map[string]*io.SectionReader{}}
	if err := a.read(); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

func (a *archive) close() { a.f.Close() }

// read finds the blobs, the manifest and its layers.
func (a *archive) read() error {
	// The reader takes whole blocks from a file, so the file's position is where
	// the content begins.
	r := tar.NewReader(a.f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if len(a.blobs) == maxEntries {
			return fmt.Errorf("more than %d blobs", maxEntries)
		}
		at, err := a.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		a.blobs[path.Clean(h.Name)] = io.NewSectionReader(a.f, at, h.Size)
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := a.json("index.json", &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("index.json lists %d images: there must be exactly one", len(index.Manifests))
	}
	a.digest = index.Manifests[0].Digest
	var manifest struct {
		Layers []descriptor `json:"layers"`
	}
	b, err := a.blob(a.digest)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(b, maxJSON))
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(text); "sha256:"+hex.EncodeToString(sum[:]) != a.digest {
		return fmt.Errorf("manifest %s: its content has another digest", a.digest)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return fmt.Errorf("manifest %s: %w", a.digest, err)
	}
	if len(manifest.Layers) == 0 {
		return fmt.Errorf("manifest %s lists no layers", a.digest)
	}
	a.layers = manifest.Layers
	return nil
}

func (a *archive) json(name string, into any) error {
	r, ok := a.blobs[name]
	if !ok {
		return fmt.Errorf("not an OCI image layout: it has no %s", name)
	}
	if err := json.NewDecoder(io.LimitReader(r, maxJSON)).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (a *archive) blob(digest string) (*io.SectionReader, error) {
	if !digestForm.MatchString(digest) {
		return nil, fmt.Errorf("digest %.80q: must be sha256: and 64 hex digits", digest)
	}
	r, ok := a.blobs["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")]
	if !ok {
		return nil, fmt.Errorf("blob %s is not in the archive", digest)
	}
	return io.NewSectionReader(r, 0, r.Size()), nil
}

// layer opens a layer's tar stream; sum has the digest of what was read of its blob.
func (a *archive) layer(d descriptor, sum hash.Hash) (io.Reader, io.Reader, error) {
	b, err := a.blob(d.Digest)
	if err != nil {
		return nil, nil, err
	}
	stored := io.TeeReader(b, sum)
	switch {
	case strings.HasSuffix(d.MediaType, ".tar"):
		return stored, stored, nil
	case strings.HasSuffix(d.MediaType, "tar+gzip") || strings.HasSuffix(d.MediaType, "tar.gzip"):
		z, err := gzip.NewReader(stored)
		if err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		return z, stored, nil
	}
	return nil, nil, fmt.Errorf("layer %s: media type %.80q: must be a tar stream, plain or with gzip", d.Digest, d.MediaType)
}

// Peek reads an archive's digest, and what the image says about itself, without
// unpacking it. The layers' digests are not checked: Store.Open does that.
func Peek(file string) (digest string, info contract.ImageInfo, err error) {
	a, err := openArchive(file)
	if err != nil {
		return "", info, fmt.Errorf("launcher image %s: %w", file, err)
	}
	defer a.close()
	for i := len(a.layers) - 1; i >= 0; i-- {
		found, err := a.peek(a.layers[i], &info)
		if err != nil {
			return "", info, fmt.Errorf("launcher image %s: %w", file, err)
		}
		if found {
			return a.digest, info, nil
		}
	}
	return "", info, fmt.Errorf("launcher image %s has no %s", file, contract.ImageInfoFile)
}

func (a *archive) peek(d descriptor, info *contract.ImageInfo) (bool, error) {
	var stream io.Reader
	if strings.HasSuffix(d.MediaType, ".tar") {
		b, err := a.blob(d.Digest) // seeks over the files
		if err != nil {
			return false, err
		}
		stream = b
	} else {
		var err error
		if stream, _, err = a.layer(d, sha256.New()); err != nil {
			return false, err
		}
	}
	r := tar.NewReader(stream)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		if "/"+path.Clean(h.Name) == contract.ImageInfoFile {
			return true, decodeInfo(r, info)
		}
	}
}

// unpack fills the store's directory of that name. It gets its name when it is
// complete and on the disk.
func (s *Store) unpack(a *archive, name string) error {
	tmp, err := os.MkdirTemp(s.Dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{tmp, filepath.Join(tmp, rootDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(d, 0o755); err != nil { // whatever the umask is
			return err
		}
	}
	root, err := os.OpenRoot(filepath.Join(tmp, rootDir))
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root}
	for _, d := range a.layers {
		sum := sha256.New()
		stream, stored, err := a.layer(d, sum)
		if err != nil {
			return err
		}
		if err := u.layer(stream); err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		if _, err := io.Copy(io.Discard, stored); err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		if "sha256:"+hex.EncodeToString(sum.Sum(nil)) != d.Digest {
			return fmt.Errorf("layer %s: its content has another digest", d.Digest)
		}
	}
	entries, err := readTree(root)
	if err != nil {
		return err
	}
	b, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	if err := writeFile(func() (*os.File, error) {
		return os.OpenFile(filepath.Join(tmp, treeFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	}, strings.NewReader(string(b))); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(s.Dir, name))
}

type unpacker struct {
	root    *os.Root
	entries int
	bytes   int64
}

func (u *unpacker) layer(stream io.Reader) error {
	r := tar.NewReader(stream)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if u.entries++; u.entries > maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		if err := u.entry(h, r); err != nil {
			return fmt.Errorf("/%.200s: %w", h.Name, err)
		}
	}
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name := path.Clean(strings.TrimPrefix(h.Name, "/"))
	if name == "." {
		return nil
	}
	if !fs.ValidPath(name) || strings.HasPrefix(path.Base(name), ".wh.") {
		return errors.New("this image has no reason for such a name")
	}
	e := entry{Path: name, Dir: h.Typeflag == tar.TypeDir, Executable: h.Mode&0o111 != 0}
	if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.root.MkdirAll(name, e.mode())
	case tar.TypeSymlink:
		// Links are resolved later, in a root of their own: what counts is that
		// nothing is written through one, which os.Root sees to.
		if err := u.replace(name); err != nil {
			return err
		}
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		if u.bytes += h.Size; u.bytes > maxBytes {
			return fmt.Errorf("more than %d bytes", maxBytes)
		}
		if err := u.replace(name); err != nil {
			return err
		}
		err := writeFile(func() (*os.File, error) {
			return u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}, r)
		if err != nil {
			return err
		}
		return u.root.Chmod(name, e.mode())
	}
	return fmt.Errorf("type %q: an image has files, directories and symbolic links", h.Typeflag)
}

// replace makes room for an upper layer's file.
func (u *unpacker) replace(name string) error {
	if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile fills a new file and sees that it is on the disk: what has its name
// must be whole after a power cut.
func writeFile(create func() (*os.File, error), r io.Reader) error {
	f, err := create()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
