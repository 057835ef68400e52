// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "log")
	l, err := Open(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"12345\n", "678\n", "new\n"} {
		if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := read(t, path+".1"); got != "12345\n678\n" {
		t.Errorf("old file: %q", got)
	}
	if got := read(t, path); got != "new\n" {
		t.Errorf("file: %q", got)
	}
	// The size goes on from where an earlier process stopped.
	again, err := Open(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Write([]byte("1234567\n")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "1234567\n" {
		t.Errorf("after the second start: %q", got)
	}
}

func TestFileKeepsALineThatIsTooLong(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := Open(path, 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("longer than four\n")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "longer than four\n" {
		t.Errorf("got %q", got)
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := Bound(path, 8); err != nil {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Bound(path, 8); err != nil || read(t, path) != "12345678" {
		t.Errorf("small file: %v, %q", err, read(t, path))
	}
	writer, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := writer.WriteString("9abc"); err != nil {
		t.Fatal(err)
	}
	if err := Bound(path, 8); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "more" {
		t.Errorf("after the cut: %q", strings.ReplaceAll(got, "\x00", "0"))
	}
	if got := read(t, path+".1"); got != "9abc" {
		t.Errorf("kept: %q", got)
	}
}
