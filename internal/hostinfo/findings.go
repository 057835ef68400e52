// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"strings"
)

// Finding is one thing that was found out, for people.
type Finding struct {
	// Topic is a short stable word: "accelerator", "cgroups" …
	Topic string
	// Good is false for what costs something, had to be worked around, or keeps
	// something from working.
	Good bool
	// Found is what the host is like, Does what Skerry does about it.
	Found, Does string
}

func (f Finding) String() string { return f.Found + "; " + f.Does }

// Findings lists everything worth knowing, in a fixed order.
func (i Info) Findings() []Finding {
	return []Finding{
		i.accelerator(), i.cgroups(), i.oomScore(), i.nodeName(), i.tun(),
		i.vhost(),
		optional("vsock", i.VhostVsock, "/dev/vhost-vsock"),
		optional("device-mapper", i.DeviceMapper, "device-mapper"),
		optional("nbd", i.NBD, "the kernel module nbd"),
		optional("openvswitch", i.OpenVSwitch, "the kernel module openvswitch"),
	}
}

// Message is one line about everything that is not as it should be, or "".
// It fits a Node condition.
func (i Info) Message() string {
	var parts []string
	for _, f := range i.Findings() {
		if !f.Good {
			parts = append(parts, f.String())
		}
	}
	return strings.Join(parts, ". ")
}

func (i Info) accelerator() Finding {
	if i.KVM {
		return Finding{"accelerator", true, "KVM works", "machines run on it"}
	}
	return Finding{"accelerator", false, i.KVMReason, "machines run in software emulation, many times slower"}
}

func (i Info) cgroups() Finding {
	f := Finding{Topic: "cgroups", Good: true}
	manager := "no systemd"
	if i.Systemd {
		manager = "systemd"
	}
	switch i.Cgroup {
	case CgroupV2:
		f.Found = "cgroups v2 with " + manager
		f.Does = "the " + i.CgroupDriver() + " cgroup driver is used"
	case CgroupV1, CgroupHybrid:
		f.Good = false
		f.Found = fmt.Sprintf("cgroups v1 (%s) with %s", i.Cgroup, manager)
		f.Does = "the kubelet is told to accept v1 and uses the " + i.CgroupDriver() + " cgroup driver"
	default:
		return Finding{"cgroups", false, "no cgroups are mounted", "nothing can run: mount cgroup2 on /sys/fs/cgroup"}
	}
	if len(i.MissingControllers) > 0 {
		f.Good = false
		f.Found += ", without the controllers " + strings.Join(i.MissingControllers, ", ")
		f.Does = "pods cannot be limited in those: enable them (memory: kernel parameter cgroup_enable=memory); " + f.Does
	}
	return f
}

func (i Info) oomScore() Finding {
	if i.SysResource {
		return Finding{"oom-score", true, "CAP_SYS_RESOURCE is there", "system pods are protected from the out-of-memory killer"}
	}
	return Finding{"oom-score", false, "CAP_SYS_RESOURCE is missing", "containerd is told not to lower oom_score_adj (restrict_oom_score_adj); the out-of-memory killer sees all pods alike"}
}

func (i Info) nodeName() Finding {
	if i.NodeNameResolves {
		return Finding{"node-name", true, fmt.Sprintf("the node's name %q resolves", i.NodeName), "nothing depends on it"}
	}
	return Finding{"node-name", false, fmt.Sprintf("the node's name %q does not resolve", i.NodeName), "the API server reaches the kubelet by its address"}
}

func (i Info) tun() Finding {
	if i.Tun {
		return Finding{"tun", true, "/dev/net/tun exists", "machines get network interfaces"}
	}
	return Finding{"tun", false, "there is no /dev/net/tun", "machines with network interfaces are not scheduled here: load the module tun"}
}

func (i Info) vhost() Finding {
	switch {
	case !i.KVM:
		return Finding{"vhost-net", true, "vhost-net is not used without KVM", "QEMU moves the guests' packets itself"}
	case i.VhostNet:
		return Finding{"vhost-net", true, "/dev/vhost-net exists", "the kernel moves the guests' packets"}
	default:
		return Finding{"vhost-net", false, "there is no /dev/vhost-net", "QEMU moves the guests' packets itself, which costs it CPU: load the module vhost_net"}
	}
}

// optional is for what Skerry can use but does not need.
func optional(topic string, there bool, what string) Finding {
	if there {
		return Finding{topic, true, what + " is there", "Skerry uses it where it helps"}
	}
	return Finding{topic, true, what + " is missing", "Skerry does without"}
}
