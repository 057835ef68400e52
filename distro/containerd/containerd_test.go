// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The test binary plays containerd when it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "containerd" {
		fakeContainerd()
	}
	os.Exit(m.Run())
}

// fakeContainerd listens on the socket of the configuration until it is killed.
func fakeContainerd() {
	conf, err := os.ReadFile(os.Args[2])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if strings.Contains(string(conf), "broken-root") {
		fmt.Println("no such root")
		os.Exit(3)
	}
	_, rest, _ := strings.Cut(string(conf), "[grpc]\naddress = \"")
	socket, _, _ := strings.Cut(rest, `"`)
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := os.WriteFile(socket+".pid", fmt.Appendf(nil, "%d", os.Getpid()), 0o600); err != nil {
		os.Exit(1)
	}
	held := map[net.Conn]bool{} // until the end
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		held[c] = true
	}
}

func fake(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctrd") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "containerd")); err != nil {
		t.Fatal(err)
	}
	c := Config{
		BinDir: dir, Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), CNIConf: filepath.Join(dir, "cni"),
		Socket: filepath.Join(dir, "c.sock"), LogFile: filepath.Join(dir, "log"), SandboxImage: "pause:1",
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(c.Socket + ".pid"); err == nil {
			_ = syscall.Kill(pid(t, c), syscall.SIGKILL)
			_ = b
		}
		os.RemoveAll(dir)
	})
	return c
}

func pid(t *testing.T, c Config) int {
	t.Helper()
	b, err := os.ReadFile(c.Socket + ".pid")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(string(b), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// waitAnother returns when a containerd other than old listens.
func waitAnother(t *testing.T, c Config, old int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if b, err := os.ReadFile(c.Socket + ".pid"); err == nil && len(b) > 0 && answers(c.Socket) {
			if n := pid(t, c); n != old {
				return n
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("containerd did not come back")
	return 0
}

func TestDaemonIsRestartedAndAdopted(t *testing.T) {
	t.Parallel()
	c := fake(t)
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	d, err := Start(ctx, c, log)
	if err != nil {
		t.Fatal(err)
	}
	if d.Adopted() {
		t.Error("adopted, but there was none")
	}
	first := pid(t, c)
	if sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, uintptr(first), 0, 0); int(sid) != first {
		t.Errorf("session %d, want one of its own (%d)", sid, first)
	}
	ran := make(chan struct{})
	go func() { d.Run(ctx); close(ran) }()
	_ = syscall.Kill(first, syscall.SIGKILL)
	second := waitAnother(t, c, first)

	// The process that started it ends; the daemon stays, and the next adopts it.
	cancel()
	<-ran
	if !answers(c.Socket) {
		t.Fatal("containerd ended with the one who started it")
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	next, err := Start(ctx, c, log)
	if err != nil {
		t.Fatal(err)
	}
	if !next.Adopted() || pid(t, c) != second {
		t.Errorf("not adopted: PID %d, was %d", pid(t, c), second)
	}
	ran = make(chan struct{})
	go func() { next.Run(ctx); close(ran) }()
	_ = syscall.Kill(second, syscall.SIGKILL)
	waitAnother(t, c, second)
	cancel()
	<-ran
}

func TestStartSaysWhereTheLogIs(t *testing.T) {
	t.Parallel()
	c := fake(t)
	c.Root = filepath.Join(c.BinDir, "broken-root")
	_, err := Start(t.Context(), c, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), c.LogFile) {
		t.Errorf("got %v", err)
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	c := Config{
		BinDir: "/opt/skerry", Root: `/var/lib/"x"/containerd`, State: "/run/skerry/ctrd", Socket: "/run/skerry/containerd.sock",
		CNIConf: "/var/lib/skerry/cni/conf", Registries: "/var/lib/skerry/containerd-registries", SandboxImage: "skerry.dev/pause:v1",
	}
	restricted := c
	restricted.RestrictOOMScore = true
	systemd := c
	systemd.SystemdCgroup = true
	for name, c := range map[string]Config{"restricted.toml": restricted, "systemd.toml": systemd} {
		golden(t, name, []byte(c.render()))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", name, diff)
	}
}

func TestTOMLString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a b": `"/a b"`, `a"b\c`: `"a\"b\\c"`, "a\nb\x7f\x01": `"a\u000ab\u007f\u0001"`, "ä": `"ä"`,
	} {
		if got := tomlString(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

const digest = "sha256:87b3995af1a63ee9e90cf0c08fc156c6f496a03188ffee378affa1bee15ad35d"

func index(manifests string) string { return `{"schemaVersion":2,"manifests":[` + manifests + `]}` }

func manifest(annotations string) string {
	return `{"digest":"` + digest + `","annotations":{` + annotations + `}}`
}

func TestParseIndex(t *testing.T) {
	t.Parallel()
	named := manifest(`"io.containerd.image.name":"skerry.dev/pause:v1","org.opencontainers.image.ref.name":"v1"`)
	for _, c := range []struct {
		name, in string
		want     Archive
		err      string
	}{
		{name: "containerd's name", in: index(named), want: Archive{Name: "skerry.dev/pause:v1", Digest: digest}},
		{name: "the specification's name", in: index(manifest(`"org.opencontainers.image.ref.name":"example.org/a:b"`)), want: Archive{Name: "example.org/a:b", Digest: digest}},
		{name: "no name", in: index(manifest("")), err: "image name"},
		{name: "a name like an option", in: index(manifest(`"io.containerd.image.name":"--all"`)), err: "image name"},
		{name: "two images", in: index(named + "," + named), err: "2 images"},
		{name: "none", in: index(""), err: "0 images"},
		{name: "a strange digest", in: index(strings.Replace(named, "sha256:87", "../", 1)), err: "digest"},
		{name: "no JSON", in: "x", err: "invalid character"},
	} {
		got, err := parseIndex([]byte(c.in))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got error %v, want one with %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(index(manifest(`"io.containerd.image.name":"a/b:c"`))))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseIndex(b)
		if err == nil && (!nameForm.MatchString(a.Name) || !digestForm.MatchString(a.Digest)) {
			t.Errorf("accepted %+v", a)
		}
	})
}

func TestReadArchive(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"blobs/sha256/x": "blob", "./index.json": index(manifest(`"io.containerd.image.name":"a/b:c"`))} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	dir := t.TempDir()
	good, cut, other := filepath.Join(dir, "good.tar"), filepath.Join(dir, "cut.tar"), filepath.Join(dir, "other.tar")
	for path, data := range map[string][]byte{good: b.Bytes(), cut: b.Bytes()[:100], other: make([]byte, 1024)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadArchive(good)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Archive{Path: good, Name: "a/b:c", Digest: digest}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, path := range []string{cut, other} {
		if _, err := ReadArchive(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want an error that names it", path, err)
		}
	}
}
