// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/hostinfo"
)

// Device is one kind of device that pods can ask for.
type Device struct {
	// Resource is the extended resource, such as devices.kubevirt.io/kvm.
	Resource string
	// Path is the device on the host and in the container.
	Path string
	// Count is how many containers may have it at a time.
	Count int
	// Probe says why the device does not work although it exists; nil asks
	// nothing more. It is called until it succeeds once.
	Probe func() error
}

// perNode is KubeVirt's number: more machines than a node can hold.
const perNode = 1000

// Standard are the devices that machines use. The agent can be told not to offer
// KVM (accelerator tcg).
func Standard(kvm bool) []Device {
	devs := []Device{
		{Resource: kubevirtv1.TunResource, Path: "/dev/net/tun", Count: perNode},
		{Resource: kubevirtv1.VhostNetResource, Path: "/dev/vhost-net", Count: perNode},
	}
	if kvm {
		devs = append(devs, Device{Resource: kubevirtv1.KVMResource, Path: "/dev/kvm", Count: perNode, Probe: probeKVM})
	}
	return devs
}

func probeKVM() error { return hostinfo.KVM(hostinfo.Local("")) }

func (d Device) check() error {
	domain, name, ok := strings.Cut(d.Resource, "/")
	if !ok || domain == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("device resource %q: want domain/name", d.Resource)
	}
	if !filepath.IsAbs(d.Path) {
		return fmt.Errorf("device %s: path %q is not absolute", d.Resource, d.Path)
	}
	if d.Count <= 0 {
		return fmt.Errorf("device %s: count %d: want more than 0", d.Resource, d.Count)
	}
	return nil
}

// name is the resource's without its domain.
func (d Device) name() string { return d.Resource[strings.IndexByte(d.Resource, '/')+1:] }

// exists returns the device's number.
func (d Device) exists() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(d.Path, &st); err != nil {
		return 0, fmt.Errorf("device %s: %w", d.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return 0, fmt.Errorf("device %s: not a character device", d.Path)
	}
	return st.Rdev, nil
}

// works is what must hold before the device is advertised.
func (d Device) works() error {
	if _, err := d.exists(); err != nil {
		return err
	}
	if d.Probe == nil {
		return nil
	}
	return d.Probe()
}

// nodeMode lets QEMU's user open the device in the container. Who can reach the
// node is decided by who is given it.
const nodeMode = 0o666

// node makes sure that dir has a node for the device and returns its path. The
// container runtime reads number and mode from it; nobody opens it.
func (d Device) node(dir string) (string, error) {
	rdev, err := d.exists()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, d.name())
	var st unix.Stat_t
	err = unix.Lstat(path, &st)
	if err == nil && st.Mode == unix.S_IFCHR|nodeMode && st.Rdev == rdev {
		return path, nil
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("device node %s: %w", path, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("device node directory: %w", err)
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("device node: %w", err)
	}
	if err := unix.Mknod(next, unix.S_IFCHR|nodeMode, int(rdev)); err != nil {
		return "", fmt.Errorf("make device node %s: %w", next, err)
	}
	// mknod's mode is subject to the umask.
	if err := os.Chmod(next, nodeMode); err != nil {
		return "", fmt.Errorf("device node: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return "", fmt.Errorf("device node: %w", err)
	}
	return path, nil
}
