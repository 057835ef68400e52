// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package renew

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/launcherimage"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

// qemuPackage is the package whose version tells one image from another.
const qemuPackage = "qemu-system-x86"

// builtImages is where the images of this build are.
func builtImages() string { return filepath.Join(filepath.Dir(box.Bin), "images") }

// newImages makes a directory of images in which the launcher's has another
// QEMU: of a version whose name ends with suffix, and with what change makes of
// the program. It returns the directory and the name of the image in a pod.
func newImages(t *testing.T, suffix string, change func(t *testing.T, qemu []byte) []byte) (dir, name string) {
	t.Helper()
	dir = t.TempDir()
	img, err := (&launcherimage.Store{Dir: filepath.Join(dir, "unpacked")}).Open(filepath.Join(builtImages(), "launcher.tar"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := ocilayout.FromDir(img.Root)
	if err != nil {
		t.Fatal(err)
	}
	info := img.Info
	info.Packages[qemuPackage] += suffix
	description, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		switch "/" + f.Path {
		case contract.QEMU:
			b, err := os.ReadFile(f.Source)
			if err != nil {
				t.Fatal(err)
			}
			files[i].Source, files[i].Content = "", change(t, b)
		case contract.ImageInfoFile:
			files[i].Source, files[i].Content = "", description
		}
	}
	layer, err := ocilayout.NewLayer(filepath.Join(dir, "layer"), "changed", files, ocilayout.Uncompressed)
	if err != nil {
		t.Fatal(err)
	}
	made, err := ocilayout.New(ocilayout.Config{
		Entrypoint: []string{contract.Launcher}, Cmd: []string{"run"}, User: "107:107", StopSignal: "SIGWINCH",
	}, layer)
	if err != nil {
		t.Fatal(err)
	}
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := ocilayout.Save(filepath.Join(images, "launcher.tar"), "skerry.dev/launcher:"+strings.Trim(suffix, "+"), made); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(builtImages(), "pause.tar"), filepath.Join(images, "pause.tar")); err != nil {
		t.Fatal(err)
	}
	digest, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return images, digest.Hex[:contract.NextDigits]
}

// renamed is a QEMU that works and is not the same file.
func renamed(_ *testing.T, qemu []byte) []byte {
	return append(slices.Clone(qemu), "another QEMU"...)
}

// pretender is a program that passes for QEMU until it is given a machine: then it
// hangs, or ends at once if the machine's name has "exit" in it.
func pretender(machine string) func(t *testing.T, qemu []byte) []byte {
	return func(t *testing.T, qemu []byte) []byte {
		t.Helper()
		_, rest, ok := bytes.Cut(qemu, []byte("QEMU emulator version "))
		if !ok {
			t.Fatal("QEMU has no text that tells its version")
		}
		version, _, _ := bytes.Cut(rest, []byte(" "))
		dir := t.TempDir()
		code := fmt.Sprintf(`#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-version"))
			return puts("QEMU emulator version %s (pretender)") < 0;
		if (!strcmp(argv[i], "help"))
			return puts(%q) < 0;
		if (strstr(argv[i], "guest=") && strstr(argv[i], "exit"))
			return fprintf(stderr, "pretender: no\n") < 0 ? 1 : 3;
	}
	for (;;)
		pause();
}
`, version, machine+" x")
		if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
		cc := exec.Command("gcc", "-Wall", "-Werror", "-o", "p", "p.c")
		cc.Dir = dir
		if out, err := cc.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		b, err := os.ReadFile(filepath.Join(dir, "p"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
