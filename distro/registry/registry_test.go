// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/distro/pki"
	"github.com/skerry-dev/skerry/internal/image"
)

// start serves a registry until the test ends, and returns how to reach it.
func start(t *testing.T, dir string) (host string, o image.Options) {
	t.Helper()
	certs := pki.Dir(filepath.Join(dir, "pki"))
	if _, err := certs.Ensure(pki.Plan{
		Authorities: []pki.Authority{{Name: "ca", CommonName: "test"}},
		Leaves:      []pki.Leaf{{Name: "registry", Authority: "ca", CommonName: "registry", Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}},
	}, time.Now()); err != nil {
		t.Fatal(err)
	}
	login, _, err := EnsureLogin(filepath.Join(dir, "login.json"), []string{"unused.example"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, Config{
		Dir: filepath.Join(dir, "blobs"), Addresses: []string{"127.0.0.1:0"}, Login: login, Log: io.Discard,
		CertFile: certs.Cert("registry"), KeyFile: certs.Key("registry"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("it ended: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	if o.CABundle, err = os.ReadFile(certs.Cert("ca")); err != nil {
		t.Fatal(err)
	}
	o.Keychain.Login(s.addrs[0], login.User, login.Password)
	return s.addrs[0], o
}

func diskFile(t *testing.T, dir string) (file string, content []byte) {
	content = make([]byte, 1<<20)
	copy(content[200<<10:], bytes.Repeat([]byte("content "), 20<<10))
	file = filepath.Join(dir, "disk.img")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, content
}

// blobs counts what the registry keeps.
func blobs(t *testing.T, dir string) (n int) {
	err := filepath.WalkDir(filepath.Join(dir, "blobs", "docker", "registry", "v2", "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "data" {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPushPullRemove(t *testing.T) {
	dir := t.TempDir()
	host, o := start(t, dir)
	file, content := diskFile(t, dir)
	ref := host + "/vms/tiny:1"
	p, err := image.Push(t.Context(), file, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	info, err := image.Import(t.Context(), ref, o, out, 1<<30)
	if err != nil || info.Digest != p.Digest {
		t.Fatalf("imported %+v, %v; pushed %+v", info, err, p)
	}
	if got, err := os.ReadFile(out.Name()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("other content came back (%d bytes, %v)", len(got), err)
	}
	list, err := image.List(t.Context(), host, o)
	if err != nil || len(list) != 1 || list[0].Digest != p.Digest || list[0].Tag != "1" {
		t.Errorf("listed %+v, %v", list, err)
	}
	if n := blobs(t, dir); n != 3 {
		t.Errorf("%d blobs, want a manifest, a configuration and a layer", n)
	}
	if _, err := image.Remove(t.Context(), ref, o); err != nil {
		t.Fatal(err)
	}
	if _, err := image.Resolve(t.Context(), ref, o); image.KindOf(err) != image.NotFound {
		t.Errorf("after the removal: %v", err)
	}
	// The space comes back by itself.
	for deadline := time.Now().Add(time.Minute); blobs(t, dir) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d blobs are left", blobs(t, dir))
		}
	}
	// And the same image can be pushed again.
	if again, err := image.Push(t.Context(), file, ref, o); err != nil || again.Digest != p.Digest {
		t.Errorf("pushed again: %+v, %v", again, err)
	}
}

func TestNothingWithoutTheLogin(t *testing.T) {
	dir := t.TempDir()
	host, o := start(t, dir)
	file, _ := diskFile(t, dir)
	for name, change := range map[string]func(*image.Options){
		"none":  func(o *image.Options) { o.Keychain = image.Keychain{} },
		"wrong": func(o *image.Options) { o.Keychain = image.Keychain{}; o.Keychain.Login(host, "skerry", "wrong") },
	} {
		o := o
		change(&o)
		if _, err := image.Push(t.Context(), file, host+"/a:1", o); image.KindOf(err) != image.Auth {
			t.Errorf("push, login %s: %v", name, err)
		}
		if _, err := image.List(t.Context(), host, o); image.KindOf(err) != image.Auth {
			t.Errorf("list, login %s: %v", name, err)
		}
		if _, err := image.Resolve(t.Context(), host+"/a:1", o); image.KindOf(err) != image.Auth {
			t.Errorf("resolve, login %s: %v", name, err)
		}
	}
	if _, err := image.Resolve(t.Context(), host+"/a:1", o); image.KindOf(err) != image.NotFound {
		t.Errorf("unknown image: %v", err)
	}
}

// What an upload has brought must not go before its manifest comes.
func TestUploadsHoldTheCollectionOff(t *testing.T) {
	h := &handler{dirty: true, uploads: map[string]time.Time{}}
	h.note("a", true)
	if err := h.collect(t.Context()); err != nil || !h.dirty {
		t.Errorf("collected while an upload went on (%v)", err)
	}
	h.mu.RLock()
	if err := h.collect(t.Context()); err != nil || !h.dirty {
		t.Errorf("collected while somebody wrote (%v)", err)
	}
	h.mu.RUnlock()
	for path, want := range map[string][2]string{
		"/v2/a/b/blobs/uploads/": {"a/b", "blobs"}, "/v2/a/manifests/x": {"a", "manifests"}, "/v2/": {}, "/v2/a/tags/list": {},
		"/v2/blobs/manifests/1": {"blobs", "manifests"},
	} {
		if repo, kind := route(path); repo != want[0] || kind != want[1] {
			t.Errorf("%s: %q, %q", path, repo, kind)
		}
	}
}

func TestEnsureLogin(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "login.json")
	l, content, err := EnsureLogin(path, []string{"a:5000", "b:5000"})
	if err != nil || len(l.Password) < 40 {
		t.Fatalf("%+v, %v", l, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	var k image.Keychain
	if err := k.AddDockerConfig(content); err != nil {
		t.Error(err)
	}
	moved, content, err := EnsureLogin(path, []string{"a:5001"})
	if err != nil || moved != l || !strings.Contains(string(content), "a:5001") || strings.Contains(string(content), "a:5000") {
		t.Errorf("with another port: %+v, %s, %v", moved, content, err)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := EnsureLogin(path, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged: %v", err)
	}
}
