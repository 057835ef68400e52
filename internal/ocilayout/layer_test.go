// SPDX-License-Identifier: Apache-2.0

package ocilayout

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listing reads a layer back, one line per entry.
func listing(t *testing.T, l *Layer) []string {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var lines []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s has the time %s", h.Name, h.ModTime)
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%04o %d:%d %s %s%s", h.Mode, h.Uid, h.Gid, h.Name, h.Linkname, content), " "))
	}
}

func TestLayer(t *testing.T) {
	t.Parallel()
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := []File{
		{Path: "usr/lib/b", Source: source},
		{Path: "usr/bin/a", Content: []byte("x"), Mode: 0o755},
		{Path: "lib", Link: "usr/lib"},
		{Path: "tmp", Dir: true, Mode: 0o777 | os.ModeSticky},
		{Path: "etc/empty"},
		{Path: "home/q", Dir: true, Mode: 0o700, UID: 107, GID: 107},
	}
	want := []string{
		"0755 0:0 etc/", "0644 0:0 etc/empty", "0755 0:0 home/", "0700 107:107 home/q/", "0777 0:0 lib usr/lib",
		"1777 0:0 tmp/", "0755 0:0 usr/", "0755 0:0 usr/bin/", "0755 0:0 usr/bin/a x",
		"0755 0:0 usr/lib/", "0644 0:0 usr/lib/b from a file",
	}
	for _, c := range []Compression{Uncompressed, Gzip} {
		l, err := NewLayer(filepath.Join(t.TempDir(), "blob"), "test", files, c)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, listing(t, l)); diff != "" {
			t.Errorf("compression %d: %s", c, diff)
		}
		if want := int64(len("from a file") + len("x")); l.Unpacked != want {
			t.Errorf("unpacked %d bytes, want %d", l.Unpacked, want)
		}
	}
}

func TestSameFilesSameDigest(t *testing.T) {
	t.Parallel()
	one := []File{{Path: "a/b", Content: []byte("1")}, {Path: "a/c", Content: []byte("2")}}
	two := []File{{Path: "a/c", Content: []byte("2")}, {Path: "a", Dir: true}, {Path: "a/b", Content: []byte("1")}}
	for _, c := range []Compression{Uncompressed, Gzip} {
		var digests []string
		for _, files := range [][]File{one, two} {
			l, err := NewLayer(filepath.Join(t.TempDir(), "blob"), "test", files, c)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, fmt.Sprint(l.digest, l.diffID, l.size))
		}
		if digests[0] != digests[1] {
			t.Errorf("compression %d: %s and %s", c, digests[0], digests[1])
		}
	}
}

func TestLayerRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		files []File
		want  string
	}{
		{"absolute path", []File{{Path: "/a"}}, `path "/a" is not relative and clean`},
		{"dots", []File{{Path: "a/../b"}}, `path "a/../b" is not relative and clean`},
		{"root", []File{{Path: "."}}, `path "." is not relative and clean`},
		{"empty", []File{{}}, `path "" is not relative and clean`},
		{"twice", []File{{Path: "a"}, {Path: "a", Dir: true}}, "a is listed twice"},
		{"two kinds", []File{{Path: "a", Link: "b", Content: []byte("c")}}, "more than one of"},
		{"setuid", []File{{Path: "a", Mode: 0o755 | os.ModeSetuid}}, "more than permission bits"},
		{"sticky file", []File{{Path: "a", Mode: 0o755 | os.ModeSticky}}, "more than permission bits"},
		{"below a file", []File{{Path: "a", Content: []byte("x")}, {Path: "a/b"}}, "a/b is below a, which is not a directory"},
		{"below a link", []File{{Path: "a", Link: "/etc"}, {Path: "a/b"}}, "a/b is below a, which is not a directory"},
		{"no source", []File{{Path: "a", Source: "/nonexistent/x"}}, "no such file"},
		{"directory as source", []File{{Path: "a", Source: "/"}}, "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewLayer(filepath.Join(t.TempDir(), "blob"), "test", tt.files, Uncompressed)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestFromDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"d/program": 0o700, "data": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("d/program", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	files, err := FromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLayer(filepath.Join(t.TempDir(), "blob"), "test", files, Uncompressed)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"0755 0:0 d/", "0755 0:0 d/program d/program", "0644 0:0 data data", "0777 0:0 link d/program"}
	// Sorted by path: "d/program" comes before "data".
	if diff := cmp.Diff(want, listing(t, l)); diff != "" {
		t.Error(diff)
	}

	if err := os.Chmod(filepath.Join(dir, "data"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if _, err := FromDir(dir); err == nil || !strings.Contains(err.Error(), "setuid") {
		t.Errorf("setuid file: error %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FromDir(dir); err == nil || !strings.Contains(err.Error(), "layers take directories, regular files and symbolic links") {
		t.Errorf("fifo: error %v", err)
	}
}
