// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// claim is a volume with a file system in the pod.
func (w *world) claim(name string) string {
	w.t.Helper()
	dir := filepath.Join(w.ClaimDir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// open opens one claim as the launcher would, and closes it.
func (w *world) open(k contract.Claim) error {
	k.FD = contract.FirstClaimFD
	list, err := openClaims(w.t.Context(), w.Config, []contract.Claim{k})
	for _, f := range list {
		unix.Close(f.opened)
	}
	return err
}

func TestClaimsAreInherited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.claim("data")
	w.write(w.claim("media")+"/disk.img", "x")
	if err := os.Mkdir(dir+"/lost+found", 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(dir+"/.disk.img.new", "left by a launcher that was killed")
	w.machine(contract.Machine{Claims: []contract.Claim{
		{Volume: "data", FD: contract.FirstClaimFD, Size: 3 << 20},
		{Volume: "media", FD: contract.FirstClaimFD + 1, ReadOnly: true, Size: 3 << 20},
	}})
	cmd := w.launcher()
	if code := exitCode(t, cmd); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr(cmd))
	}
	for fd, want := range map[int]string{contract.FirstClaimFD: dir + "/disk.img", contract.FirstClaimFD + 1: w.ClaimDir + "/media/disk.img"} {
		if got := w.readReport().FDs[fd]; got != want {
			t.Errorf("QEMU has %q at %d, want %q", got, fd, want)
		}
	}
	if n := len(w.readReport().FDs); n != 2 {
		t.Errorf("QEMU inherited %v", w.readReport().FDs)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/disk.img", &st); err != nil || st.Size != 3<<20 || st.Blocks > 8 || st.Mode&0o777 != 0o660 {
		t.Errorf("disk.img: %+v, %v; want 3 MiB, sparse, mode 0660", st, err)
	}
	if _, err := os.Lstat(dir + "/.disk.img.new"); err == nil {
		t.Error("what an earlier launcher left is still there")
	}
	// It is made once.
	w.write(dir+"/disk.img", "the guest's data")
	if err := w.open(contract.Claim{Volume: "data", Size: 9 << 20}); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(dir + "/disk.img"); string(b) != "the guest's data" {
		t.Errorf("the disk was changed to %q", b)
	}
}

// What is in a volume comes from whoever may write to it.
func TestHostileClaims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lay  func(w *world, dir string)
		want string
	}{
		"link to a file": {func(w *world, dir string) {
			w.write(w.DiskDir+"/secret", "secret")
			symlink(w, w.DiskDir+"/secret", dir+"/disk.img")
		}, "symbolic link, which is not followed"},
		"link to nothing": {func(w *world, dir string) { symlink(w, w.DiskDir+"/new", dir+"/disk.img") }, "symbolic link, which is not followed"},
		"link within the volume": {func(w *world, dir string) {
			w.write(dir+"/other.img", "x")
			symlink(w, "other.img", dir+"/disk.img")
		}, "symbolic link, which is not followed"},
		"magic link":     {func(w *world, dir string) { symlink(w, "/proc/self/fd/0", dir+"/disk.img") }, "symbolic link, which is not followed"},
		"link to itself": {func(w *world, dir string) { symlink(w, "disk.img", dir+"/disk.img") }, "symbolic link, which is not followed"},
		"directory": {func(w *world, dir string) {
			if err := os.Mkdir(dir+"/disk.img", 0o755); err != nil {
				w.t.Fatal(err)
			}
		}, "a directory: expected a regular file"},
		"FIFO": {func(w *world, dir string) {
			if err := unix.Mkfifo(dir+"/disk.img", 0o666); err != nil {
				w.t.Fatal(err)
			}
		}, "a FIFO: expected a regular file"},
		"socket": {func(w *world, dir string) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/disk.img"})
				unix.Close(fd)
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}, "a socket: expected a regular file"},
		"empty file":  {func(w *world, dir string) { w.write(dir+"/disk.img", "") }, "disk.img is empty"},
		"other files": {func(w *world, dir string) { w.write(dir+"/db.sqlite", "x") }, `other files (["db.sqlite"])`},
		"the volume is a link": {func(w *world, dir string) {
			if err := os.Remove(dir); err != nil {
				w.t.Fatal(err)
			}
			symlink(w, w.DiskDir, dir)
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.lay(w, w.claim("data"))
			err := w.open(contract.Claim{Volume: "data", Size: 1 << 20})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "volume data: ") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if _, err := os.Lstat(w.DiskDir + "/new"); err == nil {
				t.Error("a link was followed")
			}
		})
	}
}

func symlink(w *world, to, at string) {
	w.t.Helper()
	if err := os.Symlink(to, at); err != nil {
		w.t.Fatal(err)
	}
}

// A qcow2 file is bytes like any others: nothing in it is read, least of all the
// name of a backing file.
func TestClaimFormatIsNotProbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	head := make([]byte, 512)
	copy(head, "QFI\xfb\x00\x00\x00\x03")
	binary.BigEndian.PutUint64(head[8:], 104)
	binary.BigEndian.PutUint32(head[16:], 11)
	copy(head[104:], "/etc/shadow")
	w.write(w.claim("data")+"/disk.img", string(head))
	if err := w.open(contract.Claim{Volume: "data"}); err != nil {
		t.Error(err)
	}
}

func TestClaimsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.claim("data")
	w.write(w.ClaimDeviceDir+"/file", "x")
	for _, c := range []struct {
		claim contract.Claim
		want  string
	}{
		{contract.Claim{Volume: "away"}, "is not mounted"},
		{contract.Claim{Volume: "data"}, "none is made"},
		{contract.Claim{Volume: "data", ReadOnly: true, Size: 1 << 20}, "none is made"},
		{contract.Claim{Volume: "data", Size: 1 << 60}, "use a larger claim"},
		{contract.Claim{Volume: "../data", Size: 1}, "not a volume's name"},
		{contract.Claim{Volume: "..", Size: 1}, "not a volume's name"},
		{contract.Claim{Volume: "", Size: 1}, "not a volume's name"},
		{contract.Claim{Volume: "away", Block: true}, "the pod has no device"},
		{contract.Claim{Volume: "file", Block: true}, "expected a block device"},
	} {
		if err := w.open(c.claim); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.claim, err, c.want)
		}
	}
	for _, fd := range []int{-1, 0, contract.FirstTapFD, maxFD + 1} {
		if _, err := openClaims(t.Context(), w.Config, []contract.Claim{{Volume: "data", FD: fd, Size: 1 << 20}}); err == nil {
			t.Errorf("descriptor %d was accepted", fd)
		}
	}
	if names, _ := os.ReadDir(w.ClaimDir + "/data"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	const mib = mebibyte
	for _, c := range []struct{ want, free, size int64 }{
		{100 * mib, 200 * mib, 100 * mib},
		{100 * mib, 100*mib + spareBytes, 100 * mib},
		{100 * mib, 100 * mib, 99 * mib},
		{100 * mib, 90*mib + spareBytes, 90 * mib},
		{100 * mib, 89*mib + spareBytes, 0},
		{mib, 0, 0},
		{1 << 60, 1 << 61, 1 << 60},
	} {
		got, err := fit(c.want, c.free)
		if got != c.size || (err != nil) != (c.size == 0) {
			t.Errorf("%d of %d free: %d, %v; want %d", c.want, c.free, got, err, c.size)
		}
	}
}

func TestLiftKeepsNumbersFree(t *testing.T) {
	t.Parallel()
	list := []inherited{{name: "a", want: 340}, {name: "b", want: 330}}
	for i := range list {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 330+i)
		if err != nil {
			t.Fatal(err)
		}
		list[i].opened = fd
	}
	if err := lift(list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.opened <= 340 {
			t.Errorf("%s is at %d", f.name, f.opened)
		}
		unix.Close(f.opened)
	}
}

// A device is one machine's alone.
func TestDeviceIsExclusive(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a device")
	}
	w := newWorld(t)
	file := filepath.Join(filepath.Dir(w.RunDir), "device")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device: %v: %s", err, out)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })
	var st unix.Stat_t
	if err := unix.Stat(loop, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(w.ClaimDeviceDir+"/data", unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		t.Skipf("no device node can be made here: %v", err)
	}
	k := contract.Claim{Volume: "data", FD: contract.FirstClaimFD, Block: true}
	first, err := openClaims(t.Context(), w.Config, []contract.Claim{k})
	if err != nil {
		if strings.Contains(err.Error(), "permission denied") { // a file system mounted without devices
			t.Skip(err)
		}
		t.Fatal(err)
	}
	if err := w.open(k); err == nil || !strings.Contains(err.Error(), "in use on this node") {
		t.Errorf("opened twice: %v", err)
	}
	k.ReadOnly = true
	if err := w.open(k); err != nil {
		t.Errorf("read-only beside a writer: %v", err)
	}
	// What QEMU does with it.
	f, err := os.OpenFile(contract.ClaimFile(first[0].opened), os.O_RDWR, 0)
	if err != nil {
		t.Errorf("QEMU could not open it: %v", err)
	} else {
		f.Close()
	}
	unix.Close(first[0].opened)
	k.ReadOnly = false
	if err := w.open(k); err != nil {
		t.Errorf("after its release: %v", err)
	}
}

// Whatever names a machine.json has, nothing outside of the claims' directories is opened.
func FuzzClaimVolume(f *testing.F) {
	for _, s := range []string{"data", "..", "../x", "a/b", "", ".", "\x00", "/etc", "data/", "."} {
		f.Add(s, true, int64(1<<20))
		f.Add(s, false, int64(-1))
	}
	f.Fuzz(func(t *testing.T, volume string, block bool, size int64) {
		dir := t.TempDir()
		c := Config{ClaimDir: dir + "/claims", ClaimDeviceDir: dir + "/devices"}
		for _, d := range []string{c.ClaimDir, c.ClaimDeviceDir} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		list, err := openClaims(t.Context(), c, []contract.Claim{{Volume: volume, FD: contract.FirstClaimFD, Block: block, Size: size}})
		if err == nil || len(list) > 0 {
			t.Errorf("opened %q: %v", volume, list)
		}
		if names, _ := os.ReadDir(dir); len(names) != 2 {
			t.Errorf("made %v", names)
		}
	})
}
