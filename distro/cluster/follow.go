// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/skerry-dev/skerry/distro/dns"
	"github.com/skerry-dev/skerry/distro/hostnet"
)

// hostEvery is how often the machine's name servers and one kernel switch are
// looked at. Name servers change when an edge box gets a new lease; polling one
// small file also sees a replaced symlink, which a watch on the file would not.
const hostEvery = 15 * time.Second

// upstreams are the machine's name servers.
func (c *Config) upstreams() []netip.AddrPort {
	path := hostResolvConf()
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return dns.Nameservers(string(b), c.BridgeAddress(), c.DNSServiceAddress())
}

// startDNS starts the DNS server and follows the machine's own resolv.conf.
func (i *instance) startDNS(ctx context.Context, client kubernetes.Interface) error {
	c := i.cfg
	if err := c.applyDNS(ctx, client); err != nil {
		return err
	}
	cfg := dns.Config{Address: c.BridgeAddress(), Port: c.Ports.DNS, Domain: ClusterDomain, Kubeconfig: c.kubeconfigFor(dnsCert)}
	cfg.Upstreams = c.upstreams()
	server, err := dns.Start(cfg)
	if err != nil {
		return err
	}
	go i.followHost(ctx, server, cfg)
	return nil
}

// followHost gives the DNS server new upstreams when they change, keeps what the
// pods' network needs of the kernel, and stops the server at the end.
func (i *instance) followHost(ctx context.Context, server *dns.Server, cfg dns.Config) {
	tick := time.NewTicker(hostEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := server.Stop(); err != nil {
				i.log.Warn("stop the DNS server", "err", err)
			}
			return
		case <-tick.C:
		}
		if wasOn, err := hostnet.RouteBridged(); err != nil {
			i.log.Error("keep bridged packets off the IPv4 rules", "err", err)
		} else if wasOn {
			i.log.Warn("somebody switched it on; switched off again, as pods could not reach each other's Services", "sysctl", hostnet.BridgeFilter)
		}
		now := i.cfg.upstreams()
		if slices.Equal(now, cfg.Upstreams) {
			continue
		}
		cfg.Upstreams = now
		if err := server.Reconfigure(cfg); err != nil {
			i.log.Error("give the DNS server new upstreams", "upstreams", now, "err", err)
			continue
		}
		i.log.Info("name servers changed", "upstreams", now)
	}
}
