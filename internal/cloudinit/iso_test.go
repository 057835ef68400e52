// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// The image is read back with a library that had no part in writing it. (That
// Linux mounts it is seen wherever a guest of the end-to-end tests is configured.)
func TestISOIsRead(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{
		"meta-data":      []byte(metaData0),
		"user-data":      bytes.Repeat([]byte("0123456789abcdef"), 1000), // several sectors
		"network-config": make([]byte, sector),                           // exactly one
		"empty":          nil,
	}
	path := filepath.Join(t.TempDir(), "seed.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteISO(f, Label, files); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil || st.Size()%sector != 0 {
		t.Fatalf("size %d, %v", st.Size(), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	fs, err := iso9660.Read(b, st.Size(), 0, sector)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(fs.Label()); got != Label {
		t.Errorf("label %q", got)
	}
	for name, want := range files {
		f, err := fs.OpenFile("/"+name, os.O_RDONLY)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
}

func TestISOIsReproducible(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"a": []byte("1"), "b": []byte("2"), "c": []byte("3"), "d": []byte("4")}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := WriteISO(b, Label, files); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files gave different images")
	}
}

func TestISORefuses(t *testing.T) {
	t.Parallel()
	many := map[string][]byte{}
	for _, c := range "abcdefghi" {
		many[string(c)] = nil
	}
	for name, c := range map[string]struct {
		label string
		files map[string][]byte
		want  string
	}{
		"no label":   {"", nil, "label"},
		"long label": {strings.Repeat("x", 17), nil, "label"},
		"many files": {Label, many, "9 files"},
		"path":       {Label, map[string][]byte{"a/b": nil}, `file name "a/b"`},
		"parent":     {Label, map[string][]byte{"..": nil}, `file name ".."`},
		"long name":  {Label, map[string][]byte{strings.Repeat("x", 65): nil}, "file name"},
		"large":      {Label, map[string][]byte{"a": make([]byte, maxISOSize), "b": {1}}, "more than"},
	} {
		if err := WriteISO(io.Discard, c.label, c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// The longest records of all still fit in the directory's one sector.
func TestISODirectoryFits(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{}
	for i := range maxISOFiles {
		files[strings.Repeat("n", maxISOFileName-1)+string(rune('a'+i))] = []byte("x")
	}
	list, _, err := layOut(Label, files)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(directory(list)); n > sector {
		t.Errorf("the directory has %d bytes", n)
	}
	if n := len(jolietDirectory(list)); n > sector {
		t.Errorf("the Joliet directory has %d bytes", n)
	}
}
