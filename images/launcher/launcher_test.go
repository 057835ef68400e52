// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

func TestUpstreamVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1:11.1.3+ds-1~bpo13+1":   "11.1.3",
		"1:10.0.13+ds-0+deb13u1":  "10.0.13",
		"9.2":                     "9.2",
		"":                        "",
		"1:":                      "",
		"1:x11":                   "",
		"1:11.2.0~rc1+ds-1~bpo13": "11.2.0",
	} {
		got, err := upstream(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("upstream(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

// fakeRoot is a root file system with programs that gcc made: a program that
// needs liba, which needs libb, which is behind a link.
func fakeRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	lib := filepath.Join(root, libraryDir)
	for _, dir := range []string{lib, filepath.Join(root, "usr/bin"), filepath.Join(root, "usr/lib64"), filepath.Join(root, "usr/share")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, code := range map[string]string{"b.c": "int b(void){return 1;}", "a.c": "int b(void);int a(void){return b();}", "main.c": "int a(void);int main(void){return a();}"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libb.so.1", "-o", "libb.so.1.2.3", filepath.Join(root, "b.c")},
		{"-shared", "-fPIC", "-nostdlib", "-Wl,-soname,liba.so", "-o", "liba.so", filepath.Join(root, "a.c"), "-L.", "-l:libb.so.1.2.3"},
		{"-nostdlib", "-Wl,-e,main", "-Wl,--allow-shlib-undefined", "-o", filepath.Join(root, "usr/bin/program"), filepath.Join(root, "main.c"), "-L.", "-l:liba.so"},
	} {
		cmd := exec.Command("gcc", args...)
		cmd.Dir = lib
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc %v: %v\n%s", args, err, out)
		}
	}
	if err := os.Symlink("libb.so.1.2.3", filepath.Join(lib, "libb.so.1")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestClosure(t *testing.T) {
	t.Parallel()
	root := fakeRoot(t)
	got, err := closure(root, []string{"usr/bin/program"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{libraryDir + "/liba.so": true, libraryDir + "/libb.so.1": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(filepath.Join(root, libraryDir, "libb.so.1")); err != nil {
		t.Fatal(err)
	}
	_, err = closure(root, []string{"usr/bin/program"})
	if err == nil || !strings.Contains(err.Error(), "usr/lib/x86_64-linux-gnu/liba.so needs libb.so.1: not found in") {
		t.Errorf("missing library: error %v", err)
	}
}

func TestRealFileStaysInside(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := realFile(root, "out"); err == nil || !strings.Contains(err.Error(), "leads out of the root file system") {
		t.Errorf("error %v", err)
	}
	if _, err := realFile(root, "."); err == nil {
		t.Error("a directory was taken for a file")
	}
}

func TestCutPutsLibrariesIntoTheLowestPart(t *testing.T) {
	t.Parallel()
	root := fakeRoot(t)
	for name, content := range map[string]string{libraryDir + "/" + loader: "loader", "usr/share/data": "d"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cuts, err := cut(&debroot.Root{Dir: root}, []part{
		{name: "base", programs: []string{"usr/bin/program"}, data: []string{"usr/share/data"}},
		{name: "more", modules: []string{libraryDir + "/liba.so"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got [2][]string
	for i, files := range cuts {
		for _, f := range files {
			if f.Link == "" {
				got[i] = append(got[i], f.Path)
			}
		}
	}
	for _, p := range []string{"usr/bin/program", "usr/share/data", libraryDir + "/liba.so", libraryDir + "/libb.so.1", libraryDir + "/" + loader} {
		if !strings.Contains(strings.Join(got[0], "\n"), p) {
			t.Errorf("base has %q, not %s", got[0], p)
		}
	}
	if len(got[1]) != 0 {
		t.Errorf("the second part repeats %q", got[1])
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, setuid, plain := filepath.Join(dir, "script"), filepath.Join(dir, "setuid"), filepath.Join(dir, "plain")
	for name, content := range map[string]string{script: "#!/bin/sh\n", setuid: "x", plain: ""} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(setuid, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file ocilayout.File
		want string
	}{
		{ocilayout.File{Path: qemu, Source: plain, Mode: 0o755}, ""},
		{ocilayout.File{Path: "etc/passwd", Content: []byte("x")}, ""},
		{ocilayout.File{Path: "tmp", Dir: true, Mode: 0o777 | os.ModeSticky}, ""},
		{ocilayout.File{Path: "bin/sh", Source: plain, Mode: 0o755}, "bin/sh is a program"},
		{ocilayout.File{Path: "usr/bin/busybox", Content: []byte{}, Mode: 0o755}, "usr/bin/busybox is a program"},
		{ocilayout.File{Path: "usr/share/x", Source: script}, "usr/share/x is a script"},
		{ocilayout.File{Path: qemu, Source: setuid, Mode: 0o755}, "is setuid or setgid"},
		{ocilayout.File{Path: "etc/x", Content: []byte("x"), Mode: 0o666}, "writable by others"},
	} {
		err := check([]ocilayout.File{tt.file})
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want %q", tt.file.Path, err, tt.want)
		}
	}
}

func TestLauncherMustBeStatic(t *testing.T) {
	t.Parallel()
	root := fakeRoot(t)
	err := checkStatic(filepath.Join(root, libraryDir, "liba.so"))
	if err != nil {
		t.Errorf("without an interpreter: %v", err)
	}
	dynamic := filepath.Join(root, "usr/bin/program")
	if err := checkStatic(dynamic); err == nil || !strings.Contains(err.Error(), "linked dynamically") {
		t.Errorf("dynamic program: error %v", err)
	}
	if err := checkStatic("/nonexistent"); err == nil || !strings.Contains(err.Error(), "build it first") {
		t.Errorf("missing program: error %v", err)
	}
}

func TestUnknownSuite(t *testing.T) {
	t.Parallel()
	err := Build(t.Context(), Options{Suite: "bookworm"})
	if err == nil || err.Error() != `QEMU_SUITE="bookworm": it can be "trixie-backports" or "trixie"` {
		t.Errorf("error %v", err)
	}
}

// Two recipes for one image must not drift apart.
func TestDockerfileHasTheSameFiles(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "$lib/", libraryDir+"/")
	listed := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n\"=", r) }) {
		if strings.HasPrefix(word, "usr/share/") || strings.HasPrefix(word, libraryDir+"/qemu/") {
			listed[word] = true
		}
	}
	delete(listed, "usr/share/skerry")
	want := map[string]bool{}
	for _, p := range parts {
		for _, f := range append(p.modules, p.data...) {
			want[f] = true
		}
	}
	delete(listed, "usr/share/skerry/image.json")
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("parts.go (-) and Dockerfile (+) differ:\n%s", diff)
	}
	for _, account := range accounts() {
		if account.Content == nil {
			continue
		}
		if line := strings.ReplaceAll(string(account.Content), "\n", `\n`); !strings.Contains(text, line) {
			t.Errorf("the Dockerfile does not write %s as %q", account.Path, line)
		}
	}
}
