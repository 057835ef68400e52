// SPDX-License-Identifier: Apache-2.0

// Package pause builds the image of the pods' first process. The process is a
// few lines of C without a C library; see src/pause.c.
package pause

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/skerry-dev/skerry/images/stamp"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

//go:embed pause.go src/pause.c
var recipe embed.FS

// Image is the image's name without its tag.
const Image = "skerry.dev/pause"

// Build writes the image archive to out, unless it is there already.
func Build(version, out string) error {
	key := stamp.NewKey("pause").Text(version)
	if err := key.FS(recipe); err != nil {
		return err
	}
	if stamp.Fresh(key, out) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "pause-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, "pause")
	if err := compile(tmp, binary); err != nil {
		return err
	}
	layer, err := ocilayout.NewLayer(filepath.Join(tmp, "layer"), "pause", []ocilayout.File{
		{Path: "pause", Source: binary, Mode: 0o755},
	}, ocilayout.Uncompressed)
	if err != nil {
		return err
	}
	img, err := ocilayout.New(ocilayout.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}, layer)
	if err != nil {
		return err
	}
	if err := ocilayout.Save(out, Image+":"+version, img); err != nil {
		return err
	}
	return stamp.Done(key, out)
}

// compile makes the program in the directory dir. File names are fixed and there
// is no build ID, so the same compiler gives the same bytes.
func compile(dir, binary string) error {
	code, err := recipe.ReadFile("src/pause.c")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "pause.c"), code, 0o644); err != nil {
		return err
	}
	cc := exec.Command("gcc", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding",
		"-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
		"-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-s", "-o", binary, "pause.c")
	cc.Dir = dir
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("compile pause.c: %w\n%s", err, out)
	}
	return nil
}
