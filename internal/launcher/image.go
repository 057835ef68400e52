// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/qcow2"
)

// imageDiskDir is the directory of an image in which its disk is, as in KubeVirt.
const imageDiskDir = "disk"

// beneath opens a path of an image volume. Links are followed as long as they stay
// in the image: QEMU will follow them once more, and the volume is read-only.
func beneath(dir, name string, flags int) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("image volume %s is not mounted", path.Base(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("open image volume %s: %w", dir, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		// O_NONBLOCK so that a FIFO does not hold us up.
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), path.Join(dir, name)), nil
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("/%s is not in the image", name)
	case errors.Is(err, unix.EXDEV):
		return nil, fmt.Errorf("/%s is a link that leads out of the image (absolute links do)", name)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("/%s cannot be read by uid %d: make it readable for all in the image", name, os.Getuid())
	}
	return nil, fmt.Errorf("open /%s of the image: %w", name, err)
}

// checkFile checks a file that QEMU will open by its path.
func checkFile(b contract.Backing) error {
	f, err := beneath(b.Dir, b.Path, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("%s: %w", path.Base(b.Dir), err)
	}
	defer f.Close()
	if err := regular(f); err != nil {
		return fmt.Errorf("%s: /%s is %w", path.Base(b.Dir), b.Path, err)
	}
	return nil
}

// findImage finds and judges the disk image in an image volume.
func findImage(b contract.Backing) (string, qcow2.Info, error) {
	var none qcow2.Info
	name := strings.TrimPrefix(b.Path, "/")
	if name == "" {
		only, err := onlyFile(b.Dir)
		if err != nil {
			return "", none, err
		}
		name = imageDiskDir + "/" + only
	}
	f, err := beneath(b.Dir, name, unix.O_RDONLY)
	if err != nil {
		return "", none, err
	}
	defer f.Close()
	if err := regular(f); err != nil {
		return "", none, fmt.Errorf("/%s of the image is %w", name, err)
	}
	st, err := f.Stat()
	if err != nil {
		return "", none, err
	}
	info, err := qcow2.Vet(f, st.Size())
	if err != nil {
		return "", none, fmt.Errorf("/%s of the image: %w", name, err)
	}
	return path.Join(b.Dir, name), info, nil
}

// onlyFile is the name of the one file in the image's directory "disk".
func onlyFile(dir string) (string, error) {
	d, err := beneath(dir, imageDiskDir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer d.Close()
	const most = 16 // enough to see that there are several
	entries, err := d.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read /%s of the image: %w", imageDiskDir, err)
	}
	switch len(entries) {
	case 0:
		return "", fmt.Errorf("/%s of the image is empty: it must hold one qcow2 or raw file", imageDiskDir)
	case 1:
		return entries[0], nil
	}
	return "", fmt.Errorf("/%s of the image holds several files (%q): name one in containerDisk.path", imageDiskDir, entries)
}
