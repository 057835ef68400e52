// SPDX-License-Identifier: Apache-2.0

//go:build qemu

package machine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// podSetup is what the inner process has to build.
type podSetup struct {
	Dir, QEMURoot, Launcher, QEMUVersion string
	Mounts                               map[string]string // in the container -> on the host
	Taps                                 []contract.Tap
	Devices                              map[string]uint64 // block devices of claims, by volume
}

// inside builds the pod in the namespaces that the process was started in and
// becomes the launcher.
func inside(setup string) error {
	var s podSetup
	if err := json.Unmarshal([]byte(setup), &s); err != nil {
		return err
	}
	for _, t := range s.Taps {
		if err := makeTap(t); err != nil {
			return fmt.Errorf("tap %s: %w", t.Name, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	scratch := s.Dir + "/scratch"
	root := s.Dir + "/root"
	if err := unix.Mount("tmpfs", scratch, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, d := range []string{"/upper", "/work"} {
		if err := os.Mkdir(scratch+d, 0o755); err != nil {
			return err
		}
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", s.QEMURoot, scratch, scratch)
	if err := unix.Mount("overlay", root, "overlay", 0, opts); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	// Everything further happens after the chroot: the root has absolute links, such
	// as /var/run, that would lead to the host's directories.
	if err := os.MkdirAll(root+"/host", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", root+"/host", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for in, out := range s.Mounts {
		if err := os.MkdirAll(in, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/host"+out, in, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", in, err)
		}
	}
	if err := os.MkdirAll("/dev", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	for _, d := range []string{"/dev/net", contract.ClaimDeviceDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for volume, rdev := range s.Devices {
		path := contract.ClaimDeviceDir + "/" + volume
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(rdev)); err != nil {
			return err
		}
		if err := os.Chown(path, 107, 107); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/proc", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for dev, num := range map[string]uint64{"null": unix.Mkdev(1, 3), "urandom": unix.Mkdev(1, 9), "net/tun": unix.Mkdev(10, 200)} {
		if err := unix.Mknod("/dev/"+dev, unix.S_IFCHR|0o666, int(num)); err != nil {
			return err
		}
		if err := os.Chmod("/dev/"+dev, 0o666); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/dev/termination-log", nil, 0o600); err != nil {
		return err
	}
	if err := os.Chmod("/dev/termination-log", 0o666); err != nil {
		return err
	}
	launcher, err := os.ReadFile("/host" + s.Launcher)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(contract.Launcher), 0o755); err != nil {
		return err
	}
	if err := writeNew(contract.Launcher, launcher, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(contract.ImageInfoFile), 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(contract.ImageInfo{QEMUVersion: s.QEMUVersion})
	if err != nil {
		return err
	}
	if err := writeNew(contract.ImageInfoFile, info, 0o644); err != nil {
		return err
	}
	if err := unix.Unmount("/host", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(107); err != nil {
		return err
	}
	if err := syscall.Setuid(107); err != nil {
		return err
	}
	return syscall.Exec(contract.Launcher, []string{contract.Launcher, "run"}, nil)
}

// writeNew writes a file unless the image has its own.
func writeNew(path string, b []byte, mode os.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return os.WriteFile(path, b, mode)
}

// makeTap makes a persistent tap for uid 107.
func makeTap(t contract.Tap) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(t.Name)
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if t.VnetHdr {
		flags |= unix.IFF_VNET_HDR
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, 107); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
}

// fakeKernel is as much of a bzImage as QEMU looks at before the guest runs.
func fakeKernel() []byte {
	b := make([]byte, 64<<10)
	b[0x1f1] = 1 // one sector of set-up code
	copy(b[0x1fe:], "\x55\xaa")
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x020c)
	b[0x211] = 1                                         // loaded high
	binary.LittleEndian.PutUint32(b[0x22c:], 0x7fffffff) // highest address of the initrd
	return b
}

// qemuRoot is the root file system and its QEMU's version.
func qemuRoot(t *testing.T) (string, string) {
	t.Helper()
	root := os.Getenv("SKERRY_QEMU_ROOT")
	if image := os.Getenv("SKERRY_LAUNCHER_IMAGE"); image != "" {
		root = unpackImage(t, image)
	}
	if root == "" {
		t.Fatal("set SKERRY_LAUNCHER_IMAGE to the launcher image's OCI archive, or SKERRY_QEMU_ROOT to a root file system with QEMU")
	}
	cmd := exec.Command(contract.QEMU, "-version")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("qemu -version in %s: %v", root, err)
	}
	m := regexp.MustCompile(`version (\d+\.\d+\.\d+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("qemu -version in %s: %q", root, out)
	}
	return root, string(m[1])
}

// unpackImage unpacks the layers of the only image in an OCI archive.
func unpackImage(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	layout, root := filepath.Join(dir, "layout"), filepath.Join(dir, "root")
	untar := func(file, to string) {
		t.Helper()
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("tar", "-xf", file, "-C", to).CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v: %s", file, err, out)
		}
	}
	type descriptor struct{ Digest string }
	blob := func(d descriptor) string {
		return filepath.Join(layout, "blobs", strings.ReplaceAll(d.Digest, ":", "/"))
	}
	decode := func(file string, v any) {
		t.Helper()
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	untar(archive, layout)
	var index struct{ Manifests []descriptor }
	decode(filepath.Join(layout, "index.json"), &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%s has %d images", archive, len(index.Manifests))
	}
	var manifest struct{ Layers []descriptor }
	decode(blob(index.Manifests[0]), &manifest)
	for _, l := range manifest.Layers {
		untar(blob(l), root)
	}
	return root
}

func buildLauncher(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "skerry-launcher")
	cmd := exec.Command("go", "build", "-o", bin, "github.com/skerry-dev/skerry/cmd/skerry-launcher")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the launcher: %v\n%s", err, out)
	}
	return bin
}
