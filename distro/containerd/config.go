// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Config says where one containerd keeps its things.
type Config struct {
	BinDir  string // containerd, containerd-shim-runc-v2, ctr, CNI plugins
	Root    string // images, snapshots, metadata: survives a reboot
	State   string // sockets and bundles: ends with a reboot
	Socket  string
	LogFile string
	CNIConf string // directory of the CNI configuration
	// Registries has a directory with a hosts.toml for each registry (host:port) that
	// is not reached in the usual way.
	Registries string
	// SandboxImage is the image of every pod's first container.
	SandboxImage string
	// SystemdCgroup leaves cgroups to systemd.
	SystemdCgroup bool
	// RestrictOOMScore keeps containers' OOM scores at or above this process's:
	// without CAP_SYS_RESOURCE runc cannot lower them.
	RestrictOOMScore bool
}

// render is the daemon's configuration file (version 3, TOML).
func (c Config) render() string {
	var b strings.Builder
	table := func(path ...string) {
		b.WriteString("\n[" + strings.Join(path, ".") + "]\n")
	}
	str := func(key, value string) { b.WriteString(key + " = " + tomlString(value) + "\n") }
	boolean := func(key string, v bool) { b.WriteString(key + " = " + strconv.FormatBool(v) + "\n") }

	b.WriteString("# Written by skerry at every start.\nversion = 3\n")
	str("root", c.Root)
	str("state", c.State)
	b.WriteString(`imports = []
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.differ.v1.erofs",
  "io.containerd.mount-handler.v1.erofs",
  "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp",
]
`)
	table("grpc")
	str("address", c.Socket)
	table("ttrpc")
	str("address", c.Socket+".ttrpc")

	runtime := []string{"plugins", "'io.containerd.cri.v1.runtime'"}
	table(runtime...)
	boolean("restrict_oom_score_adj", c.RestrictOOMScore)
	// Otherwise the pods' network namespaces would be mounted in /run/netns.
	boolean("netns_mounts_under_state_dir", true)
	b.WriteString("cdi_spec_dirs = []\n")
	table(append(runtime, "cni")...)
	b.WriteString("bin_dirs = [" + tomlString(c.BinDir) + "]\n")
	str("conf_dir", c.CNIConf)
	// The loopback plugin would be one more process per pod.
	boolean("use_internal_loopback", true)
	runc := append(runtime, "containerd", "runtimes", "runc")
	table(append(runtime, "containerd")...)
	str("default_runtime_name", "runc")
	table(runc...)
	str("runtime_type", "io.containerd.runc.v2")
	str("runtime_path", filepath.Join(c.BinDir, "containerd-shim-runc-v2"))
	table(append(runc, "options")...)
	str("Root", filepath.Join(c.State, "runc"))
	boolean("SystemdCgroup", c.SystemdCgroup)

	table("plugins", "'io.containerd.cri.v1.images'")
	// A power cut after a pull must not leave an image of empty files.
	boolean("image_pull_with_sync_fs", true)
	if c.Registries != "" {
		table("plugins", "'io.containerd.cri.v1.images'", "registry")
		str("config_path", c.Registries)
	}
	table("plugins", "'io.containerd.cri.v1.images'", "pinned_images")
	str("sandbox", c.SandboxImage)
	table("plugins", "'io.containerd.shim.v1.manager'")
	str("socket_dir", filepath.Join(c.State, "s"))
	table("plugins", "'io.containerd.internal.v1.opt'")
	str("path", filepath.Join(c.Root, "opt"))
	return b.String()
}

// tomlString is a TOML basic string; strconv's escapes are a superset of what a
// path needs and all valid in TOML except \x and \a, \v, which are written as \u.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			h := strconv.FormatInt(int64(r), 16)
			b.WriteString(`\u` + strings.Repeat("0", 4-len(h)) + h)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
