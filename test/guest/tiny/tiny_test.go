// SPDX-License-Identifier: Apache-2.0

package tiny

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/ocilayout"
)

// entries reads a newc archive.
func entries(t *testing.T, b []byte) []string {
	t.Helper()
	field := func(i int) int {
		n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	align := func(n int) int { return (n + 3) &^ 3 }
	var lines []string
	for {
		if !bytes.HasPrefix(b, []byte("070701")) {
			t.Fatalf("no magic at %q", b[:min(len(b), 20)])
		}
		mode, size, nameSize := field(1), field(6), field(11)
		name := string(b[110 : 110+nameSize-1])
		data := align(110 + nameSize)
		if name == "TRAILER!!!" {
			return lines
		}
		lines = append(lines, fmt.Sprintf("%06o %s %s", mode, name, b[data:data+size]))
		b = b[align(data+size):]
	}
}

func TestCpio(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := writeCpio(&b, []ocilayout.File{
		{Path: "sbin/x", Content: []byte("12345"), Mode: 0o755},
		{Path: "init", Link: "/bin/busybox"},
		{Path: "tmp", Dir: true},
		{Path: "etc/a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"040755 etc ", "100644 etc/a ", "120777 init /bin/busybox", "040755 sbin ", "100755 sbin/x 12345", "040755 tmp ",
	}
	if diff := cmp.Diff(want, entries(t, b.Bytes())); diff != "" {
		t.Error(diff)
	}
	if b.Len()%4 != 0 {
		t.Errorf("%d bytes are not aligned", b.Len())
	}
}

// The guest's scripts are run by no test but a boot: at least their syntax is
// checked here.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := ownFiles()
	if err != nil {
		t.Fatal(err)
	}
	scripts := 0
	for _, f := range files {
		if f.Mode != 0o755 {
			continue
		}
		scripts++
		sh := exec.Command("sh", "-n")
		sh.Stdin = bytes.NewReader(f.Content)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", f.Path, err, strings.TrimSpace(string(out)))
		}
	}
	if scripts < 8 {
		t.Errorf("%d scripts are executable, want all", scripts)
	}
}

func TestGuestdCompiles(t *testing.T) {
	t.Parallel()
	if err := compileGuestd(filepath.Join(t.TempDir(), "guestd")); err != nil {
		t.Error(err)
	}
}
