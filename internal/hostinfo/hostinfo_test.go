// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const (
	v1Mounts = `30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
`
	hybridMounts = v1Mounts + "32 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	v2Mounts     = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

	v1Controllers = `#subsys_name	hierarchy	num_cgroups	enabled
cpuset	2	3	1
cpu	3	3	1
memory	4	3	1
pids	5	3	1
`
	allCaps       = "Name:\tskerry\nCapEff:\t000001ffffffffff\n"
	noSysResource = "Name:\tskerry\nCapEff:\t000001fffeffffff\n"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func device() *fstest.MapFile {
	return &fstest.MapFile{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600}
}

func dir() *fstest.MapFile { return &fstest.MapFile{Mode: fs.ModeDir | 0o755} }

// debian is a healthy host with everything.
func debian() Source {
	root := fstest.MapFS{
		"proc/sys/kernel/osrelease":        file("6.1.0-28-amd64\n"),
		"etc/os-release":                   file("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
		"proc/cpuinfo":                     file("processor\t: 0\nflags\t\t: fpu vmx sse\n\nprocessor\t: 1\nflags\t\t: fpu vmx sse\n"),
		"proc/meminfo":                     file("MemTotal:        2048 kB\nMemFree: 1 kB\nSwapTotal:       1024 kB\n"),
		"proc/self/mountinfo":              file(v2Mounts),
		"proc/self/status":                 file(allCaps),
		"sys/fs/cgroup/cgroup.controllers": file("cpuset cpu io memory pids\n"),
		"run/systemd/system":               dir(),
		"dev/kvm":                          device(),
		"dev/net/tun":                      device(),
		"dev/vhost-net":                    device(),
		"dev/vhost-vsock":                  device(),
		"dev/mapper/control":               device(),
		"dev/loop-control":                 device(),
		"lib/modules/6.1.0-28-amd64/modules.builtin": file("kernel/fs/ext4/ext4.ko\n"),
		"lib/modules/6.1.0-28-amd64/modules.dep":     file("kernel/drivers/block/nbd.ko: kernel/a.ko\nkernel/net/openvswitch/openvswitch.ko.xz: kernel/b.ko.xz\n"),
	}
	return Source{
		Root: root, Arch: "amd64", NodeName: "edge1",
		Lookup:   func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil },
		ProbeKVM: func(string) error { return nil },
	}
}

func healthy() Info {
	return Info{
		Arch: "amd64", Kernel: "6.1.0-28-amd64", Distro: "Debian GNU/Linux 12 (bookworm)",
		CPUs: 2, Memory: 2 << 20, Swap: 1 << 20, NodeName: "edge1", NodeNameResolves: true,
		KVM: true, Cgroup: CgroupV2, Systemd: true, SysResource: true,
		Tun: true, VhostNet: true, VhostVsock: true, DeviceMapper: true, NBD: true, Loop: true, OpenVSwitch: true,
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		host   func(s *Source, root fstest.MapFS)
		want   func(i *Info)
		driver string
		says   []string // in Message, in this order
	}{
		{name: "healthy", driver: "systemd"},
		{
			name: "kvm device without vmx or svm", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) {
				root["proc/cpuinfo"] = file("processor\t: 0\nflags\t\t: fpu sse\nprocessor\t: 1\nflags\t: fpu\n")
			},
			want: func(i *Info) { i.KVM, i.KVMReason = false, "/dev/kvm exists, but the CPU has neither vmx nor svm" },
			says: []string{"neither vmx nor svm", "software emulation"},
		},
		{
			name: "kvm device that makes no machines", driver: "systemd",
			host: func(s *Source, _ fstest.MapFS) {
				s.ProbeKVM = func(string) error { return errors.New("KVM_CREATE_VM: no such device") }
			},
			want: func(i *Info) {
				i.KVM, i.KVMReason = false, "/dev/kvm exists, but no machine can be made with it (KVM_CREATE_VM: no such device)"
			},
			says: []string{"KVM_CREATE_VM: no such device", "software emulation"},
		},
		{
			name: "no kvm device", driver: "systemd",
			host: func(s *Source, root fstest.MapFS) {
				delete(root, "dev/kvm")
				s.ProbeKVM = func(string) error { panic("must not be probed") }
			},
			want: func(i *Info) { i.KVM, i.KVMReason = false, "there is no /dev/kvm" },
			says: []string{"there is no /dev/kvm"},
		},
		{
			name: "kvm is a plain file", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) { root["dev/kvm"] = file("") },
			want: func(i *Info) { i.KVM, i.KVMReason = false, "there is no /dev/kvm" },
			says: []string{"there is no /dev/kvm"},
		},
		{
			name: "arm has no vmx flag", driver: "systemd",
			host: func(s *Source, root fstest.MapFS) {
				s.Arch = "arm64"
				root["proc/cpuinfo"] = file("processor\t: 0\nFeatures\t: fp asimd\n")
			},
			want: func(i *Info) { i.Arch, i.CPUs = "arm64", 1 },
		},
		{
			name: "cgroup v1 without systemd", driver: "cgroupfs",
			host: func(_ *Source, root fstest.MapFS) {
				root["proc/self/mountinfo"] = file(v1Mounts)
				root["proc/cgroups"] = file(v1Controllers)
				delete(root, "run/systemd/system")
			},
			want: func(i *Info) { i.Cgroup, i.Systemd = CgroupV1, false },
			says: []string{"cgroups v1 (v1) with no systemd", "told to accept v1"},
		},
		{
			name: "hybrid cgroups with systemd", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) {
				root["proc/self/mountinfo"] = file(hybridMounts)
				root["proc/cgroups"] = file(v1Controllers)
			},
			want: func(i *Info) { i.Cgroup = CgroupHybrid },
			says: []string{"cgroups v1 (hybrid) with systemd", "systemd cgroup driver"},
		},
		{
			name: "cgroup v2 without systemd", driver: "cgroupfs",
			host: func(_ *Source, root fstest.MapFS) { delete(root, "run/systemd/system") },
			want: func(i *Info) { i.Systemd = false },
		},
		{
			name: "memory controller off", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) {
				root["sys/fs/cgroup/cgroup.controllers"] = file("cpuset cpu io pids\n")
			},
			want: func(i *Info) { i.MissingControllers = []string{"memory"} },
			says: []string{"without the controllers memory", "cgroup_enable=memory"},
		},
		{
			name: "memory controller off in v1", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) {
				root["proc/self/mountinfo"] = file(v1Mounts)
				root["proc/cgroups"] = file(strings.Replace(v1Controllers, "memory\t4\t3\t1", "memory\t0\t1\t0", 1))
			},
			want: func(i *Info) { i.Cgroup, i.MissingControllers = CgroupV1, []string{"memory"} },
			says: []string{"without the controllers memory"},
		},
		{
			name: "no cgroups", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) { root["proc/self/mountinfo"] = file("broken line\n") },
			want: func(i *Info) {
				i.Cgroup, i.MissingControllers = CgroupNone, []string{"cpu", "cpuset", "memory", "pids"}
			},
			says: []string{"no cgroups are mounted", "mount cgroup2"},
		},
		{
			name: "no CAP_SYS_RESOURCE", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) { root["proc/self/status"] = file(noSysResource) },
			want: func(i *Info) { i.SysResource = false },
			says: []string{"CAP_SYS_RESOURCE is missing", "restrict_oom_score_adj"},
		},
		{
			name: "no modules at all", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) {
				for name := range root {
					if strings.HasPrefix(name, "lib/modules") || strings.HasPrefix(name, "dev/vhost") || strings.HasPrefix(name, "dev/mapper") {
						delete(root, name)
					}
				}
			},
			want: func(i *Info) {
				i.VhostNet, i.VhostVsock, i.DeviceMapper, i.NBD, i.OpenVSwitch = false, false, false, false, false
			},
			says: []string{"there is no /dev/vhost-net"},
		},
		{
			name: "modules loaded but not on the disk", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) {
				delete(root, "lib/modules/6.1.0-28-amd64/modules.dep")
				root["sys/module/openvswitch"] = dir()
				root["dev/nbd0"] = device()
			},
		},
		{
			name: "no tun", driver: "systemd",
			host: func(_ *Source, root fstest.MapFS) { delete(root, "dev/net/tun") },
			want: func(i *Info) { i.Tun = false },
			says: []string{"there is no /dev/net/tun", "load the module tun"},
		},
		{
			name: "node name does not resolve", driver: "systemd",
			host: func(s *Source, _ fstest.MapFS) {
				s.Lookup = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
			},
			want: func(i *Info) { i.NodeNameResolves = false },
			says: []string{`"edge1" does not resolve`, "by its address"},
		},
		{
			name: "nothing readable", driver: "cgroupfs",
			host: func(s *Source, _ fstest.MapFS) { s.Root = fstest.MapFS{} },
			want: func(i *Info) {
				*i = Info{
					Arch: "amd64", NodeName: "edge1", NodeNameResolves: true, KVMReason: "there is no /dev/kvm",
					Cgroup: CgroupNone, MissingControllers: []string{"cpu", "cpuset", "memory", "pids"},
				}
			},
			says: []string{"there is no /dev/kvm", "no cgroups are mounted", "CAP_SYS_RESOURCE", "/dev/net/tun"},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, want := debian(), healthy()
			if tc.host != nil {
				tc.host(&s, s.Root.(fstest.MapFS))
			}
			if tc.want != nil {
				tc.want(&want)
			}
			got := Detect(t.Context(), s)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Detect (-want +got):\n%s", diff)
			}
			if got.CgroupDriver() != tc.driver {
				t.Errorf("CgroupDriver = %q, want %q", got.CgroupDriver(), tc.driver)
			}
			if got.FailCgroupV1() != (got.Cgroup == CgroupV2) || got.RestrictOOMScoreAdj() == got.SysResource {
				t.Errorf("configuration does not follow from %+v", got)
			}
			message := got.Message()
			if len(tc.says) == 0 && message != "" {
				t.Errorf("Message = %q, want none", message)
			}
			rest := message
			for _, s := range tc.says {
				_, after, ok := strings.Cut(rest, s)
				if !ok {
					t.Errorf("Message = %q, want %q in its place", message, s)
				}
				rest = after
			}
		})
	}
}

func TestFindingsHaveEverythingToSay(t *testing.T) {
	t.Parallel()
	for _, i := range []Info{healthy(), {KVMReason: "there is no /dev/kvm"}} {
		seen := map[string]bool{}
		for _, f := range i.Findings() {
			if f.Topic == "" || f.Found == "" || f.Does == "" || seen[f.Topic] {
				t.Errorf("finding %+v: a word is missing, or the topic comes twice", f)
			}
			seen[f.Topic] = true
		}
	}
}

func TestAccel(t *testing.T) {
	t.Parallel()
	if got := (Info{KVM: true}).Accel(); got != "kvm" {
		t.Errorf("Accel = %q, want kvm", got)
	}
	if got := (Info{}).Accel(); got != "tcg" {
		t.Errorf("Accel = %q, want tcg", got)
	}
}

// The real host must at least be recognised as one.
func TestLocal(t *testing.T) {
	t.Parallel()
	i := Detect(t.Context(), Local(""))
	if i.CPUs == 0 || i.Memory == 0 || i.Kernel == "" || i.NodeName == "" {
		t.Errorf("Detect(Local()) = %+v", i)
	}
	t.Logf("%+v\n%s", i, i.Message())
}
