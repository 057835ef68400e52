// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/node"
)

// Defaults of a Config.
const (
	DefaultDataDir     = "/var/lib/skerry"
	DefaultRunDir      = "/run/skerry-host"
	DefaultBridge      = "skerry0"
	DefaultPodCIDR     = "10.42.0.0/24"
	DefaultServiceCIDR = "10.96.0.0/16"
	ClusterDomain      = "cluster.local"
)

// Ports are the TCP ports of a node. All but the API server's are of no interest
// to users; they can be moved so that two clusters fit on one machine.
type Ports struct {
	API           int // on 127.0.0.1 and on the node's address
	Kubelet       int // on the node's address
	KubeletHealth int // on 127.0.0.1
	ProxyHealth   int // on 127.0.0.1
	ProxyMetrics  int // on 127.0.0.1
	DNS           int // UDP and TCP, on the bridge's address
	Controller    int // webhooks and aggregated API, on the node's address
	NodeAgent     int // on the node's address
	Registry      int // on 127.0.0.1 and on the bridge's address, if there is one
}

// DefaultPorts are Kubernetes' usual ones where there is a usual one.
func DefaultPorts() Ports {
	return Ports{API: 6443, Kubelet: 10250, KubeletHealth: 10248, ProxyHealth: 10256, ProxyMetrics: 10249, DNS: 10053, Controller: 8443, NodeAgent: 8187, Registry: 5000}
}

// Config is what can be chosen about the embedded cluster. Complete fills what
// is empty with the defaults.
type Config struct {
	// DataDir holds everything that must survive a reboot: etcd, certificates,
	// images, volumes, logs.
	DataDir string
	// RunDir holds sockets and other things that end with a reboot.
	RunDir string
	// BinDir has containerd, its shim, ctr and the CNI plugins. Default: where
	// this binary is.
	BinDir string
	// ImagesDir has OCI archives (*.tar) that are imported at every start.
	// Default: <BinDir>/../images if that exists, else <DataDir>/images.
	ImagesDir string
	// BindAddress is an address of this machine on which the API server and the
	// node's Services are reachable from outside. Empty: from this machine only.
	BindAddress string
	// NodeName is the node's name. Default: the host name in lower case.
	NodeName string
	// PodCIDR is the pods' network; its first address is the bridge's.
	PodCIDR string
	// ServiceCIDR is the network of cluster IPs: its first address is the API
	// server's, its tenth is the DNS server's.
	ServiceCIDR string
	// Bridge is the name of the pods' bridge, and of the nftables table and the
	// CNI network that belong to it.
	Bridge string
	// CgroupRoot is the cgroup under which all pods are. Default: "/skerry", or one
	// named after DataDir where that is not the default: two kubelets would take
	// each other's pods for their own left-overs, and reset must never end others'.
	CgroupRoot string
	// Accel is the node agent's choice of QEMU accelerator: auto, kvm or tcg.
	Accel string
	// Renew is auto to replace the QEMU of running machines when this version of
	// Skerry brings a newer one, or manual. Default: as at the last start, at first
	// manual.
	Renew string
	// ResizePolicy is what a change of a running machine's size does where the
	// machine does not say (docs/resize.md). Default: as at the last start, at first
	// InPlace.
	ResizePolicy v1.ResizePolicy
	// Registry is RegistryOn for a registry in the cluster, or RegistryOff. Default:
	// as at the last start, at first off.
	Registry string
	// Verbosity is klog's -v. 0 is quiet.
	Verbosity int
	Ports     Ports

	podCIDR, serviceCIDR netip.Prefix
	bindAddress          netip.Addr
	host                 host
}

// Complete fills defaults in and checks every field. Its error names the field,
// the value and what would be accepted, for all fields that are wrong.
func (c *Config) Complete() error {
	var errs []error
	bad := func(field, value, want string) {
		errs = append(errs, fmt.Errorf("%s %q: must be %s", field, value, want))
	}
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&c.DataDir, DefaultDataDir)
	def(&c.RunDir, DefaultRunDir)
	def(&c.Bridge, DefaultBridge)
	def(&c.PodCIDR, DefaultPodCIDR)
	def(&c.ServiceCIDR, DefaultServiceCIDR)
	def(&c.Accel, "auto")
	if c.BinDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find out where this binary is: %w", err)
		}
		c.BinDir = filepath.Dir(exe)
	}
	if c.ImagesDir == "" {
		c.ImagesDir = filepath.Join(filepath.Dir(filepath.Clean(c.BinDir)), "images")
		if _, err := os.Stat(c.ImagesDir); err != nil {
			c.ImagesDir = filepath.Join(c.DataDir, "images")
		}
	}
	if c.NodeName == "" {
		h, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find out the host name (or give --node-name): %w", err)
		}
		c.NodeName = strings.ToLower(h)
	}
	for _, d := range []struct{ field, value string }{{"data dir", c.DataDir}, {"run dir", c.RunDir}, {"binary dir", c.BinDir}} {
		if !filepath.IsAbs(d.value) {
			bad(d.field, d.value, "an absolute path")
		}
	}
	// A unix socket's path has 107 bytes; the longest here is a shim's.
	if len(c.RunDir) > 60 {
		bad("run dir", c.RunDir, "at most 60 bytes long, as unix sockets are below it")
	}
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		bad("node name", c.NodeName, strings.Join(msgs, "; "))
	} else if len(c.NodeName) > 63 {
		bad("node name", c.NodeName, "at most 63 characters, as it is also a label's value")
	}
	if !validIfName(c.Bridge) {
		bad("bridge", c.Bridge, "a network interface's name: 1 to 15 letters, digits, '-' or '_', beginning with a letter")
	}
	var err error
	if c.podCIDR, err = netip.ParsePrefix(c.PodCIDR); err != nil || !c.podCIDR.Addr().Is4() || c.podCIDR.Bits() > 28 || c.podCIDR.Bits() < 16 {
		bad("pod CIDR", c.PodCIDR, "an IPv4 network of /16 to /28 such as "+DefaultPodCIDR)
	}
	if c.serviceCIDR, err = netip.ParsePrefix(c.ServiceCIDR); err != nil || !c.serviceCIDR.Addr().Is4() || c.serviceCIDR.Bits() > 26 || c.serviceCIDR.Bits() < 12 {
		bad("service CIDR", c.ServiceCIDR, "an IPv4 network of /12 to /26 such as "+DefaultServiceCIDR)
	}
	if c.podCIDR.IsValid() && c.serviceCIDR.IsValid() && c.podCIDR.Overlaps(c.serviceCIDR) {
		bad("service CIDR", c.ServiceCIDR, "apart from the pod CIDR "+c.PodCIDR)
	}
	if c.BindAddress != "" {
		if c.bindAddress, err = netip.ParseAddr(c.BindAddress); err != nil || !c.bindAddress.Is4() || c.bindAddress.IsUnspecified() || c.bindAddress.IsLoopback() {
			bad("bind address", c.BindAddress, "an IPv4 address of one of this machine's interfaces")
		}
	}
	switch c.Accel {
	case "auto", "kvm", "tcg":
	default:
		bad("accelerator", c.Accel, "auto, kvm or tcg")
	}
	// What was damaged or is not there yet is no reason to fail here.
	if old, err := load(c.DataDir); err == nil {
		def(&c.Renew, old.Config.Renew)
		def((*string)(&c.ResizePolicy), string(old.Config.ResizePolicy))
	}
	def(&c.Renew, node.RenewManual)
	def((*string)(&c.ResizePolicy), string(v1.ResizeInPlace))
	switch c.Renew {
	case node.RenewAuto, node.RenewManual:
	default:
		bad("renew", c.Renew, node.RenewAuto+" or "+node.RenewManual)
	}
	switch c.ResizePolicy {
	case v1.ResizeInPlace, v1.ResizeInPlaceOrMigrate, v1.ResizeRestartOnly:
	default:
		bad("resize policy", string(c.ResizePolicy), fmt.Sprintf("%s, %s or %s", v1.ResizeInPlace, v1.ResizeInPlaceOrMigrate, v1.ResizeRestartOnly))
	}
	if c.Registry == "" {
		if old, err := load(c.DataDir); err == nil {
			c.Registry = old.Config.Registry
		}
	}
	def(&c.Registry, RegistryOff)
	switch c.Registry {
	case RegistryOn, RegistryOff:
	default:
		bad("registry", c.Registry, RegistryOn+" or "+RegistryOff)
	}
	if c.Ports == (Ports{}) {
		c.Ports = DefaultPorts()
	}
	if c.Ports.Registry == 0 { // saved by a version without one
		c.Ports.Registry = DefaultPorts().Registry
	}
	seen := map[int]string{}
	for _, p := range []struct {
		field string
		port  int
	}{{"API", c.Ports.API}, {"kubelet", c.Ports.Kubelet}, {"kubelet health", c.Ports.KubeletHealth}, {"proxy health", c.Ports.ProxyHealth},
		{"proxy metrics", c.Ports.ProxyMetrics}, {"DNS", c.Ports.DNS}, {"controller", c.Ports.Controller}, {"node agent", c.Ports.NodeAgent}, {"registry", c.Ports.Registry}} {
		if p.port < 1 || p.port > 65535 {
			bad(p.field+" port", fmt.Sprint(p.port), "1 to 65535")
		} else if other, ok := seen[p.port]; ok {
			bad(p.field+" port", fmt.Sprint(p.port), "another than the "+other+" port")
		}
		seen[p.port] = p.field
	}
	if c.CgroupRoot == "" {
		c.CgroupRoot = "/skerry"
		if c.DataDir != DefaultDataDir {
			sum := sha256.Sum256([]byte(filepath.Clean(c.DataDir)))
			c.CgroupRoot = "/skerry" + hex.EncodeToString(sum[:4])
		}
	}
	return errors.Join(errs...)
}

func validIfName(s string) bool {
	if len(s) < 1 || len(s) > 15 {
		return false
	}
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		digit := r >= '0' && r <= '9'
		if !letter && (i == 0 || !digit && r != '-' && r != '_') {
			return false
		}
	}
	return true
}

// nth is the nth address of a network (the zeroth is the network's own).
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// BridgeAddress is the pods' gateway, an address of the bridge.
func (c *Config) BridgeAddress() netip.Addr { return nth(c.podCIDR, 1) }

// NodeAddress is the node's internal IP.
func (c *Config) NodeAddress() netip.Addr {
	if c.bindAddress.IsValid() {
		return c.bindAddress
	}
	return c.BridgeAddress()
}

// APIServiceAddress is the cluster IP of the Service "kubernetes".
func (c *Config) APIServiceAddress() netip.Addr { return nth(c.serviceCIDR, 1) }

// DNSServiceAddress is the cluster IP of the Service "kube-dns".
func (c *Config) DNSServiceAddress() netip.Addr { return nth(c.serviceCIDR, 10) }

// Paths below the two directories.

// Kubeconfig is the administrator's.
func (c *Config) Kubeconfig() string { return filepath.Join(c.DataDir, "kubeconfig") }

// KubeletRoot is the kubelet's directory of pods.
func (c *Config) KubeletRoot() string { return filepath.Join(c.DataDir, "kubelet") }

// PKIDir has the certificates.
func (c *Config) PKIDir() string { return filepath.Join(c.DataDir, "pki") }

// LogDir has this process's and containerd's logs, and the pods' logs.
func (c *Config) LogDir() string { return filepath.Join(c.DataDir, "log") }

func (c *Config) containerdLog() string { return filepath.Join(c.LogDir(), "containerd.log") }

// LockFile is held (flock) by the running process, whose PID it contains.
func (c *Config) LockFile() string { return filepath.Join(c.DataDir, "lock") }

// ContainerdSocket is where containerd listens.
func (c *Config) ContainerdSocket() string { return filepath.Join(c.RunDir, "containerd.sock") }

func (c *Config) data(elem ...string) string {
	return filepath.Join(append([]string{c.DataDir}, elem...)...)
}

func (c *Config) run(elem ...string) string {
	return filepath.Join(append([]string{c.RunDir}, elem...)...)
}
