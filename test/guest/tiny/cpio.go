// SPDX-License-Identifier: Apache-2.0

package tiny

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/internal/ocilayout"
)

// writeCpio writes an initramfs: a cpio archive in the "newc" format that Linux
// reads (Documentation/driver-api/early-userspace/buffer-format.rst). It takes
// the same entries as an image layer. It is left uncompressed, since emulated
// CPUs unpack slowly.
func writeCpio(w io.Writer, files []ocilayout.File) error {
	files = withParents(files)
	for i, f := range files {
		mode, data := uint32(0o644), f.Content
		switch {
		case f.Dir:
			mode = 0o755
		case f.Link != "":
			mode, data = 0o777, []byte(f.Link)
		case f.Source != "":
			var err error
			if data, err = os.ReadFile(f.Source); err != nil {
				return err
			}
		}
		if f.Mode != 0 {
			mode = uint32(f.Mode.Perm())
		}
		switch {
		case f.Dir:
			mode |= 0o040000
		case f.Link != "":
			mode |= 0o120000
		default:
			mode |= 0o100000
		}
		if err := cpioEntry(w, i+1, mode, f.Path, data); err != nil {
			return err
		}
	}
	return cpioEntry(w, 0, 0, "TRAILER!!!", nil)
}

func cpioEntry(w io.Writer, inode int, mode uint32, name string, data []byte) error {
	var b bytes.Buffer
	// Inode, mode, uid, gid, links, time, size, device and special device (major,
	// minor each), length of the name, checksum.
	fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	b.WriteString(name)
	b.WriteByte(0)
	pad(&b)
	b.Write(data)
	pad(&b)
	_, err := w.Write(b.Bytes())
	return err
}

// pad fills up to a multiple of four bytes.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// withParents adds the directories that are missing and sorts, so that each
// directory comes before what it holds.
func withParents(files []ocilayout.File) []ocilayout.File {
	have := map[string]bool{}
	for _, f := range files {
		have[f.Path] = true
	}
	all := slices.Clone(files)
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "." && !have[dir]; dir = path.Dir(dir) {
			have[dir] = true
			all = append(all, ocilayout.File{Path: dir, Dir: true})
		}
	}
	slices.SortFunc(all, func(a, b ocilayout.File) int { return strings.Compare(a.Path, b.Path) })
	return all
}
