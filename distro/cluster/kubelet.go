// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"

	"github.com/skerry-dev/skerry/distro/box"
	"github.com/skerry-dev/skerry/distro/pki"
)

// devicePlugins is where the kubelet listens for device plugins. The path is a
// constant of its API and cannot be moved with its root directory.
const devicePlugins = "/var/lib/kubelet/device-plugins"

func (c *Config) kubeletOptions(dir pki.Dir) (*options.KubeletServer, error) {
	s, err := options.NewKubeletServer()
	if err != nil {
		return nil, err
	}
	s.HostnameOverride = c.NodeName
	s.NodeIP = c.NodeAddress().String()
	s.KubeConfig = c.kubeconfigFor(kubeletCert)
	s.RootDirectory = c.KubeletRoot()
	s.CertDirectory = filepath.Join(c.KubeletRoot(), "pki")
	s.PodLogsDir = filepath.Join(c.LogDir(), "pods")
	s.VolumePluginDir = filepath.Join(c.KubeletRoot(), "volume-plugins")
	s.StaticPodPath = ""
	s.ContainerRuntimeEndpoint = "unix://" + c.ContainerdSocket()
	s.Address = c.NodeAddress().String()
	s.Port = int32(c.Ports.Kubelet)
	s.HealthzPort = int32(c.Ports.KubeletHealth)
	s.HealthzBindAddress = "127.0.0.1"
	// The library's defaults are those of the old command line: open to all.
	s.ReadOnlyPort = 0
	s.Authentication.Anonymous.Enabled = false
	s.Authentication.Webhook.Enabled = true
	s.Authentication.X509.ClientCAFile = dir.Cert(caName)
	s.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	s.TLSCertFile = dir.Cert(kubeletCert)
	s.TLSPrivateKeyFile = dir.Key(kubeletCert)
	s.RotateCertificates = false
	s.ServerTLSBootstrap = false
	s.ClusterDNS = []string{c.DNSServiceAddress().String()}
	s.ClusterDomain = ClusterDomain
	s.ResolverConfig = hostResolvConf()
	s.FailCgroupV1 = false
	s.CgroupDriver = c.host.cgroupDriver()
	s.CgroupRoot = c.CgroupRoot
	s.FailSwapOn = false
	// The score is set on this very process. -999 needs CAP_SYS_RESOURCE.
	s.OOMScoreAdj = 0
	if c.host.sysResource {
		s.OOMScoreAdj = -999
	}
	// A full disk is no reason to end a machine: one that writes stands still until
	// there is space, and what it would leave behind is a fraction of what is needed.
	// 0% is how a threshold is switched off; one that is left out has a default.
	s.EvictionHard = map[string]string{
		"memory.available": strconv.Itoa(box.EvictionMemory),
		"nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%",
	}
	if m, err := readMemory(); err == nil {
		s.SystemReserved = map[string]string{"memory": strconv.FormatUint(box.SystemReserve(m.Total), 10)}
	}
	// Its iptables chains serve kube-proxy's iptables mode, which is not used.
	s.MakeIPTablesUtilChains = false
	s.SerializeImagePulls = false
	parallel := int32(3)
	s.MaxParallelImagePulls = &parallel
	s.MaxPods = maxPods(c.podCIDR.Bits())
	s.PodPidsLimit = 16384
	s.KubeletFlags.SeccompDefault = true
	s.KubeletConfiguration.SeccompDefault = true
	// How soon a device that has become available can be scheduled on. The API is
	// written to only when something changed.
	s.NodeStatusUpdateFrequency = metav1.Duration{Duration: time.Second}
	return s, nil
}

// maxPods leaves room in the pods' network for the gateway, the network's own
// two addresses and pods that are on their way out.
func maxPods(bits int) int32 {
	n := 1<<(32-bits) - 14
	return int32(min(max(n, 1), 240))
}

// hostResolvConf is the file with the machine's real name servers: where
// systemd-resolved runs, /etc/resolv.conf names only its stub, which pods cannot
// reach.
func hostResolvConf() string {
	const etc, resolved = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	if target, err := filepath.EvalSymlinks(etc); err == nil && target == "/run/systemd/resolve/stub-resolv.conf" {
		if _, err := os.Stat(resolved); err == nil {
			return resolved
		}
	}
	if _, err := os.Stat(etc); err != nil {
		return ""
	}
	return etc
}

func (c *Config) runKubelet(ctx context.Context, dir pki.Dir) error {
	s, err := c.kubeletOptions(dir)
	if err != nil {
		return err
	}
	deps, err := app.UnsecuredDependencies(ctx, s, utilfeature.DefaultFeatureGate)
	if err != nil {
		return err
	}
	return app.Run(ctx, s, deps, utilfeature.DefaultFeatureGate)
}

// linkDevicePlugins makes the kubelet's root directory look complete to device
// plugins that look there.
func linkDevicePlugins(link string) error {
	if target, err := os.Readlink(link); err == nil && target == devicePlugins {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: must be a link to %s: %w", link, devicePlugins, err)
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o750); err != nil {
		return err
	}
	// Before the kubelet makes it, so that nobody finds the link leading nowhere.
	if err := os.MkdirAll(devicePlugins, 0o750); err != nil {
		return err
	}
	return os.Symlink(devicePlugins, link)
}
