// SPDX-License-Identifier: Apache-2.0

//go:build root

package deviceplugin

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

func TestNode(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "devices")
	d := Device{Resource: "devices.kubevirt.io/tun", Path: "/dev/net/tun", Count: 1}
	for range 2 {
		path, err := d.node(dir)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(10, 200) {
			t.Errorf("node %s: mode %o, device %d:%d", path, st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	// What else may stand in its place is replaced.
	path := filepath.Join(dir, "tun")
	for name, spoil := range map[string]func() error{
		"file":         func() error { return os.WriteFile(path, nil, 0o600) },
		"wrong mode":   func() error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))) },
		"wrong device": func() error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		"symlink":      func() error { return os.Symlink("/dev/null", path) },
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.node(dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(10, 200) {
			t.Errorf("%s was not replaced: mode %o, %v", name, st.Mode, err)
		}
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", fi, err)
	}
}

// The device as a container's uid 107 finds it, made by runc as containerd asks
// it to: with the number, mode and owner of the node at HostPath.
func TestContainerOpensDevice(t *testing.T) {
	s := newServer(Device{Resource: "devices.kubevirt.io/tun", Path: "/dev/net/tun", Count: 1}, filepath.Join(t.TempDir(), "devices"))
	resp, err := s.Allocate(t.Context(), &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{}}})
	if err != nil {
		t.Fatal(err)
	}
	spec := resp.ContainerResponses[0].Devices[0]
	if spec.ContainerPath != "/dev/net/tun" {
		t.Fatalf("allocated %v", spec)
	}
	if out, err := openInContainer(t, spec.HostPath, spec.ContainerPath, spec.Permissions); err != nil {
		t.Errorf("uid 107 with the allocated node: %v\n%s", err, out)
	}
	// The reason for the package's own nodes; where the host's node is open to all, there is none.
	var st unix.Stat_t
	if err := unix.Stat("/dev/net/tun", &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&0o006 != 0o006 {
		if out, err := openInContainer(t, "/dev/net/tun", spec.ContainerPath, spec.Permissions); err == nil {
			t.Errorf("uid 107 opened the host's node of mode %o: %s", st.Mode, out)
		}
	}
}

func openInContainer(t *testing.T, hostPath, containerPath, permissions string) (string, error) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(hostPath, &st); err != nil {
		t.Fatal(err)
	}
	bundle := t.TempDir()
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	type m = map[string]any
	mounts := []m{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
	}
	for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			mounts = append(mounts, m{"destination": dir, "type": "bind", "source": dir, "options": []string{"rbind", "ro"}})
		}
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	config := m{
		"ociVersion": "1.0.2",
		"process": m{
			"user": m{"uid": 107, "gid": 107}, "cwd": "/", "noNewPrivileges": true,
			"args": []string{"/bin/sh", "-c", "id -u; exec 3<>" + containerPath},
			"env":  []string{"PATH=/usr/bin:/bin"},
		},
		"root": m{"path": "rootfs"}, "mounts": mounts,
		"linux": m{
			"namespaces": []m{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}},
			"devices": []m{{
				"path": containerPath, "type": "c", "major": major, "minor": minor,
				"fileMode": st.Mode &^ unix.S_IFMT, "uid": st.Uid, "gid": st.Gid,
			}},
			"resources": m{"devices": []m{
				{"allow": false, "access": "rwm"},
				{"allow": true, "type": "c", "major": major, "minor": minor, "access": permissions},
			}},
		},
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("skerry-device-test-%d", os.Getpid())
	out, err := exec.CommandContext(t.Context(), "runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, name).CombinedOutput()
	return string(out), err
}
