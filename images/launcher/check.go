// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

// programs are the only files in the image that may be run.
var programs = []string{
	qemu,
	path.Join(libraryDir, loader),
	strings.TrimPrefix(contract.Launcher, "/"),
}

// check refuses a list of files that breaks the image's promises: no programs
// but QEMU, its loader and the launcher, no scripts, nothing writable by others.
func check(files []ocilayout.File) error {
	for _, f := range files {
		if f.Dir || f.Link != "" {
			continue
		}
		if f.Mode&0o022 != 0 {
			return fmt.Errorf("%s is writable by others (%s)", f.Path, f.Mode)
		}
		if f.Mode&0o111 != 0 && !slices.Contains(programs, f.Path) {
			return fmt.Errorf("%s is a program (%s); only %s may be", f.Path, f.Mode, strings.Join(programs, ", "))
		}
		if f.Source == "" {
			continue
		}
		info, err := os.Stat(f.Source)
		if err != nil {
			return err
		}
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
			return fmt.Errorf("%s is setuid or setgid (%s)", f.Path, info.Mode())
		}
		start, err := head(f.Source)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(start, []byte("#!")) {
			return fmt.Errorf("%s is a script", f.Path)
		}
	}
	return nil
}

// head reads a file's first two bytes, or fewer.
func head(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 2)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return b[:n], nil
}

// checkStatic refuses a launcher binary that would need libraries.
func checkStatic(binary string) error {
	f, err := elf.Open(binary)
	if err != nil {
		return fmt.Errorf("the launcher's binary (build it first, with CGO_ENABLED=0): %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically; build it with CGO_ENABLED=0", binary)
		}
	}
	return nil
}
