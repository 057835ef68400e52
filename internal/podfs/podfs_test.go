// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testUID = "0d2c5a54-1c0e-4b7e-9d0e-3a9a3c1f5e11"

// tree is a kubelet root with one pod that has the volumes "run" and "secret".
func tree(t *testing.T) (root string, pod *Pod) {
	t.Helper()
	root = t.TempDir()
	for _, d := range []string{"kubernetes.io~empty-dir/run", "kubernetes.io~secret/ci"} {
		if err := os.MkdirAll(filepath.Join(root, "pods", testUID, "volumes", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pod, err := OpenPod(root, testUID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pod.Close() })
	return root, pod
}

func run(t *testing.T, pod *Pod) (*Dir, string) {
	t.Helper()
	d, err := pod.EmptyDir("run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, d.Name()
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("err = %v, want %v", err, want)
	}
}

func wantType(t *testing.T, err error, got string) {
	t.Helper()
	var te *TypeError
	if !errors.As(err, &te) || te.Got != got {
		t.Errorf("err = %v, want a refused %s", err, got)
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	write(t, path+"/f", "hello")
	b, err := d.ReadFile("f", 5)
	must(t, err)
	if string(b) != "hello" {
		t.Errorf("read %q", b)
	}
	_, err = d.ReadFile("f", 4)
	wantErr(t, err, ErrTooLarge)
	_, err = d.ReadFile("none", 4)
	wantErr(t, err, fs.ErrNotExist)
}

func TestSymlinkToOutside(t *testing.T) {
	t.Parallel()
	root, pod := tree(t)
	d, path := run(t, pod)
	write(t, root+"/secret", "the host's")
	for name, target := range map[string]string{
		"absolute": root + "/secret",
		"relative": "../../../../../secret",
		"beneath":  "other",
		"dangling": "/nonexistent",
		"magic":    "/proc/self/environ",
	} {
		must(t, os.Symlink(target, filepath.Join(path, name)))
	}
	write(t, path+"/other", "own")
	for _, name := range []string{"absolute", "relative", "beneath", "dangling", "magic"} {
		_, err := d.ReadFile(name, 100)
		wantErr(t, err, ErrSymlink)
		_, err = d.DialUnix(t.Context(), name)
		wantErr(t, err, ErrSymlink)
		_, err = d.Sub(name)
		if err == nil {
			t.Errorf("%s: opened as a directory", name)
		}
	}
}

func TestDirectoryReplacedBySymlink(t *testing.T) {
	t.Parallel()
	root, pod := tree(t)
	d, path := run(t, pod)
	must(t, os.Mkdir(path+"/sub", 0o755))
	must(t, os.Mkdir(root+"/host", 0o755))
	write(t, path+"/sub/f", "own")
	write(t, root+"/host/f", "the host's")
	sub, err := d.Sub("sub")
	must(t, err)
	defer sub.Close()
	must(t, os.Rename(path+"/sub", path+"/moved"))
	must(t, os.Symlink(root+"/host", path+"/sub"))
	// What was opened stays what it was; what is opened now is refused.
	b, err := sub.ReadFile("f", 100)
	must(t, err)
	if string(b) != "own" {
		t.Errorf("read %q", b)
	}
	must(t, sub.WriteFile("g", []byte("x"), Owner{UID: -1, GID: -1, Mode: 0o600}))
	if _, err := os.Lstat(root + "/host/g"); err == nil {
		t.Error("wrote through the symbolic link")
	}
	if _, err := d.Sub("sub"); err == nil {
		t.Error("followed the symbolic link")
	}
}

// The whole way from the kubelet's root is checked, not only its last step.
func TestVolumeReplacedBySymlink(t *testing.T) {
	t.Parallel()
	root, pod := tree(t)
	vol := filepath.Join(root, "pods", testUID, "volumes/kubernetes.io~empty-dir/run")
	must(t, os.Remove(vol))
	must(t, os.Symlink("/", vol))
	if _, err := pod.EmptyDir("run"); err == nil {
		t.Error("followed the symbolic link")
	}
}

func TestNamesArePathElements(t *testing.T) {
	t.Parallel()
	root, pod := tree(t)
	d, _ := run(t, pod)
	for _, name := range []string{"", ".", "..", "a/b", "/etc/passwd", "../x", "a\x00b", strings.Repeat("x", 300)} {
		_, err := d.ReadFile(name, 10)
		wantErr(t, err, ErrBadName)
		_, err = d.DialUnix(t.Context(), name)
		wantErr(t, err, ErrBadName)
		_, err = d.Sub(name)
		wantErr(t, err, ErrBadName)
		wantErr(t, d.WriteFile(name, nil, Owner{}), ErrBadName)
		wantErr(t, d.Remove(name), ErrBadName)
		_, err = d.Exists(name)
		wantErr(t, err, ErrBadName)
		_, err = pod.EmptyDir(name)
		wantErr(t, err, ErrBadName)
		_, err = OpenPod(root, name)
		wantErr(t, err, ErrBadName)
	}
}

// Opening a FIFO for reading would wait for a writer for ever.
func TestFIFO(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	must(t, unix.Mkfifo(path+"/fifo", 0o666))
	_, err := d.ReadFile("fifo", 10)
	wantType(t, err, "FIFO")
	_, err = d.OpenFile("fifo", unix.O_RDWR)
	wantType(t, err, "FIFO")
	_, err = d.DialUnix(t.Context(), "fifo")
	wantType(t, err, "FIFO")
}

func TestDirectoryAndSocketAreNoFiles(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	must(t, os.Mkdir(path+"/dir", 0o755))
	listen(t, path, "sock")
	_, err := d.ReadFile("dir", 10)
	wantType(t, err, "directory")
	_, err = d.ReadFile("sock", 10)
	wantType(t, err, "socket")
	write(t, path+"/file", "")
	_, err = d.DialUnix(t.Context(), "file")
	wantType(t, err, "regular file")
}

func TestHardLink(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	write(t, path+"/f", "x")
	must(t, os.Link(path+"/f", path+"/g"))
	_, err := d.ReadFile("f", 10)
	wantErr(t, err, ErrHardLink)
}

func TestHugeFile(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	write(t, path+"/f", "")
	must(t, os.Truncate(path+"/f", 1<<40)) // sparse
	_, err := d.ReadFile("f", 1<<16)
	wantErr(t, err, ErrTooLarge)
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	root, pod := tree(t)
	d, path := run(t, pod)
	write(t, root+"/host", "the host's")
	must(t, os.Symlink(root+"/host", path+"/out"))
	must(t, unix.Mkfifo(path+"/fifo", 0o666))
	write(t, path+"/old", "old")
	own := Owner{UID: os.Getuid(), GID: os.Getgid(), Mode: 0o640}
	for _, name := range []string{"new", "old", "out", "fifo"} {
		must(t, d.WriteFile(name, []byte("data"), own))
		fi, err := os.Lstat(filepath.Join(path, name))
		must(t, err)
		if fi.Mode() != 0o640 || fi.Size() != 4 {
			t.Errorf("%s: mode %v, %d bytes", name, fi.Mode(), fi.Size())
		}
	}
	if b, _ := os.ReadFile(root + "/host"); string(b) != "the host's" {
		t.Errorf("wrote through the symbolic link: %q", b)
	}
	names, err := d.Names(100)
	must(t, err)
	if len(names) != 4 {
		t.Errorf("left behind: %q", names)
	}
}

func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	boom := errors.New("boom")
	wantErr(t, d.Write("f", Owner{UID: -1, GID: -1}, func(w io.Writer) error { return boom }), boom)
	must(t, os.Mkdir(path+"/dir", 0o755))
	if err := d.WriteFile("dir", nil, Owner{UID: -1, GID: -1}); err == nil {
		t.Error("a directory was replaced")
	}
	names, err := d.Names(100)
	must(t, err)
	if len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
}

func TestNamesIsBounded(t *testing.T) {
	t.Parallel()
	_, pod := tree(t)
	d, path := run(t, pod)
	for _, n := range []string{"a", "b", "c", "d"} {
		write(t, path+"/"+n, "")
	}
	names, err := d.Names(2)
	must(t, err)
	if len(names) != 2 {
		t.Errorf("names = %q", names)
	}
	must(t, d.Remove("a"))
	ok, err := d.Exists("a")
	if ok || err != nil {
		t.Errorf("exists = %v, %v", ok, err)
	}
	if ok, _ := d.Exists("b"); !ok {
		t.Error("b does not exist")
	}
}

// A Secret volume as the kubelet writes it.
func TestSecretVolume(t *testing.T) {
	t.Parallel()
	root, pod := tree(t)
	path := filepath.Join(root, "pods", testUID, "volumes/kubernetes.io~secret/ci")
	must(t, os.Mkdir(path+"/..2026_01_01", 0o755))
	write(t, path+"/..2026_01_01/userdata", "#cloud-config\n")
	must(t, os.Symlink("..2026_01_01", path+"/..data"))
	must(t, os.Symlink("..data/userdata", path+"/userdata"))
	must(t, os.Symlink("/etc/passwd", path+"/absolute"))
	must(t, os.Symlink("../../../../../x", path+"/up"))
	must(t, os.Symlink("/proc/self/fd/0", path+"/magic"))
	write(t, root+"/x", "the host's")
	d, err := pod.Secret("ci")
	must(t, err)
	defer d.Close()
	b, err := d.ReadFile("userdata", 100)
	must(t, err)
	if string(b) != "#cloud-config\n" {
		t.Errorf("read %q", b)
	}
	for _, name := range []string{"absolute", "up", "magic"} {
		if _, err := d.ReadFile(name, 1000); err == nil {
			t.Errorf("%s: followed out of the volume", name)
		}
	}
}

// listen listens on a socket in dir, whose path may be too long for the kernel.
func listen(t *testing.T, dir, name string) *net.UnixListener {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	ln, err := net.Listen("unix", procFD(f)+"/"+name)
	must(t, err)
	ul := ln.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	t.Cleanup(func() { ln.Close() })
	return ul
}

func TestDialUnix(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	deep := filepath.Join(root, strings.Repeat("long", 20), strings.Repeat("path", 20))
	must(t, os.MkdirAll(deep, 0o755))
	d, err := OpenDir(deep)
	must(t, err)
	defer d.Close()
	ln := listen(t, deep, "s")
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, _ = c.Write([]byte("hi"))
			c.Close()
		}
	}()
	c, err := d.DialUnix(t.Context(), "s")
	must(t, err)
	defer c.Close()
	b, err := io.ReadAll(c)
	must(t, err)
	if string(b) != "hi" {
		t.Errorf("read %q", b)
	}
	cred, err := PeerCred(c)
	must(t, err)
	if cred.PID != os.Getpid() || cred.UID != os.Getuid() {
		t.Errorf("cred = %+v", cred)
	}
	ln.Close()
	_, err = d.DialUnix(t.Context(), "s")
	wantErr(t, err, unix.ECONNREFUSED)
	_, err = d.DialUnix(t.Context(), "none")
	wantErr(t, err, fs.ErrNotExist)
}

// A socket whose queue is full must not hold the agent up.
func TestDialFullQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/s"}))
	must(t, unix.Listen(fd, 0))
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	for range 8 {
		c, err := d.DialUnix(context.Background(), "s")
		if err != nil {
			wantErr(t, err, unix.EAGAIN)
			return
		}
		defer c.Close()
	}
	t.Error("the queue never filled")
}

// The published attack: between the look at the socket and the connection the
// name is pointed elsewhere. The connection must go to what was looked at.
func TestSocketReplacedBySymlinkAfterTheLook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own, host := listen(t, dir, "s"), listen(t, dir, "host")
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	ref, _, err := d.open("s", unix.S_IFSOCK)
	must(t, err)
	defer ref.Close()
	must(t, os.Remove(dir+"/s"))
	must(t, os.Symlink("host", dir+"/s"))
	c, err := net.Dial("unix", procFD(ref))
	must(t, err)
	defer c.Close()
	go host.Close()
	if _, err := own.Accept(); err != nil {
		t.Errorf("the connection went elsewhere: %v", err)
	}
	_, err = d.DialUnix(t.Context(), "s")
	wantErr(t, err, ErrSymlink)
}

// A socket of the pod that something outside the pod serves is refused.
func TestDialPodRefusesForeigners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	listen(t, dir, "s")
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	_, _, err = d.DialPod(t.Context(), "s", testUID)
	wantErr(t, err, ErrForeign)
}
