// SPDX-License-Identifier: Apache-2.0

//go:build qemu

package machine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
)

// These tests start every golden machine with a real launcher and a real QEMU, as
// the pod would: in namespaces of its own, chrooted into the launcher image's root
// file system, as uid 107 without capabilities. They need root and one of
//
//	SKERRY_LAUNCHER_IMAGE  the launcher image as an OCI archive (build/images/launcher.tar)
//	SKERRY_QEMU_ROOT       a directory with any root file system that has QEMU in it
//
// and leave nothing behind: every mount and link is in the namespaces.

// patience only bounds a hang.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if setup := os.Getenv("SKERRY_QEMU_INSIDE"); setup != "" {
		fmt.Fprintln(os.Stderr, inside(setup))
		os.Exit(99)
	}
	os.Exit(m.Run())
}

// podSetup is what the inner process has to build.
type podSetup struct {
	Dir, QEMURoot, Launcher, QEMUVersion string
	Mounts                               map[string]string // in the container -> on the host
	Taps                                 []contract.Tap
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
	if err := os.Mkdir("/dev/net", 0o755); err != nil {
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

func TestQEMUStartsEveryMachine(t *testing.T) {
	root, version := qemuRoot(t)
	launcher := buildLauncher(t)
	_, noEFI := os.Stat(root + contract.OVMFCode)
	for _, file := range vmiFiles(t) {
		for _, accel := range []Accel{TCG, KVM} {
			name := strings.TrimSuffix(filepath.Base(file), ".yaml")
			t.Run(name+"."+string(accel), func(t *testing.T) {
				vmi := readVMI(t, file)
				att := attachmentsFor(vmi)
				m, err := New(vmi, Host{QEMUVersion: version, Accel: accel, Arch: "amd64"}, att)
				if err != nil {
					t.Fatal(err)
				}
				want := "prelaunch"
				c := m.Contract()
				if m.Firmware.EFI && noEFI != nil {
					t.Fatalf("%s has no UEFI layer", root)
				}
				if accel == KVM {
					withoutKVM(c.Argv)
				}
				if !m.Paused {
					c.Argv = append(c.Argv, "-S")
				}
				status, output := startMachine(t, podSetup{QEMURoot: root, Launcher: launcher, QEMUVersion: version}, c, att)
				if status != want {
					t.Errorf("query-status says %q, want %q", status, want)
				}
				if s := unexpected(output); s != "" {
					t.Errorf("QEMU said: %s", s)
				}
			})
		}
	}
}

// withoutKVM makes a command line for KVM one that can be tried without it: the
// options stay, only the accelerator and the model that needs it are replaced.
func withoutKVM(argv []string) {
	for i := range argv {
		switch {
		case argv[i] == "-accel":
			argv[i+1] = "tcg"
		case argv[i] == "-cpu":
			flags := strings.Split(argv[i+1], ",")
			if flags[0] == "host" {
				flags[0] = "max"
			}
			kept := flags[:0]
			for _, f := range flags {
				if f != "enforce=on" { // emulation lacks something of most models
					kept = append(kept, f)
				}
			}
			argv[i+1] = strings.Join(kept, ",")
		}
	}
}

// unexpected gives what QEMU printed beyond what emulation is known to say.
func unexpected(output string) string {
	var rest []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.Contains(line, "TCG doesn't support requested feature") || strings.Contains(line, "doesn't support hyperthreading") {
			continue
		}
		rest = append(rest, line)
	}
	return strings.Join(rest, "\n")
}

// startMachine runs a machine up to QMP's query-status and ends it by quit.
func startMachine(t *testing.T, s podSetup, c contract.Machine, att Attachments) (status, output string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.Dir, s.Taps = dir, c.Taps
	s.Mounts = map[string]string{
		contract.RunDir: dir + "/run", contract.MachineDir: dir + "/machine", contract.LogDir: dir + "/log",
		contract.DiskDir: dir + "/disks", contract.ImageDir: dir + "/images", contract.KernelBootDir: dir + "/kernel",
	}
	for _, d := range []string{"root", "scratch", "run", "machine", "log", "disks", "images", "kernel"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, d), 107, 107); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	host := func(path string) string {
		for in, out := range s.Mounts {
			if rest, ok := strings.CutPrefix(path, in+"/"); ok {
				return filepath.Join(out, rest)
			}
		}
		t.Fatalf("%s is in no volume", path)
		return ""
	}
	for _, d := range c.Disks {
		if b := d.Backing; b != nil && b.Dir != contract.MachineDir {
			path := b.Path
			if path == "" {
				path = "disk/disk.img"
			}
			write(host(b.Dir+"/"+path), make([]byte, 1<<20))
		}
	}
	for _, f := range c.Files {
		write(host(f.Dir+"/"+f.Path), fakeKernel())
	}
	for _, iso := range att.CloudInit {
		write(host(iso), make([]byte, 64<<10))
	}

	setup, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SKERRY_QEMU_INSIDE="+string(setup))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("output: %s\nargv: %q", out.String(), c.Argv)
		}
	}()

	conn := dialWhen(t, filepath.Join(dir, "run", contract.LauncherSocket), ended)
	r := bufio.NewReader(conn)
	var hello contract.Hello
	readJSON(t, r, &hello)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "machine", contract.MachineFile), b)
	if _, err := conn.Write([]byte("{\"start\":true}\n")); err != nil {
		t.Fatal(err)
	}
	var res contract.Result
	readJSON(t, r, &res)
	if res.Error != "" {
		t.Fatal(res.Error)
	}
	conn.Close()

	conn = dialWhen(t, filepath.Join(dir, "run", contract.QMPSocket), ended)
	r = bufio.NewReader(conn)
	var msg map[string]any
	readJSON(t, r, &msg) // the greeting
	ask := func(command string) any {
		t.Helper()
		fmt.Fprintf(conn, "{\"execute\":%q}\n", command)
		for {
			msg = nil
			readJSON(t, r, &msg)
			if msg["event"] == nil {
				break
			}
		}
		if msg["error"] != nil {
			t.Fatalf("%s: %v", command, msg["error"])
		}
		return msg["return"]
	}
	ask("qmp_capabilities")
	info, _ := ask("query-status").(map[string]any)
	status, _ = info["status"].(string)
	ask("quit")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("QEMU ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("QEMU did not end after quit")
	}
	return status, out.String()
}

func dialWhen(t *testing.T, path string, ended chan error) net.Conn {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		select {
		case end := <-ended:
			t.Fatalf("the container ended: %v", end)
		default:
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func readJSON(t *testing.T, r *bufio.Reader, v any) {
	t.Helper()
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("no answer: %w", err)
		}
		t.Fatalf("read %T: %v", v, err)
	}
}
