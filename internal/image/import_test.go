// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/skerry-dev/skerry/internal/qcow2"
)

const robot, password = `robot$vms+reader`, "s3cret:with colon"

// server is a registry behind TLS and a login, which can be made to misbehave.
type server struct {
	t     *testing.T
	front *httptest.Server
	back  http.Handler
	host  string

	bearer bool
	mu     sync.Mutex
	fault  func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	blobs  atomic.Int64                                      // requests for blobs
}

func serve(t *testing.T, bearer bool) *server {
	s := &server{t: t, bearer: bearer, back: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.front = httptest.NewUnstartedServer(s)
	s.front.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.front.StartTLS()
	t.Cleanup(s.front.Close)
	s.host = strings.TrimPrefix(s.front.URL, "https://")
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, pass, _ := r.BasicAuth()
	good := user == robot && pass == password
	if r.URL.Path == "/token" {
		if !good {
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"token":"t"}`)
		return
	}
	if s.bearer {
		good = r.Header.Get("Authorization") == "Bearer t"
	}
	if !good {
		challenge := `Basic realm="test"`
		if s.bearer {
			challenge = fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.front.URL)
		}
		w.Header().Set("WWW-Authenticate", challenge)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`, http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		s.blobs.Add(1)
		if fault != nil && fault(w, r) {
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.blob(r)))
		return
	}
	s.back.ServeHTTP(w, r)
}

// blob is the whole blob that r asks for a part of.
func (s *server) blob(r *http.Request) []byte {
	all := httptest.NewRequest(http.MethodGet, r.URL.String(), nil)
	rec := httptest.NewRecorder()
	s.back.ServeHTTP(rec, all)
	return rec.Body.Bytes()
}

func (s *server) setFault(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *server) options() Options {
	var o Options
	o.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.front.Certificate().Raw})
	secret, err := json.Marshal(map[string]any{"auths": map[string]any{s.host: map[string]string{
		"auth": base64.StdEncoding.EncodeToString([]byte(robot + ":" + password))}}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := o.Keychain.AddDockerConfig(secret); err != nil {
		s.t.Fatal(err)
	}
	o.TempDir = s.t.TempDir()
	return o
}

// push puts an image or index in, and returns its name.
func (s *server) push(repo string, what any) string {
	s.t.Helper()
	ref, err := name.ParseReference(s.host + "/" + repo)
	if err != nil {
		s.t.Fatal(err)
	}
	opts := []remote.Option{remote.WithTransport(s.front.Client().Transport),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: robot, Password: password}))}
	switch w := what.(type) {
	case v1.Image:
		err = remote.Write(ref, w, opts...)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, w, opts...)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return ref.String()
}

func add(t *testing.T, img v1.Image, layers ...mutate.Addendum) v1.Image {
	t.Helper()
	img, err := mutate.Append(img, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

type entry struct {
	name string
	data []byte
	kind byte
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o444, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.kind != 0 {
			h.Typeflag, h.Size, h.Linkname = e.kind, 0, "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func layer(b []byte) mutate.Addendum {
	return mutate.Addendum{Layer: static.NewLayer(b, types.OCILayer), MediaType: types.OCILayer}
}

func titled(b []byte, title string) mutate.Addendum {
	return mutate.Addendum{Layer: static.NewLayer(b, types.OCILayer), MediaType: "application/octet-stream", Annotations: map[string]string{titleAnnotation: title}}
}

// testDisk is a bootable raw disk with a hole in it.
func testDisk() []byte {
	b := make([]byte, 2<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < 600<<10; i++ {
		b[i] = byte(r.Uint32())
	}
	copy(b[510:], "\x55\xaa")
	copy(b[3<<19:], strings.Repeat("text ", 3000))
	return b
}

func asQCOW2(t *testing.T, disk []byte) []byte {
	t.Helper()
	var used []int64
	for c := int64(0); c*qcow2.ClusterSize < int64(len(disk)); c++ {
		if !isZero(disk[c*qcow2.ClusterSize : min(int64(len(disk)), (c+1)*qcow2.ClusterSize)]) {
			used = append(used, c)
		}
	}
	l, err := qcow2.NewLayout(int64(len(disk)), used)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.Write(t.Context(), &b, bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// get imports into a file that holds something else already.
func get(t *testing.T, ref string, o Options, limit int64) ([]byte, Info, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte("old"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := Import(t.Context(), ref, o, f, limit)
	if err != nil {
		return nil, info, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, info, nil
}

func same(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("the disk differs (%d bytes, want %d)", len(got), len(want))
	}
}

const limit = 1 << 30

func TestShapes(t *testing.T) {
	t.Parallel()
	disk := testDisk()
	q := asQCOW2(t, disk)
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: add(t, oci, layer(tarOf(t, entry{name: "disk/arm.img", data: []byte("not this")}))), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: add(t, oci, layer(gz(tarOf(t, entry{name: "disk/amd.img", data: q})))), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	for name, c := range map[string]struct {
		image  any
		format Format
		path   string
	}{
		"tar raw":                  {add(t, oci, layer(tarOf(t, entry{name: "disk/d.img", data: disk}))), Raw, ""},
		"tar.gz raw":               {add(t, oci, layer(gz(tarOf(t, entry{name: "./disk/d.img", data: disk})))), Raw, ""},
		"tar.zst qcow2":            {add(t, oci, layer(zst(tarOf(t, entry{name: "disk/", kind: tar.TypeDir}, entry{name: "/disk/d.qcow2", data: q})))), QCOW2, ""},
		"qcow2.gz in tar.zst":      {add(t, oci, layer(zst(tarOf(t, entry{name: "disk/d.qcow2.gz", data: gz(q)})))), QCOW2, ""},
		"other layers":             {add(t, oci, layer(tarOf(t, entry{name: "disk/d.img", data: q})), layer(gz(tarOf(t, entry{name: "etc/motd", data: []byte("hi")}))), layer(tarOf(t))), QCOW2, ""},
		"one of two by path":       {add(t, oci, layer(tarOf(t, entry{name: "disk/a.img", data: []byte("no")}, entry{name: "disk/b.img", data: q}))), QCOW2, "/disk/b.img"},
		"artifact raw":             {add(t, oci, titled(disk, "fedora.raw")), Raw, ""},
		"artifact qcow2":           {add(t, oci, titled(q, "fedora.qcow2"), titled([]byte("# Read me"), "README.md")), QCOW2, ""},
		"artifact raw.zst":         {add(t, oci, titled(zst(disk), "fedora.raw.zst")), Raw, ""},
		"artifact without a title": {add(t, oci, mutate.Addendum{Layer: static.NewLayer(q, "application/x-qcow2"), MediaType: "application/x-qcow2"}), QCOW2, ""},
		"index":                    {index, QCOW2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, strings.Contains(name, "tar"))
			ref := s.push("vms/fedora:42", c.image)
			o := s.options()
			o.Path = c.path
			var last Progress
			o.Progress = func(p Progress) { last = p }
			got, info, err := get(t, ref, o, limit)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, disk)
			if info.Format != c.format || info.VirtualSize != int64(len(disk)) || !strings.HasPrefix(info.Digest, "sha256:") {
				t.Errorf("info %+v", info)
			}
			if last.Done != info.BytesFetched || last.Done == 0 || last.Total < last.Done {
				t.Errorf("last progress %+v, fetched %d", last, info.BytesFetched)
			}
			if info.BytesWritten > 700<<10 {
				t.Errorf("%d bytes written: the hole was filled", info.BytesWritten)
			}
			digest, err := Resolve(t.Context(), ref, o)
			if err != nil || digest != info.Digest {
				t.Errorf("resolved %s, %v; imported %s", digest, err, info.Digest)
			}
			byDigest := strings.TrimSuffix(ref, ":42") + "@" + digest
			if got, _, err = get(t, "docker://"+byDigest, o, limit); err != nil {
				t.Fatal(err)
			}
			same(t, got, disk)
		})
	}
}

func TestHostileImages(t *testing.T) {
	t.Parallel()
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	disk := testDisk()
	q := asQCOW2(t, disk)
	withBacking, length, err := qcow2.Image{Size: 1 << 20, Backing: "/etc/shadow", BackingFormat: "raw"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	withBacking = append(withBacking, make([]byte, length-int64(len(withBacking)))...)
	huge, length, err := qcow2.Image{Size: 4 << 40}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	huge = append(huge, make([]byte, length-int64(len(huge)))...)
	container := func(e ...entry) v1.Image { return add(t, oci, layer(gz(tarOf(t, e...)))) }
	for name, c := range map[string]struct {
		image v1.Image
		kind  Kind
		text  string
	}{
		"backing file":  {container(entry{name: "disk/d", data: withBacking}), OtherFile, "qemu-img convert"},
		"no disk":       {container(entry{name: "usr/bin/nginx", data: disk}), NotDisk, "a file in /disk"},
		"nothing":       {container(), NotDisk, "a file in /disk"},
		"climbs out":    {container(entry{name: "disk/../../etc/passwd", data: disk}), NotDisk, "a file in /disk"},
		"link":          {container(entry{name: "disk/d", kind: tar.TypeSymlink}), NotDisk, "link"},
		"two disks":     {container(entry{name: "disk/a", data: disk}, entry{name: "disk/b", data: disk}), NotDisk, "several"},
		"text":          {container(entry{name: "disk/d", data: []byte("<html>not found</html>")}), NotDisk, "text"},
		"program":       {container(entry{name: "disk/d", data: []byte("\x7fELF\x01\x02")}), NotDisk, "program"},
		"odd length":    {container(entry{name: "disk/d", data: make([]byte, 1000)}), NotDisk, "1000 bytes"},
		"vmdk":          {container(entry{name: "disk/d", data: []byte("KDMV" + string(make([]byte, 1000)))}), NotDisk, "qemu-img convert"},
		"virtual size":  {container(entry{name: "disk/d", data: huge}), TooLarge, "larger volume"},
		"raw too large": {container(entry{name: "disk/d", data: make([]byte, 4<<20)}), TooLarge, "larger volume"},
		"cut qcow2":     {container(entry{name: "disk/d", data: q[:len(q)/2]}), Truncated, "push the image again"},
		"cut gzip":      {add(t, oci, layer(gz(tarOf(t, entry{name: "disk/d", data: disk}))[:100<<10])), Truncated, "push the image again"},
		"bad gzip":      {add(t, oci, layer([]byte("\x1f\x8b\x08\x00garbage garbage garbage"))), NotDisk, "gzip"},
		"cut tar":       {add(t, oci, layer(tarOf(t, entry{name: "disk/d", data: disk})[:1<<19])), Truncated, "push the image again"},
		"nested":        {add(t, oci, titled(gz(gz(gz(disk))), "d.gz")), NotDisk, "more than twice"},
		"two files":     {add(t, oci, titled(q, "a.qcow2"), titled(q[:100<<10], "b.qcow2")), NotDisk, "a.qcow2, b.qcow2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, false)
			ref := s.push("vms/x:1", c.image)
			_, _, err := get(t, ref, s.options(), 3<<20)
			if KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), ref) {
				t.Errorf("got %s: %v; want %s with %q", KindOf(err), err, c.kind, c.text)
			}
		})
	}
}

func TestBombEndsAtTheLimit(t *testing.T) {
	t.Parallel()
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	s := serve(t, false)
	ref := s.push("vms/bomb:1", add(t, oci, titled(gz(make([]byte, 8<<20)), "bomb.raw.gz")))
	_, info, err := get(t, ref, s.options(), 1<<20)
	if KindOf(err) != TooLarge || info.BytesWritten != 0 {
		t.Errorf("got %v, %d bytes written", err, info.BytesWritten)
	}
}

func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	disk := testDisk()
	abort := func(w http.ResponseWriter, b []byte, declared int) {
		w.Header().Set("Content-Length", fmt.Sprint(declared))
		_, _ = w.Write(b)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		fault  func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool // n counts from 1
		kind   Kind
		text   string
		atMost int64 // bytes fetched
	}{
		"reset half-way": {func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if b := s.blob(r); n == 1 {
				abort(w, b[:len(b)/2], len(b))
			}
			return false
		}, "", "", 0},
		"reset half-way, no ranges": {func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			b := s.blob(r)
			if n == 1 {
				abort(w, b[:len(b)/2], len(b))
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b)
			return true
		}, "", "", 0},
		"busy for a while": {func(_ *server, n int64, w http.ResponseWriter, _ *http.Request) bool {
			if n < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n < 3
		}, "", "", 0},
		"silent": {func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			if n > 1 {
				return false
			}
			b := s.blob(r)
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done() // the client goes
			return true
		}, "", "", 0},
		"gone": {func(_ *server, _ int64, w http.ResponseWriter, _ *http.Request) bool {
			panic(http.ErrAbortHandler)
		}, Unreachable, "check its address", 0},
		"other content": {func(s *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
			b := s.blob(r)
			b[len(b)/2] ^= 1
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
			return true
		}, Digest, "push it again", 0},
		"cut short at the registry": {func(s *server, _ int64, w http.ResponseWriter, r *http.Request) bool {
			b := s.blob(r)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b[:len(b)/2]))
			return true
		}, Truncated, "push it again", 0},
		"cut short after a reset": {func(s *server, n int64, w http.ResponseWriter, r *http.Request) bool {
			b := s.blob(r)
			if n == 1 {
				abort(w, b[:len(b)/2], len(b))
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b[:len(b)/2]))
			return true
		}, Truncated, "push it again", 0},
		"blob gone": {func(_ *server, _ int64, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			return true
		}, NotFound, "push it", 0},
	} {
		for shape, img := range map[string]v1.Image{
			"raw":   add(t, oci, titled(disk, "d.raw")),
			"qcow2": add(t, oci, layer(zst(tarOf(t, entry{name: "disk/d", data: asQCOW2(t, disk)})))),
		} {
			t.Run(name+" "+shape, func(t *testing.T) {
				t.Parallel()
				s := serve(t, true)
				ref := s.push("vms/x:1", img)
				s.setFault(func(w http.ResponseWriter, r *http.Request) bool { return c.fault(s, s.blobs.Load(), w, r) })
				o := s.options()
				o.stall = time.Minute
				if name == "silent" {
					o.stall = 200 * time.Millisecond
				}
				if c.kind == Unreachable {
					o.Patience = time.Millisecond
				}
				got, _, err := get(t, ref, o, limit)
				if c.kind != "" {
					if KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
						t.Errorf("got %s: %v; want %s with %q", KindOf(err), err, c.kind, c.text)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				same(t, got, disk)
				if s.blobs.Load() < 2 {
					t.Error("the fault did not happen")
				}
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, bearer := range []bool{false, true} {
		s := serve(t, bearer)
		ref := s.push("vms/x:1", add(t, oci, titled(testDisk(), "d.raw")))
		plain := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		t.Cleanup(plain.Close)
		plainHost := strings.TrimPrefix(plain.URL, "http://")
		closed := httptest.NewServer(nil)
		closed.Close()
		for name, c := range map[string]struct {
			ref    string
			change func(o *Options)
			kind   Kind
			text   string
		}{
			"wrong password": {ref, func(o *Options) { o.Keychain = Keychain{}; o.Keychain.Login(s.host, robot, "wrong") }, Auth, robot},
			"no login":       {ref, func(o *Options) { o.Keychain = Keychain{} }, Auth, "pull secret"},
			"unknown tag":    {s.host + "/vms/x:2", func(*Options) {}, NotFound, "check the name and the tag"},
			"unknown repo":   {s.host + "/vms/y:1", func(*Options) {}, NotFound, "check the name and the tag"},
			"unknown CA":     {ref, func(o *Options) { o.CABundle = nil }, Untrusted, "authority"},
			"bad CA":         {ref, func(o *Options) { o.CABundle = []byte("x") }, Untrusted, "PEM"},
			"no TLS":         {plainHost + "/x:1", func(*Options) {}, Untrusted, "TLS"},
			"closed":         {strings.TrimPrefix(closed.URL, "http://") + "/x:1", func(*Options) {}, Unreachable, "does not answer"},
			"bad name":       {"UPPER/x y", func(*Options) {}, BadName, "registry.example"},
		} {
			o := s.options()
			c.change(&o)
			_, err := Resolve(t.Context(), c.ref, o)
			if KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.ref) {
				t.Errorf("bearer %v, %s: got %s: %v; want %s with %q", bearer, name, KindOf(err), err, c.kind, c.text)
			}
		}
		// Several pull secrets: the second one is right.
		o := s.options()
		var k Keychain
		k.Login(s.host, robot, "old password")
		k.Add(o.Keychain)
		o.Keychain = k
		if _, err := Resolve(t.Context(), ref, o); err != nil {
			t.Errorf("second login: %v", err)
		}
		// Insecure: any certificate, or none.
		o = s.options()
		o.CABundle, o.Insecure = nil, []string{s.host}
		if _, err := Resolve(t.Context(), ref, o); err != nil {
			t.Errorf("insecure certificate: %v", err)
		}
		if _, err := Resolve(t.Context(), plainHost+"/x:1", Options{Insecure: []string{plainHost}}); KindOf(err) != NotFound {
			t.Errorf("insecure without TLS: %v", err)
		}
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	disk := testDisk()
	s := serve(t, true)
	s.push("library/vm:1", add(t, oci, titled(disk, "d.raw")))
	o := s.options()
	closed := httptest.NewServer(nil)
	closed.Close()
	o.Mirrors = map[string][]string{"registry.invalid": {strings.TrimPrefix(closed.URL, "http://"), s.host}}
	got, _, err := get(t, "registry.invalid/library/vm:1", o, limit)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, disk)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	oci := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	s := serve(t, false)
	ref := s.push("vms/x:1", add(t, oci, titled(testDisk(), "d.raw")))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	s.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		cancel(why)
		<-r.Context().Done()
		return true
	})
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Import(ctx, ref, s.options(), f, limit); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestKeychain(t *testing.T) {
	t.Parallel()
	var k Keychain
	config := func(key, user string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, base64.StdEncoding.EncodeToString([]byte(user+":p:w")))
	}
	for _, c := range []string{
		config("https://index.docker.io/v1/", "hub"), config("harbor.example/project", "project"), config("harbor.example", `robot$all`),
		config("*.wild.example:5000", "wild"), `{"auths":{"helper.example":{}}}`,
		`{"auths":{"plain.example":{"username":"u","password":"p"}}}`,
	} {
		if err := k.AddDockerConfig([]byte(c)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ host, repo, want string }{
		{"index.docker.io", "library/x", "hub:p:w "}, {"harbor.example", "project/x", `project:p:w robot$all:p:w `},
		{"harbor.example", "projector/x", `robot$all:p:w `}, {"a.wild.example:5000", "x", "wild:p:w "},
		{"a.b.wild.example:5000", "x", ""}, {"helper.example", "x", ""}, {"plain.example", "x", "u:p "}, {"evil.example", "x", ""},
	} {
		got := ""
		for _, a := range k.lookup(c.host, c.repo) {
			got += a.Username + ":" + a.Password + " "
		}
		if got != c.want {
			t.Errorf("%s/%s: got %q, want %q", c.host, c.repo, got, c.want)
		}
	}
	for _, bad := range []string{`x`, `{"auths":{"a":{"auth":"%%"}}}`, `{"auths":{"a":{"auth":"YQ=="}}}`} {
		if err := k.AddDockerConfig([]byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

func TestRedirectsIntoThisMachineAreRefused(t *testing.T) {
	t.Parallel()
	via := []*http.Request{httptest.NewRequest(http.MethodGet, "https://registry.example/x", nil)}
	for url, ok := range map[string]bool{
		"https://store.example/x": true, "https://10.1.2.3/x": true, "https://registry.example/y": true,
		"https://127.0.0.1/x": false, "https://169.254.169.254/x": false, "https://localhost/x": false, "https://[::1]/x": false, "https://[::ffff:127.0.0.1]/x": false,
	} {
		if err := checkRedirect(httptest.NewRequest(http.MethodGet, url, nil), via); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}
