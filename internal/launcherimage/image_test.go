// SPDX-License-Identifier: Apache-2.0

package launcherimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/ocilayout"
)

const info = `{"qemuVersion":"11.1.3","packages":{"qemu-system-x86":"1:11.1.3"}}`

// makeArchive writes an archive as the project's own images are made.
func makeArchive(t *testing.T, file string, c ocilayout.Compression, layers ...[]ocilayout.File) {
	t.Helper()
	var list []*ocilayout.Layer
	for i, files := range layers {
		l, err := ocilayout.NewLayer(filepath.Join(t.TempDir(), "layer"), fmt.Sprint(i), files, c)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, l)
	}
	img, err := ocilayout.New(ocilayout.Config{}, list...)
	if err != nil {
		t.Fatal(err)
	}
	if err := ocilayout.Save(file, "skerry.dev/launcher:v1", img); err != nil {
		t.Fatal(err)
	}
}

func usual() [][]ocilayout.File {
	return [][]ocilayout.File{
		{
			{Path: "lib64", Link: "usr/lib64"},
			{Path: "usr/bin/qemu", Content: []byte("qemu"), Mode: 0o755},
			{Path: "usr/lib/libc.so", Content: []byte("old")},
			{Path: "usr/share/skerry/image.json", Content: []byte(info)},
		},
		{{Path: "usr/lib/libc.so", Content: []byte("libc")}, {Path: "usr/bin/launcher", Content: []byte("go"), Mode: 0o755}},
	}
}

// list is what is in a directory: mode, links and content of each file.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if st.Mode()&os.ModeSymlink != 0 {
			to, err := os.Readlink(p)
			out[rel] = "-> " + to
			return err
		}
		b, err := os.ReadFile(p)
		out[rel] = fmt.Sprintf("%v %s", st.Mode(), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var want = map[string]string{
	"lib64":                       "-> usr/lib64",
	"usr/bin/qemu":                "-r-xr-xr-x qemu",
	"usr/bin/launcher":            "-r-xr-xr-x go",
	"usr/lib/libc.so":             "-r--r--r-- libc",
	"usr/share/skerry/image.json": "-r--r--r-- " + info,
}

func TestOpenAndPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]ocilayout.Compression{"plain": ocilayout.Uncompressed, "gzip": ocilayout.Gzip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "launcher.tar")
			makeArchive(t, file, c, usual()...)
			s := &Store{Dir: filepath.Join(dir, "launcher")}
			img, err := s.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, list(t, img.Root)); d != "" {
				t.Error(d)
			}
			digest, peeked, err := Peek(file)
			if err != nil || digest != img.Digest || cmp.Diff(peeked, img.Info) != "" || peeked.QEMUVersion != "11.1.3" {
				t.Errorf("Peek: %s %+v %v, want %s %+v", digest, peeked, err, img.Digest, img.Info)
			}

			pod := filepath.Join(dir, "pod")
			if err := os.Mkdir(pod, 0o777); err != nil {
				t.Fatal(err)
			}
			volume, err := os.OpenRoot(pod)
			if err != nil {
				t.Fatal(err)
			}
			defer volume.Close()
			// What an agent left that was killed, and an image of long ago.
			for _, d := range []string{".new/usr", "0123456789ab"} {
				if err := volume.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := img.Place(volume); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(want, list(t, filepath.Join(pod, img.Name()))); d != "" {
				t.Error(d)
			}
			if a, b := inode(t, img.Root+"/usr/bin/qemu"), inode(t, pod+"/"+img.Name()+"/usr/bin/qemu"); a != b {
				t.Error("the file was copied although a hard link is possible")
			}
			if err := Tidy(volume, img.Name()); err != nil {
				t.Fatal(err)
			}
			if names, err := Placed(volume); err != nil || cmp.Diff([]string{img.Name()}, names) != "" {
				t.Errorf("after tidying: %v, %v", names, err)
			}
		})
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Ino
}

// A file that was changed on the disk is noticed, and the image unpacked again.
func TestDamagedImageIsUnpackedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "launcher.tar")
	makeArchive(t, file, ocilayout.Uncompressed, usual()...)
	s := &Store{Dir: filepath.Join(dir, "launcher")}
	for _, damage := range []func(root string) error{
		func(string) error { return nil },
		func(root string) error {
			p := root + "/usr/bin/qemu"
			if err := os.Chmod(p, 0o755); err != nil {
				return err
			}
			return os.WriteFile(p, []byte("evil"), 0o755)
		},
		func(root string) error { return os.Remove(root + "/usr/lib/libc.so") },
		func(root string) error { return os.RemoveAll(root) },
		func(root string) error { return os.RemoveAll(filepath.Dir(root) + "/tree.json") },
		func(root string) error { return os.WriteFile(filepath.Dir(root)+"/tree.json", []byte("["), 0o644) },
	} {
		img, err := s.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, list(t, img.Root)); d != "" {
			t.Error(d)
		}
		if err := damage(img.Root); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnotherDigestTakesThePlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "launcher.tar")
	s := &Store{Dir: filepath.Join(dir, "launcher")}
	makeArchive(t, file, ocilayout.Uncompressed, usual()...)
	if _, err := s.Open(file); err != nil {
		t.Fatal(err)
	}
	makeArchive(t, file, ocilayout.Uncompressed, append(usual(), []ocilayout.File{{Path: "more"}})...)
	img, err := s.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(s.Dir)
	if err != nil || len(left) != 1 || !strings.HasSuffix(img.Digest, left[0].Name()) {
		t.Errorf("left: %v, %v; want %s alone", left, err, img.Digest)
	}
}

// rawArchive makes an archive of one layer with these tar entries.
func rawArchive(t *testing.T, file string, spoil bool, headers ...tar.Header) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range headers {
		h.Size = 0
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	layerDigest := digest(layer.Bytes())
	manifest := fmt.Appendf(nil, `{"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s"}]}`, layerDigest)
	index := fmt.Appendf(nil, `{"manifests":[{"digest":"sha256:%s"}]}`, digest(manifest))
	if spoil {
		layer.Bytes()[0] ^= 1
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w = tar.NewWriter(f)
	for name, b := range map[string][]byte{
		"index.json": index, "blobs/sha256/" + digest(manifest): manifest, "blobs/sha256/" + layerDigest: layer.Bytes(),
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(b)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	for name, c := range map[string]struct {
		headers []tar.Header
		spoil   bool
		want    string
	}{
		"climbs":         {headers: []tar.Header{reg("../x")}, want: "no reason for such a name"},
		"whiteout":       {headers: []tar.Header{reg("usr/.wh.x")}, want: "no reason for such a name"},
		"device":         {headers: []tar.Header{{Name: "dev/x", Typeflag: tar.TypeBlock}}, want: "type '4'"},
		"hard link":      {headers: []tar.Header{{Name: "x", Linkname: "/etc/passwd", Typeflag: tar.TypeLink}}, want: "type '1'"},
		"through a link": {headers: []tar.Header{{Name: "x", Linkname: outside, Typeflag: tar.TypeSymlink}, reg("x/y")}, want: "/x/y: "},
		"spoilt":         {headers: []tar.Header{reg("x")}, spoil: true, want: "tar header"},
		"no description": {headers: []tar.Header{reg("x")}, want: "does not describe itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "a.tar")
			rawArchive(t, file, c.spoil, c.headers...)
			if _, err := (&Store{Dir: filepath.Join(dir, "s")}).Open(file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("written outside: %v, %v", left, err)
			}
		})
	}
}

// A volume that the pod could write leads nowhere else.
func TestPlaceStaysInTheVolume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "launcher.tar")
	makeArchive(t, file, ocilayout.Uncompressed, usual()...)
	img, err := (&Store{Dir: filepath.Join(dir, "launcher")}).Open(file)
	if err != nil {
		t.Fatal(err)
	}
	outside, pod := t.TempDir(), t.TempDir()
	if err := os.WriteFile(outside+"/keep", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	volume, err := os.OpenRoot(pod)
	if err != nil {
		t.Fatal(err)
	}
	defer volume.Close()
	for _, name := range []string{".new", img.Name(), "0123456789ab"} {
		if err := os.Symlink(outside, filepath.Join(pod, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := img.Place(volume); err == nil {
		// The link with the image's name was replaced, or stood in the way.
		if st, err := volume.Lstat(img.Name()); err != nil || !st.IsDir() {
			t.Errorf("placed, but %v, %v", st, err)
		}
	}
	if err := Tidy(volume); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("outside: %v, %v", left, err)
	}
}
