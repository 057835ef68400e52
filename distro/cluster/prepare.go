// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/distro/cni"
	"github.com/skerry-dev/skerry/distro/containerd"
	"github.com/skerry-dev/skerry/distro/hostnet"
	"github.com/skerry-dev/skerry/distro/mounts"
	"github.com/skerry-dev/skerry/distro/pki"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

// prepareHost makes directories, mounts, cgroups and the network.
func (c *Config) prepareHost(ctx context.Context) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{c.DataDir, 0o711}, {c.RunDir, 0o711}, {c.LogDir(), 0o755}, {c.KubeletRoot(), 0o750}, {c.data("cni", "networks"), 0o700},
	} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
	}
	if err := c.trustRegistry(); err != nil {
		return err
	}
	if err := sharedMount(c.KubeletRoot()); err != nil {
		return fmt.Errorf("make mounts in %s visible to containers: %w", c.KubeletRoot(), err)
	}
	if err := c.ensureCgroupRoot(ctx); err != nil {
		return fmt.Errorf("cgroup %s: %w", c.CgroupRoot, err)
	}
	if err := failpoint.Hit(ctx, "cluster.host.before-network"); err != nil {
		return err
	}
	if err := hostnet.Ensure(ctx, hostnet.Config{
		Bridge: c.Bridge, Address: c.BridgeAddress(), PodCIDR: c.podCIDR, ServiceCIDR: c.serviceCIDR, Open: c.bindAddress.IsValid(),
	}); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "cluster.host.after-network"); err != nil {
		return err
	}
	conf, err := cni.Render(cni.Config{Bridge: c.Bridge, PodCIDR: c.podCIDR, Gateway: c.BridgeAddress(), DataDir: c.data("cni", "networks")})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.data("cni", "conf"), 0o755); err != nil {
		return err
	}
	return pki.WriteFile(c.data("cni", "conf", "10-skerry.conflist"), conf, 0o644)
}

// sharedMount makes dir lie on a mount whose later mounts are seen in other
// mount namespaces. Where systemd runs that is so already; elsewhere dir is
// mounted onto itself, so that the rest of the machine stays as it is.
func sharedMount(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	point, shared := mountOf(string(b), dir)
	if shared {
		return nil
	}
	if point != dir {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return unix.Mount("", dir, "", unix.MS_SHARED, "")
}

// mountOf finds dir's mount in a mountinfo file, proc_pid_mountinfo(5).
func mountOf(mountinfo, dir string) (point string, shared bool) {
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 7 {
			continue
		}
		p := mounts.Unescape(f[4])
		under := p == dir || p == "/" || strings.HasPrefix(dir, p+"/")
		if !under || len(p) < len(point) {
			continue
		}
		end := slices.Index(f[6:], "-")
		if end < 0 {
			continue
		}
		point = p
		shared = slices.ContainsFunc(f[6:6+end], func(o string) bool { return strings.HasPrefix(o, "shared:") })
	}
	return point, shared
}

// ensureCgroupRoot makes the cgroup of all pods where it is not the root.
func (c *Config) ensureCgroupRoot(ctx context.Context) error {
	if c.CgroupRoot == "/" {
		return nil
	}
	if c.host.systemd {
		slice := strings.TrimPrefix(c.CgroupRoot, "/") + ".slice"
		if out, err := exec.CommandContext(ctx, "systemctl", "start", slice).CombinedOutput(); err != nil {
			return fmt.Errorf("start %s: %w: %s", slice, err, out)
		}
		return nil
	}
	points, err := mounts.CgroupHierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range points {
		errs = append(errs, os.MkdirAll(filepath.Join(p, c.CgroupRoot), 0o755))
	}
	return errors.Join(errs...)
}

// launcherArchive is the file of the image of machines' pods in ImagesDir.
const launcherArchive = "launcher.tar"

// archives reads what images there are to import. Those of every pod's first
// container and of machines' pods must be among them.
func (c *Config) archives() (all []containerd.Archive, pause, launcher string, err error) {
	files, err := filepath.Glob(filepath.Join(c.ImagesDir, "*.tar"))
	if err != nil {
		return nil, "", "", err
	}
	names := map[string]string{"pause.tar": "", launcherArchive: ""}
	for _, f := range files {
		a, err := containerd.ReadArchive(f)
		if err != nil {
			return nil, "", "", err
		}
		all = append(all, a)
		names[filepath.Base(f)] = a.Name
	}
	for _, need := range []string{"pause.tar", launcherArchive} {
		if names[need] == "" {
			return nil, "", "", fmt.Errorf("image archive %s is missing: build it with `make images`, or name its directory with --images-dir", filepath.Join(c.ImagesDir, need))
		}
	}
	return all, names["pause.tar"], names[launcherArchive], nil
}

// LauncherImage is the image of new machines' pods.
func (c *Config) LauncherImage() (string, error) {
	a, err := containerd.ReadArchive(filepath.Join(c.ImagesDir, "launcher.tar"))
	return a.Name, err
}

func (c *Config) hostSummary() string {
	v := "v1"
	if c.host.cgroupV2 {
		v = "v2"
	}
	return fmt.Sprintf("%s %s, cgroup %s (%s)", c.Bridge, c.BridgeAddress(), v, c.host.cgroupDriver())
}
