// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/hostinfo"
)

// host is what matters about the machine.
type host struct {
	cgroupV2    bool
	systemd     bool // systemd is PID 1 and owns the cgroup tree
	sysResource bool // CAP_SYS_RESOURCE: may lower OOM scores
}

func detectHost() (host, error) {
	var h host
	if os.Geteuid() != 0 {
		return h, fmt.Errorf("must be root (it mounts, makes network interfaces and cgroups): try sudo")
	}
	h.systemd = hostinfo.Systemd(os.DirFS("/"))
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return h, fmt.Errorf("look at /sys/fs/cgroup: %w", err)
	}
	h.cgroupV2 = fs.Type == unix.CGROUP2_SUPER_MAGIC
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return h, err
	}
	h.sysResource = hostinfo.HasCapability(string(status), unix.CAP_SYS_RESOURCE)
	// A bare PATH (cron, some sudo) lacks where these are.
	if err := os.Setenv("PATH", strings.TrimPrefix(os.Getenv("PATH")+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ":")); err != nil {
		return h, err
	}
	for _, tool := range []struct{ name, pkg string }{{"runc", "runc"}, {"nft", "nftables"}, {"mount", "mount"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return h, fmt.Errorf("%s is not installed: on Debian, apt-get install %s", tool.name, tool.pkg)
		}
	}
	return h, nil
}

func (h host) cgroupDriver() string { return hostinfo.CgroupDriver(h.systemd) }
