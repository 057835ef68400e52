// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// The image is written by hand rather than with a library: the one at hand builds
// it from files in a temporary directory, where Secrets must not be, and with
// their times and owners. The format is ECMA-119, with Rock Ridge (RRIP 1.09, for
// Linux) and Joliet (for Windows) names of the few files in its one directory.
const (
	sector = 2048

	primarySector     = 16
	jolietSector      = 17
	terminatorSector  = 18
	pathTableSector   = 19 // and 20: little and big endian
	jolietTableSector = 21 // and 22
	rootSector        = 23
	jolietRootSector  = 24
	firstFileSector   = 25

	pathTableSize = 10 // of the root directory alone
)

// Limits of WriteISO.
const (
	maxISOFiles    = 8       // whose records fit in one sector
	maxISOFileName = 64      // a Joliet name
	maxISOSize     = 8 << 20 // bytes of all files
)

type isoFile struct {
	name   string
	short  string // in the alphabet of ECMA-119, unique
	data   []byte
	extent uint32
}

// WriteISO writes a read-only image with these files and that label (at most 16
// ASCII characters). The same files give the same bytes.
func WriteISO(w io.Writer, label string, files map[string][]byte) error {
	list, sectors, err := layOut(label, files)
	if err != nil {
		return fmt.Errorf("ISO image: %w", err)
	}
	head := make([]byte, firstFileSector*sector)
	at := func(n int) []byte { return head[n*sector : (n+1)*sector] }
	volumeDescriptor(at(primarySector), false, label, sectors)
	volumeDescriptor(at(jolietSector), true, label, sectors)
	copy(at(terminatorSector), "\xffCD001\x01")
	for i, root := range []uint32{rootSector, jolietRootSector} {
		pathTable(at(pathTableSector+2*i), binary.LittleEndian, root)
		pathTable(at(pathTableSector+2*i+1), binary.BigEndian, root)
	}
	copy(at(rootSector), directory(list))
	copy(at(jolietRootSector), jolietDirectory(list))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, f := range list {
		padded := append(slices.Clip(f.data), make([]byte, padding(len(f.data)))...)
		if _, err := w.Write(padded); err != nil {
			return err
		}
	}
	return nil
}

func padding(n int) int { return (sector - n%sector) % sector }

// layOut checks the files and gives each its place.
func layOut(label string, files map[string][]byte) ([]isoFile, uint32, error) {
	if label == "" || len(label) > 16 || !printable(label) {
		return nil, 0, fmt.Errorf("label %q: must be 1 to 16 printable ASCII characters", label)
	}
	if len(files) > maxISOFiles {
		return nil, 0, fmt.Errorf("%d files are more than the limit of %d", len(files), maxISOFiles)
	}
	var list []isoFile
	size := 0
	for name, data := range files {
		if name == "" || len(name) > maxISOFileName || !printable(name) || strings.ContainsAny(name, "/*:;?\\") || strings.Trim(name, ".") == "" {
			return nil, 0, fmt.Errorf("file name %q: must be 1 to %d printable ASCII characters without / * : ; ? \\", name, maxISOFileName)
		}
		if size += len(data); len(data) > maxISOSize || size > maxISOSize {
			return nil, 0, fmt.Errorf("the files have more than %d bytes", maxISOSize)
		}
		list = append(list, isoFile{name: name, data: data})
	}
	slices.SortFunc(list, func(a, b isoFile) int { return strings.Compare(a.name, b.name) })
	next := uint32(firstFileSector)
	for i := range list {
		list[i].extent = next
		next += uint32((len(list[i].data) + sector - 1) / sector)
		// The short name is what a reader sees that knows no extension. The digit
		// in front keeps it unique, and in the order that the standard wants.
		list[i].short = fmt.Sprintf("%d%s.;1", i, shortName(list[i].name))
	}
	return list, next, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// shortName is at most seven characters of A-Z, 0-9 and _.
func shortName(name string) string {
	up := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
	return up[:min(len(up), 7)]
}

// both writes a number in both byte orders, as most of the format's numbers are.
func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func ucs2(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}

// volumeDescriptor fills a primary or, for Joliet, supplementary descriptor
// (ECMA-119 8.4 and 8.5).
func volumeDescriptor(b []byte, joliet bool, label string, sectors uint32) {
	text := func(from, to int, s string) {
		field := b[from:to]
		if joliet {
			for i := 0; i+1 < len(field); i += 2 {
				field[i], field[i+1] = 0, ' '
			}
			copy(field, ucs2(s))
			return
		}
		copy(field, strings.Repeat(" ", len(field)))
		copy(field, s)
	}
	b[0] = 1
	root, table := uint32(rootSector), uint32(pathTableSector)
	if joliet {
		b[0] = 2
		root, table = jolietRootSector, jolietTableSector
		copy(b[88:], "%/E") // UCS-2, level 3
	}
	copy(b[1:], "CD001\x01")
	text(8, 40, "")
	text(40, 72, label)
	both32(b[80:], sectors)
	both16(b[120:], 1) // one volume
	both16(b[124:], 1) // of one
	both16(b[128:], sector)
	both32(b[132:], pathTableSize)
	binary.LittleEndian.PutUint32(b[140:], table)
	binary.BigEndian.PutUint32(b[148:], table+1)
	copy(b[156:190], record("\x00", root, sector, true, nil))
	text(190, 813, "") // names of publisher and so on
	for _, date := range []int{813, 830, 847, 864} {
		copy(b[date:], strings.Repeat("0", 16)) // not given
	}
	b[881] = 1
}

func pathTable(b []byte, order binary.ByteOrder, root uint32) {
	b[0] = 1 // length of the root's name
	order.PutUint32(b[2:], root)
	order.PutUint16(b[6:], 1) // its own parent
}

// record is a directory record (ECMA-119 9.1) with its system use area.
func record(id string, extent uint32, size int, dir bool, use []byte) []byte {
	n := 33 + len(id)
	n += n % 2
	b := make([]byte, n, n+len(use)+1)
	b = append(b, use...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	both32(b[2:], extent)
	both32(b[10:], uint32(size))
	copy(b[18:], []byte{80, 1, 1, 0, 0, 0, 0}) // 1980-01-01: nobody's business when it was made
	if dir {
		b[25] = 2
	}
	both16(b[28:], 1)
	b[32] = byte(len(id))
	copy(b[33:], id)
	return b
}

// directory is the root directory with Rock Ridge entries.
func directory(files []isoFile) []byte {
	const dirMode, fileMode = 0o040555, 0o100444
	sp := []byte{'S', 'P', 7, 1, 0xbe, 0xef, 0}
	er := append([]byte{'E', 'R', 18, 1, 10, 0, 0, 1}, "RRIP_1991A"...)
	b := record("\x00", rootSector, sector, true, slices.Concat(sp, posix(dirMode, 2), er))
	b = append(b, record("\x01", rootSector, sector, true, posix(dirMode, 2))...)
	for _, f := range files {
		nm := append([]byte{'N', 'M', byte(5 + len(f.name)), 1, 0}, f.name...)
		b = append(b, record(f.short, f.extent, len(f.data), false, slices.Concat(posix(fileMode, 1), nm))...)
	}
	return b
}

// posix is a PX entry: mode, links, and root as the owner.
func posix(mode, links uint32) []byte {
	b := make([]byte, 36)
	copy(b, []byte{'P', 'X', 36, 1})
	both32(b[4:], mode)
	both32(b[12:], links)
	return b
}

func jolietDirectory(files []isoFile) []byte {
	b := record("\x00", jolietRootSector, sector, true, nil)
	b = append(b, record("\x01", jolietRootSector, sector, true, nil)...)
	for _, f := range files {
		b = append(b, record(string(ucs2(f.name)), f.extent, len(f.data), false, nil)...)
	}
	return b
}
