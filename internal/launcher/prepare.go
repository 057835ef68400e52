// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/qcow2"
)

// maxMachineFile bounds machine.json in bytes; a machine with every possible
// device has less than 200 KiB.
const maxMachineFile = 4 << 20

// maxCopy bounds a copied file in bytes; UEFI's variables have 528 KiB.
const maxCopy = 64 << 20

// prepare makes everything that machine.json names.
func prepare(ctx context.Context, c Config) ([]inherited, contract.Machine, error) {
	m, err := readMachine(c)
	if err != nil {
		return nil, m, err
	}
	for _, f := range m.Files {
		if err := checkFile(f); err != nil {
			return nil, m, err
		}
	}
	for _, d := range m.Disks {
		if err := makeDisk(ctx, c, d); err != nil {
			return nil, m, fmt.Errorf("disk %s: %w", filepath.Base(d.Path), err)
		}
	}
	for _, f := range m.Copies {
		if err := makeCopy(ctx, c, f); err != nil {
			return nil, m, fmt.Errorf("copy %s to %s: %w", f.From, f.To, err)
		}
	}
	claims, err := openClaims(ctx, c, m.Claims)
	if err != nil {
		return nil, m, err
	}
	if err := failpoint.Hit(ctx, "launcher.taps.before-open"); err != nil {
		return nil, m, err
	}
	taps, err := openTaps(c.TunDevice, m.Taps)
	if err != nil {
		return nil, m, err
	}
	fds := append(taps, claims...)
	return fds, m, lift(fds)
}

// readMachine reads machine.json. It is strict: a word that this launcher does not
// know is something that it would leave undone.
func readMachine(c Config) (contract.Machine, error) {
	var m contract.Machine
	path := filepath.Join(c.MachineDir, contract.MachineFile)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return m, err
	}
	defer f.Close()
	if err := regular(f); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxMachineFile+1))
	if err != nil {
		return m, err
	}
	if len(b) > maxMachineFile {
		return m, fmt.Errorf("%s: larger than %d bytes", path, maxMachineFile)
	}
	// The version first: it explains unknown words.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	if v.Version < 1 || v.Version > contract.Version {
		return m, fmt.Errorf("%s: version %d: this launcher knows 1 to %d", path, v.Version, contract.Version)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	if len(m.Argv) == 0 || m.Argv[0] != c.QEMU {
		return m, fmt.Errorf("%s: argv must begin with %s", path, c.QEMU)
	}
	if m.Next != "" && !contract.IsNext(m.Next) {
		return m, fmt.Errorf("%s: next: %q: must be the first %d digits of a digest", path, m.Next, contract.NextDigits)
	}
	return m, nil
}

func regular(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("not a regular file but %s", st.Mode().Type())
	}
	return nil
}

// inDisks checks that a file to be made is directly in the disks' directory.
func inDisks(c Config, path string) error {
	if filepath.Dir(path) != c.DiskDir || filepath.Clean(path) != path || strings.HasPrefix(filepath.Base(path), ".") {
		return fmt.Errorf("%s is not a file in %s", path, c.DiskDir)
	}
	return nil
}

// makeDisk makes a qcow2 file unless it is there: after a restart of the container
// the guest's data must still be in it.
func makeDisk(ctx context.Context, c Config, d contract.Disk) error {
	if err := inDisks(c, d.Path); err != nil {
		return err
	}
	image := qcow2.Image{Size: d.Size}
	if b := d.Backing; b != nil {
		path, info, err := findImage(*b)
		if err != nil {
			return err
		}
		image.Backing, image.BackingFormat = path, info.Format
		if image.Size == 0 {
			image.Size = info.Size
		}
		if image.Size < info.Size {
			return fmt.Errorf("size of %d bytes is smaller than the image's %d", image.Size, info.Size)
		}
	}
	if err := failpoint.Hit(ctx, "launcher.disk.before-make"); err != nil {
		return err
	}
	head, length, err := image.Encode()
	if err != nil {
		return err
	}
	return whole(ctx, d.Path, func(f *os.File) error {
		if _, err := f.Write(head); err != nil {
			return err
		}
		return f.Truncate(length)
	})
}

// makeCopy copies a file of the launcher image unless the copy is there.
func makeCopy(ctx context.Context, c Config, k contract.Copy) error {
	if err := inDisks(c, k.To); err != nil {
		return err
	}
	from, err := os.Open(k.From)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the launcher image does not have it: use one with the UEFI layer: %w", err)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	return whole(ctx, k.To, func(f *os.File) error {
		n, err := io.Copy(f, io.LimitReader(from, maxCopy+1))
		if err == nil && n > maxCopy {
			err = fmt.Errorf("larger than %d bytes", maxCopy)
		}
		return err
	})
}

// whole makes a file that nobody ever sees half written: it gets its name when it
// is complete. One that exists is left alone. Nothing is flushed to the disk:
// these files do not outlive the node's boot.
func whole(ctx context.Context, path string, fill func(*os.File) error) error {
	if st, err := os.Lstat(path); err == nil {
		if !st.Mode().IsRegular() {
			return fmt.Errorf("%s exists and is not a regular file", path)
		}
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	// One that was left half made by a launcher that was killed.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = fill(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = failpoint.Hit(ctx, "launcher.disk.before-rename")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}
