// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// maxFile bounds what is read of a file; modules.dep is the longest (1 MiB).
const maxFile = 16 << 20

// Detect finds out about the host. What cannot be read counts as not there.
func Detect(ctx context.Context, s Source) Info {
	i := Info{Arch: s.Arch, NodeName: s.NodeName}
	i.Kernel = strings.TrimSpace(s.text("proc/sys/kernel/osrelease"))
	i.Distro = osRelease(s.text("etc/os-release"))
	if i.Distro == "" {
		i.Distro = osRelease(s.text("usr/lib/os-release"))
	}
	i.CPUs, _ = cpuInfo(s.text("proc/cpuinfo"))
	i.Memory, i.Swap = memInfo(s.text("proc/meminfo"))
	i.NodeNameResolves = s.resolves(ctx)
	if err := KVM(s); err != nil {
		i.KVMReason = err.Error()
	} else {
		i.KVM = true
	}
	i.Systemd = Systemd(s.Root)
	i.Cgroup = cgroupMode(s.text("proc/self/mountinfo"))
	i.MissingControllers = s.missingControllers(i.Cgroup)
	i.SysResource = HasCapability(s.text("proc/self/status"), 24)

	modules := s.modules(i.Kernel)
	i.Tun = s.isDevice("dev/net/tun")
	i.VhostNet = s.isDevice("dev/vhost-net")
	i.VhostVsock = s.isDevice("dev/vhost-vsock")
	i.DeviceMapper = s.isDevice("dev/mapper/control")
	i.Loop = s.isDevice("dev/loop-control")
	i.NBD = s.isDevice("dev/nbd0") || modules["nbd"]
	i.OpenVSwitch = modules["openvswitch"]
	return i
}

func (s Source) text(name string) string {
	f, err := s.Root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return string(b)
}

func (s Source) isDir(name string) bool {
	fi, err := fs.Stat(s.Root, name)
	return err == nil && fi.IsDir()
}

func (s Source) isDevice(name string) bool {
	fi, err := fs.Stat(s.Root, name)
	return err == nil && fi.Mode()&fs.ModeDevice != 0
}

func (s Source) resolves(ctx context.Context) bool {
	if s.NodeName == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := s.Lookup(ctx, s.NodeName)
	return err == nil && len(addrs) > 0
}

// KVM says why KVM cannot run guests here; nil when it can. That the device
// exists, and even that it opens, says nothing.
func KVM(s Source) error {
	if !s.isDevice("dev/kvm") {
		return errors.New("there is no /dev/kvm")
	}
	if _, flags := cpuInfo(s.text("proc/cpuinfo")); s.Arch == "amd64" && !slices.Contains(flags, "vmx") && !slices.Contains(flags, "svm") {
		return errors.New("/dev/kvm exists, but the CPU has neither vmx nor svm")
	}
	if err := s.ProbeKVM("/dev/kvm"); err != nil {
		return fmt.Errorf("/dev/kvm exists, but no machine can be made with it (%w)", err)
	}
	return nil
}

func cpuInfo(text string) (cpus int, flags []string) {
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	for sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), ":")
		switch strings.TrimSpace(key) {
		case "processor":
			cpus++
		case "flags":
			if flags == nil {
				flags = strings.Fields(value)
			}
		}
	}
	return cpus, flags
}

func memInfo(text string) (memory, swap int64) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		if key != "MemTotal" && key != "SwapTotal" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			continue
		}
		if key == "MemTotal" {
			memory = kib << 10
		} else {
			swap = kib << 10
		}
	}
	return memory, swap
}

func osRelease(text string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}

// cgroupMode reads mountinfo (proc_pid_mountinfo(5)).
func cgroupMode(mountinfo string) CgroupMode {
	v1, v2 := false, false
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		switch {
		case kind[0] == "cgroup2" && fields[4] == "/sys/fs/cgroup":
			return CgroupV2
		case kind[0] == "cgroup2":
			v2 = true
		case kind[0] == "cgroup":
			v1 = true
		}
	}
	switch {
	case v1 && v2:
		return CgroupHybrid
	case v1:
		return CgroupV1
	default:
		return CgroupNone
	}
}

func (s Source) missingControllers(mode CgroupMode) []string {
	have := map[string]bool{}
	switch mode {
	case CgroupV2:
		for _, c := range strings.Fields(s.text("sys/fs/cgroup/cgroup.controllers")) {
			have[c] = true
		}
	case CgroupV1, CgroupHybrid:
		// name, hierarchy, number of groups, enabled; hierarchy 0 is not mounted.
		for line := range strings.Lines(s.text("proc/cgroups")) {
			if f := strings.Fields(line); len(f) == 4 && f[1] != "0" && f[3] == "1" {
				have[f[0]] = true
			}
		}
	}
	var missing []string
	for _, c := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !have[c] {
			missing = append(missing, c)
		}
	}
	return missing
}

// HasCapability reads the effective capabilities in /proc/PID/status (proc(5)).
func HasCapability(status string, bit uint) bool {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && caps>>bit&1 == 1
		}
	}
	return false
}

// modules are the kernel's modules of interest: loaded, built in, or on the disk.
func (s Source) modules(release string) map[string]bool {
	interesting := []string{"nbd", "openvswitch"}
	have := map[string]bool{}
	for _, name := range interesting {
		have[name] = s.isDir("sys/module/" + name)
	}
	for _, file := range []string{"modules.builtin", "modules.dep"} {
		text := s.text("lib/modules/" + release + "/" + file)
		sc := bufio.NewScanner(strings.NewReader(text))
		sc.Buffer(make([]byte, 64<<10), 1<<20)
		for sc.Scan() {
			path, _, _ := bytes.Cut(sc.Bytes(), []byte(":"))
			base := path[bytes.LastIndexByte(path, '/')+1:]
			name, _, _ := bytes.Cut(base, []byte(".ko"))
			if _, ok := have[string(name)]; ok {
				have[string(name)] = true
			}
		}
	}
	return have
}
