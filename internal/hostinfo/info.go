// SPDX-License-Identifier: Apache-2.0

package hostinfo

import "io/fs"

// CgroupMode is how the host's control groups are mounted.
type CgroupMode string

// The modes. Hybrid is version 1 with an empty version 2 tree beside it; for
// the kubelet and runc it is version 1.
const (
	CgroupV2     CgroupMode = "v2"
	CgroupV1     CgroupMode = "v1"
	CgroupHybrid CgroupMode = "hybrid"
	CgroupNone   CgroupMode = "none"
)

// Info is what was found out about the host.
type Info struct {
	Arch   string
	Kernel string // release, as in uname -r
	Distro string // PRETTY_NAME of os-release
	CPUs   int
	Memory int64 // bytes
	Swap   int64 // bytes

	NodeName string
	// NodeNameResolves tells whether the node's own name has an address.
	NodeNameResolves bool

	// KVM tells whether guests can run on it; KVMReason why not.
	KVM       bool
	KVMReason string

	Cgroup CgroupMode
	// MissingControllers are those of cpu, cpuset, memory and pids that are off.
	MissingControllers []string
	// Systemd tells whether systemd runs the host.
	Systemd bool
	// SysResource is CAP_SYS_RESOURCE: without it nobody can lower an oom_score_adj.
	SysResource bool

	// Devices that exist, or that appear when they are opened.
	Tun, VhostNet, VhostVsock, DeviceMapper, NBD, Loop bool
	// OpenVSwitch tells whether the kernel has the openvswitch datapath, loaded or not.
	OpenVSwitch bool
}

// CgroupDriver is the kubelet's and containerd's driver: "systemd" or "cgroupfs".
func (i Info) CgroupDriver() string { return CgroupDriver(i.Systemd) }

// CgroupDriver is the one rule for the driver: whoever owns the tree of cgroups
// makes the groups. Where systemd runs the host that is systemd, with cgroup v1 as
// with v2: two writers in one tree take each other's groups away.
func CgroupDriver(systemd bool) string {
	if systemd {
		return "systemd"
	}
	return "cgroupfs"
}

// Systemd tells whether systemd runs the host whose "/" is root (sd_booted(3)).
func Systemd(root fs.FS) bool {
	fi, err := fs.Stat(root, "run/systemd/system")
	return err == nil && fi.IsDir()
}

// RestrictOOMScoreAdj is containerd's option restrict_oom_score_adj.
func (i Info) RestrictOOMScoreAdj() bool { return !i.SysResource }

// FailCgroupV1 is the kubelet's option of that name.
func (i Info) FailCgroupV1() bool { return i.Cgroup == CgroupV2 }

// Accel is the accelerator that "auto" stands for: "kvm" or "tcg".
func (i Info) Accel() string {
	if i.KVM {
		return "kvm"
	}
	return "tcg"
}
