// SPDX-License-Identifier: Apache-2.0

package launcherimage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// staging is where an image is put together in a pod's volume.
const staging = ".new"

// Place puts the image into the volume of a pod, as a directory called Name, by
// hard links where the volume is on the same mount, else by copies. One that is
// there is left alone: it got its name when it was complete.
func (i *Image) Place(volume *os.Root) error {
	if st, err := volume.Lstat(i.Name()); err == nil && st.IsDir() {
		return nil
	}
	if err := volume.RemoveAll(staging); err != nil {
		return fmt.Errorf("place launcher image: %w", err)
	}
	if err := volume.Mkdir(staging, 0o755); err != nil {
		return fmt.Errorf("place launcher image: %w", err)
	}
	err := i.fill(volume)
	if err == nil {
		err = volume.Rename(staging, i.Name())
	}
	if err != nil {
		_ = volume.RemoveAll(staging)
		return fmt.Errorf("place launcher image %s: %w", i.Name(), err)
	}
	return nil
}

func (i *Image) fill(volume *os.Root) error {
	// Not through a path of the volume: its directories are opened one by one.
	root, err := volume.OpenRoot(staging)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := own(root, ".", 0o755); err != nil {
		return err
	}
	for _, e := range i.entries {
		if err := i.put(root, e); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
	}
	return nil
}

func (i *Image) put(root *os.Root, e entry) error {
	switch {
	case e.Dir:
		if err := root.Mkdir(e.Path, e.mode()); err != nil {
			return err
		}
		// The volume hands its group and set-group-ID bit down.
		return own(root, e.Path, e.mode())
	case e.Link != "":
		return root.Symlink(e.Link, e.Path)
	}
	dir, err := root.Open(path.Dir(e.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Linkat(unix.AT_FDCWD, filepath.Join(i.Root, e.Path), int(dir.Fd()), path.Base(e.Path), 0)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK), errors.Is(err, unix.ENOTSUP):
		return i.copy(root, e)
	}
	return err
}

func (i *Image) copy(root *os.Root, e entry) error {
	from, err := os.Open(filepath.Join(i.Root, e.Path))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, e.Size+1)); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != e.SHA256 {
		return errDamaged
	}
	if err := to.Close(); err != nil {
		return err
	}
	return own(root, e.Path, e.mode())
}

// own gives a file to root, and that mode.
func own(root *os.Root, name string, mode fs.FileMode) error {
	if err := root.Lchown(name, os.Getuid(), os.Getgid()); err != nil {
		return err
	}
	return root.Chmod(name, mode)
}

// Placed are the images in a pod's volume, by Name.
func Placed(volume *os.Root) ([]string, error) {
	f, err := volume.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var out []string
	for _, n := range names {
		if contract.IsNext(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// Tidy removes from a pod's volume all images but those in keep, and what was
// left half placed.
func Tidy(volume *os.Root, keep ...string) error {
	names, err := Placed(volume)
	if err != nil {
		return fmt.Errorf("tidy the volume of launcher images: %w", err)
	}
	errs := []error{volume.RemoveAll(staging)}
	kept := " " + strings.Join(keep, " ") + " "
	for _, n := range names {
		if !strings.Contains(kept, " "+n+" ") {
			errs = append(errs, volume.RemoveAll(n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tidy the volume of launcher images: %w", err)
	}
	return nil
}
