// SPDX-License-Identifier: Apache-2.0

// Package tools builds the container image of the ordinary pods in tests and in
// the demo: a static busybox with all its applets, among them sh, httpd, wget,
// nc and nslookup.
package tools

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/images/debroot"
	"github.com/skerry-dev/skerry/images/stamp"
	"github.com/skerry-dev/skerry/internal/ocilayout"
)

//go:embed tools.go
var recipe embed.FS

// Image is the image's name without its tag.
const Image = "skerry.dev/test/tools"

// Busybox is where the static busybox comes from; the tiny guest uses it too.
var Busybox = debroot.Spec{Name: "busybox", Suite: "bookworm", Include: []string{"busybox-static"}}

// Build writes the image archive to out, unless it is there already.
func Build(ctx context.Context, cache, tag, out string) error {
	root, err := debroot.Make(ctx, cache, Busybox)
	if err != nil {
		return err
	}
	key := stamp.NewKey("tools").Text(tag, root.Packages["busybox-static"])
	if err := key.FS(recipe); err != nil {
		return err
	}
	if stamp.Fresh(key, out) {
		return nil
	}
	files, err := Applets(root)
	if err != nil {
		return err
	}
	files = append(files,
		ocilayout.File{Path: "etc/passwd", Content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")},
		ocilayout.File{Path: "etc/group", Content: []byte("root:x:0:\nnobody:x:65534:\n")},
		ocilayout.File{Path: "root", Dir: true, Mode: 0o700},
		ocilayout.File{Path: "tmp", Dir: true, Mode: 0o777 | os.ModeSticky},
		ocilayout.File{Path: "var/tmp", Dir: true, Mode: 0o777 | os.ModeSticky},
	)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "tools-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	layer, err := ocilayout.NewLayer(filepath.Join(tmp, "layer"), "busybox "+root.Packages["busybox-static"], files, ocilayout.Uncompressed)
	if err != nil {
		return err
	}
	img, err := ocilayout.New(ocilayout.Config{
		Cmd: []string{"/bin/sh"},
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	}, layer)
	if err != nil {
		return err
	}
	if err := ocilayout.Save(out, Image+":"+tag, img); err != nil {
		return err
	}
	return stamp.Done(key, out)
}

// Applets are busybox and a link to it for each of its applets.
func Applets(root *debroot.Root) ([]ocilayout.File, error) {
	busybox := filepath.Join(root.Dir, "usr/bin/busybox")
	list, err := exec.Command(busybox, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	files := []ocilayout.File{{Path: "bin/busybox", Source: busybox, Mode: 0o755}}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "bin/busybox" && applet != "usr/bin/busybox" {
			files = append(files, ocilayout.File{Path: applet, Link: "/bin/busybox"})
		}
	}
	return files, nil
}
