// SPDX-License-Identifier: Apache-2.0

//go:build root

package launcher

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skerry-dev/skerry/internal/contract"
)

// archive is the image as it was built by `go run ./images/build`.
const archive = "../../build/images/launcher.tar"

// readArchive returns the files of the archive; layers are left out of it and
// given to visit, entry by entry, instead.
func readArchive(t *testing.T, visit func(layer string, h *tar.Header, content io.Reader)) map[string][]byte {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatalf("%v (make build makes it)", err)
	}
	defer f.Close()
	small := map[string][]byte{}
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return small
		}
		if err != nil {
			t.Fatal(err)
		}
		start, err := io.ReadAll(io.LimitReader(tr, 1))
		if err != nil {
			t.Fatal(err)
		}
		whole := io.MultiReader(strings.NewReader(string(start)), tr)
		if string(start) == "{" || h.Size == 0 {
			if small[h.Name], err = io.ReadAll(whole); err != nil {
				t.Fatal(err)
			}
			continue
		}
		lr := tar.NewReader(whole)
		for {
			lh, err := lr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			visit(h.Name, lh, lr)
		}
	}
}

func decode[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The image that ships keeps its promises: the base layer is small, nothing can
// be run but QEMU, its loader and the launcher, and it says what is in it.
func TestBuiltImage(t *testing.T) {
	unpacked := map[string]int64{}
	var runnable []string
	var info contract.ImageInfo
	small := readArchive(t, func(layer string, h *tar.Header, content io.Reader) {
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is owned by %d:%d", h.Name, h.Uid, h.Gid)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			unpacked[layer] += h.Size
			if h.Mode&0o111 != 0 {
				runnable = append(runnable, h.Name)
			}
			if h.Mode&^0o755 != 0 {
				t.Errorf("%s has mode %o", h.Name, h.Mode)
			}
		case tar.TypeDir, tar.TypeSymlink:
		default:
			t.Errorf("%s is of type %q", h.Name, h.Typeflag)
		}
		if "/"+h.Name == contract.ImageInfoFile {
			b, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			info = decode[contract.ImageInfo](t, b)
		}
	})
	slices.Sort(runnable)
	want := slices.Sorted(slices.Values(programs))
	if !slices.Equal(runnable, want) {
		t.Errorf("runnable files %q, want %q", runnable, want)
	}

	index := decode[v1.IndexManifest](t, small["index.json"])
	blob := func(h v1.Hash) string { return "blobs/sha256/" + h.Hex }
	manifest := decode[v1.Manifest](t, small[blob(index.Manifests[0].Digest)])
	if n := unpacked[blob(manifest.Layers[0].Digest)]; n == 0 || n > maxBase {
		t.Errorf("the base layer's files have %d bytes, the limit is %d", n, maxBase)
	}
	config := decode[v1.ConfigFile](t, small[blob(manifest.Config.Digest)])
	if config.Config.StopSignal != "SIGWINCH" || config.Config.User != "107:107" || config.Config.Entrypoint[0] != contract.Launcher {
		t.Errorf("config %+v", config.Config)
	}
	if info.QEMUVersion == "" || !strings.Contains(info.Packages["qemu-system-x86"], info.QEMUVersion) || info.Packages["libc6"] == "" {
		t.Errorf("image info %+v", info)
	}
}
