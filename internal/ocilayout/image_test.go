// SPDX-License-Identifier: Apache-2.0

package ocilayout

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// testImage saves an image of two layers, one of them twice.
func testImage(t *testing.T, c Compression) string {
	t.Helper()
	dir := t.TempDir()
	var layers []*Layer
	for i, content := range []string{"one", "two", "one"} {
		l, err := NewLayer(filepath.Join(dir, string(rune('a'+i))), "layer", []File{{Path: "f", Content: []byte(content)}}, c)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	img, err := New(Config{
		Entrypoint: []string{"/f"}, User: "107:107", StopSignal: "SIGWINCH", Env: []string{"A=b"},
	}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	if err := Save(archive, "skerry.dev/test:v1", img); err != nil {
		t.Fatal(err)
	}
	return archive
}

// untar unpacks an archive into a new directory.
func untar(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(p, 0o755)
		} else {
			var b []byte
			if b, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(p, b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkBlobs compares every blob with the digest that is its name.
func checkBlobs(t *testing.T, dir string) {
	t.Helper()
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if len(blobs) != 4 {
		t.Errorf("%d blobs, want 4: manifest, config and two different layers", len(blobs))
	}
	for _, e := range blobs {
		b, err := os.ReadFile(filepath.Join(dir, "blobs/sha256", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != e.Name() {
			t.Errorf("blob %s has the digest %s", e.Name(), got)
		}
	}
}

// The archive is read back by another implementation of the OCI image layout. Its
// full check takes every layer for gzip.
func TestArchiveIsAnImageLayout(t *testing.T) {
	t.Parallel()
	for _, c := range []Compression{Uncompressed, Gzip} {
		dir := untar(t, testImage(t, c))
		checkBlobs(t, dir)
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		var options []validate.Option
		if c == Uncompressed {
			options = append(options, validate.Fast)
		}
		if err := validate.Index(index, options...); err != nil {
			t.Error(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Manifests) != 1 {
			t.Fatalf("%d images, want 1", len(m.Manifests))
		}
		want := map[string]string{
			"io.containerd.image.name":          "skerry.dev/test:v1",
			"org.opencontainers.image.ref.name": "v1",
		}
		if diff := cmp.Diff(want, m.Manifests[0].Annotations); diff != "" {
			t.Error(diff)
		}
		img, err := index.Image(m.Manifests[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.StopSignal != "SIGWINCH" || config.Config.User != "107:107" ||
			config.OS != "linux" || config.Architecture != "amd64" || len(config.RootFS.DiffIDs) != 3 {
			t.Errorf("config %+v", config)
		}
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	t.Parallel()
	a, err := os.ReadFile(testImage(t, Gzip))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(testImage(t, Gzip))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two archives of the same files differ")
	}
}

func TestSaveRefusesBadReferences(t *testing.T) {
	t.Parallel()
	img, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"", "UPPER/x:v1", "skerry.dev/x", "skerry.dev/x:a b", "x"} {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := Save(path, ref, img); err == nil {
			t.Errorf("reference %q was accepted", ref)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("reference %q left a file", ref)
		}
	}
}
