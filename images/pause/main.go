// SPDX-License-Identifier: Apache-2.0

// Command pause builds the image of the pods' first process.
package main

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/skerry-dev/skerry/images/stamp"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

//go:embed main.go src/pause.c
var recipe embed.FS

func main() {
	version := flag.String("version", "dev", "tag of the image")
	out := flag.String("out", "build/images/pause.tar", "archive to write")
	flag.Parse()
	if err := run(*version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pause image:", err)
		os.Exit(1)
	}
}

func run(version, out string) error {
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
	source, binary := filepath.Join(tmp, "pause.c"), filepath.Join(tmp, "pause")
	code, err := recipe.ReadFile("src/pause.c")
	if err != nil {
		return err
	}
	if err := os.WriteFile(source, code, 0o644); err != nil {
		return err
	}
	// A fixed file name and no build ID: the same compiler gives the same bytes.
	cc := exec.Command("gcc", "-Os", "-Wall", "-Werror", "-static", "-nostdlib", "-ffreestanding",
		"-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
		"-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-s", "-o", "pause", "pause.c")
	cc.Dir, cc.Stderr = tmp, os.Stderr
	if err := cc.Run(); err != nil {
		return fmt.Errorf("compile pause.c: %w", err)
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
	if err := ocilayout.Save(out, "skerry.dev/pause:"+version, img); err != nil {
		return err
	}
	return stamp.Done(key, out)
}
