// SPDX-License-Identifier: Apache-2.0

package launcherimage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
)

// Limits of an image. A real one has 90 files of 80 MB together.
const (
	maxEntries = 4096
	maxBytes   = 1 << 30
	maxInfo    = 1 << 20 // of contract.ImageInfoFile
)

// Image is a launcher image as files on this node.
type Image struct {
	// Digest is of the image's manifest, or of the tree if it never had one.
	Digest string
	// Root is the directory that holds the image's root file system.
	Root string
	// Info is what the image says about itself.
	Info contract.ImageInfo

	entries []entry
}

// Name is the name of the image's directory in a pod's volume.
func (i *Image) Name() string {
	return strings.TrimPrefix(i.Digest, "sha256:")[:contract.NextDigits]
}

// entry is a file, directory or symbolic link of an image.
type entry struct {
	Path       string `json:"path"`
	Dir        bool   `json:"dir,omitempty"`
	Link       string `json:"link,omitempty"`
	Executable bool   `json:"executable,omitempty"`
	Size       int64  `json:"size,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
}

func (e entry) mode() fs.FileMode {
	switch {
	case e.Dir:
		return 0o755
	case e.Executable:
		return 0o555
	}
	return 0o444
}

// readTree lists a directory with the digests of its files.
func readTree(root *os.Root) ([]entry, error) {
	var all []entry
	var total int64
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		if len(all) == maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		e := entry{Path: p}
		switch {
		case d.IsDir():
			e.Dir = true
		case d.Type() == fs.ModeSymlink:
			if e.Link, err = root.Readlink(p); err != nil {
				return err
			}
		case d.Type().IsRegular():
			if err := e.hash(root); err != nil {
				return err
			}
			if total += e.Size; total > maxBytes {
				return fmt.Errorf("more than %d bytes", maxBytes)
			}
		default:
			return fmt.Errorf("/%s is a %s: an image has files, directories and symbolic links", p, d.Type())
		}
		all = append(all, e)
		return nil
	})
	return all, err
}

// hash fills in what a regular file's content and mode say.
func (e *entry) hash(root *os.Root) error {
	f, err := root.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, maxBytes+1))
	if err != nil {
		return fmt.Errorf("read /%s: %w", e.Path, err)
	}
	e.Executable, e.Size, e.SHA256 = st.Mode()&0o111 != 0, n, hex.EncodeToString(sum.Sum(nil))
	return nil
}

// readInfo reads what the image says about itself.
func readInfo(root *os.Root) (contract.ImageInfo, error) {
	var info contract.ImageInfo
	f, err := root.Open(strings.TrimPrefix(contract.ImageInfoFile, "/"))
	if err != nil {
		return info, fmt.Errorf("the image does not describe itself: %w", err)
	}
	defer f.Close()
	err = decodeInfo(f, &info)
	return info, err
}

func decodeInfo(r io.Reader, info *contract.ImageInfo) error {
	if err := json.NewDecoder(io.LimitReader(r, maxInfo)).Decode(info); err != nil {
		return fmt.Errorf("%s: %w", contract.ImageInfoFile, err)
	}
	if info.QEMUVersion == "" {
		return fmt.Errorf("%s: qemuVersion is empty", contract.ImageInfoFile)
	}
	return nil
}

// FromDir is the launcher image whose root file system is the directory dir, such
// as one that is mounted into the node agent's pod.
func FromDir(dir string) (*Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("launcher image: %w", err)
	}
	defer root.Close()
	entries, err := readTree(root)
	if err != nil {
		return nil, fmt.Errorf("launcher image %s: %w", dir, err)
	}
	b, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	info, err := readInfo(root)
	if err != nil {
		return nil, fmt.Errorf("launcher image %s: %w", dir, err)
	}
	sum := sha256.Sum256(b)
	return &Image{Digest: "sha256:" + hex.EncodeToString(sum[:]), Root: dir, Info: info, entries: entries}, nil
}

// Store keeps unpacked images, one directory per digest.
type Store struct {
	// Dir is made when it is needed. Nobody but root may write it.
	Dir string
}

const (
	rootDir  = "root"
	treeFile = "tree.json"
)

// Open returns the image of an OCI archive and unpacks it if that was not done
// before. What other digests left in the store is removed: pods have links of
// their own.
func (s *Store) Open(archive string) (*Image, error) {
	a, err := openArchive(archive)
	if err != nil {
		return nil, fmt.Errorf("launcher image %s: %w", archive, err)
	}
	defer a.close()
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("launcher image: %w", err)
	}
	name := strings.TrimPrefix(a.digest, "sha256:")
	img, err := s.read(name, a.digest)
	if err != nil {
		// Not there yet, or damaged.
		if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
			return nil, fmt.Errorf("launcher image: remove a damaged copy: %w", err)
		}
		if err := s.unpack(a, name); err != nil {
			return nil, fmt.Errorf("launcher image %s: %w", archive, err)
		}
		if img, err = s.read(name, a.digest); err != nil {
			return nil, fmt.Errorf("launcher image %s: %w", archive, err)
		}
	}
	s.tidy(name)
	return img, nil
}

// read opens an unpacked image and checks every file.
func (s *Store) read(name, digest string) (*Image, error) {
	dir := filepath.Join(s.Dir, name)
	b, err := os.ReadFile(filepath.Join(dir, treeFile))
	if err != nil {
		return nil, err
	}
	var want []entry
	if err := json.Unmarshal(b, &want); err != nil {
		return nil, fmt.Errorf("%s: %w", treeFile, err)
	}
	root, err := os.OpenRoot(filepath.Join(dir, rootDir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rootDir, errors.Join(errDamaged, err))
	}
	defer root.Close()
	have, err := readTree(root)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(want, have) {
		return nil, errDamaged
	}
	info, err := readInfo(root)
	if err != nil {
		return nil, err
	}
	return &Image{Digest: digest, Root: root.Name(), Info: info, entries: have}, nil
}

var errDamaged = errors.New("the unpacked image is not what it was")

// tidy removes everything but the named image.
func (s *Store) tidy(name string) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Name() != name {
			_ = os.RemoveAll(filepath.Join(s.Dir, e.Name())) // it costs space, nothing else
		}
	}
}
