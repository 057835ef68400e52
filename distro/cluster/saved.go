// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skerry-dev/skerry/distro/hostnet"
	"github.com/skerry-dev/skerry/distro/pki"
	"github.com/skerry-dev/skerry/distro/teardown"
)

// saved is what a start leaves in the data directory for the commands that come
// later: status, down and reset must find the names that up was given.
type saved struct {
	Config Config
	// Sysctls are the kernel's settings from before the first start.
	Sysctls map[string]string
}

// changedSysctls are those that the kubelet, kube-proxy and hostnet set.
var changedSysctls = []string{
	"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops",
	hostnet.BridgeFilter, "net/ipv4/conf/all/route_localnet", "net/ipv4/ip_forward",
	"vm/overcommit_memory", "vm/panic_on_oom",
}

// cniResults is where containerd's CNI library keeps what plugins answered, one
// file per pod, named after the network. It cannot be moved.
const cniResults = "/var/lib/cni/results"

func savedFile(dataDir string) string { return filepath.Join(dataDir, "cluster.json") }

// save remembers the configuration, and at the first start the kernel's settings.
func (c *Config) save() error {
	s := saved{Config: *c}
	if old, err := load(c.DataDir); err == nil {
		s.Sysctls = old.Sysctls
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.Sysctls == nil {
		s.Sysctls = map[string]string{}
		for _, name := range changedSysctls {
			if b, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil {
				s.Sysctls[name] = strings.TrimSpace(string(b))
			}
		}
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(savedFile(c.DataDir), b, 0o600)
}

// fits refuses to start a cluster with other names and networks than it was made with.
func (c *Config) fits() error {
	old, err := load(c.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.unchanged(&old.Config)
}

// unchanged refuses what cannot change in the life of a cluster.
func (c *Config) unchanged(old *Config) error {
	var errs []error
	for _, f := range []struct{ field, now, then string }{
		{"node name", c.NodeName, old.NodeName},
		{"pod CIDR", c.PodCIDR, old.PodCIDR},
		{"service CIDR", c.ServiceCIDR, old.ServiceCIDR},
		{"bridge", c.Bridge, old.Bridge},
		{"run dir", c.RunDir, old.RunDir},
		{"cgroup root", c.CgroupRoot, old.CgroupRoot},
	} {
		if f.now != f.then {
			errs = append(errs, fmt.Errorf("%s %q: must stay %q, with which the cluster in %s was made (or reset it first)", f.field, f.now, f.then, c.DataDir))
		}
	}
	return errors.Join(errs...)
}

func load(dataDir string) (saved, error) {
	var s saved
	b, err := os.ReadFile(savedFile(dataDir))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s, which holds the flags of the last start, is damaged: remove it and start with the same flags as before: %w", savedFile(dataDir), err)
	}
	return s, nil
}

// Exists tells whether a cluster was ever started in a data directory. Only then
// is what has its names the cluster's to remove.
func Exists(dataDir string) (bool, error) {
	for _, file := range []string{savedFile(dataDir), madeFile(dataDir)} {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// madeFile is written when a cluster has been ready for the first time: a start
// that was cut short before does not count.
func madeFile(dataDir string) string { return filepath.Join(dataDir, "made") }

// Load returns the configuration with which the cluster in a data directory was
// started last, or, where none ever was, what the flags alone say.
func Load(flags Config) (*Config, error) {
	s, err := load(flags.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.Config = flags
	case err != nil:
		return nil, err
	}
	// The directories are where they were found, whatever they were called then.
	s.Config.DataDir = flags.DataDir
	if flags.RunDir != DefaultRunDir || s.Config.RunDir == "" {
		s.Config.RunDir = flags.RunDir
	}
	return &s.Config, s.Config.Complete()
}

// Teardown names all that the cluster leaves on the machine.
func (c *Config) Teardown() (teardown.Target, error) {
	t := teardown.Target{
		DataDir: c.DataDir, RunDir: c.RunDir, KubeletDirs: []string{devicePlugins}, Bridge: c.Bridge, CgroupRoot: c.CgroupRoot,
		SharedFiles: []string{filepath.Join(cniResults, c.Bridge+"-*")},
		NFTables: []string{
			"ip kube-proxy", "ip6 kube-proxy", "inet " + c.Bridge,
			"inet cni_plugins_masquerade", "inet cni_hostport", "ip cni_hostport", "ip6 cni_hostport",
		},
	}
	if c.CgroupRoot == "/" {
		// Without a root of their own the pods are where every kubelet has them.
		t.CgroupRoot = "/kubepods"
	}
	if h, err := detectHost(); err != nil {
		return t, err
	} else if h.systemd {
		t.CgroupRoot += ".slice"
	}
	s, err := load(c.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	t.Sysctls = s.Sysctls
	t.CNIBinDir, t.CNIStateDir = c.attachPlugins(), c.attachDir()
	return t, nil
}
