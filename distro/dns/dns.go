// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	"github.com/coredns/coredns/plugin/kubernetes"
)

// directive is CoreDNS's kubernetes plugin, set up by setup below.
const directive = "cluster"

// Config is the DNS server's.
type Config struct {
	Address    netip.Addr
	Port       int // UDP and TCP
	Domain     string
	Kubeconfig string
	// Upstreams answer for everything outside Domain. Without any, such names
	// are refused.
	Upstreams []netip.AddrPort
}

// Server is a running DNS server.
type Server struct{ instance *caddy.Instance }

var register = sync.OnceValue(func() error {
	plugin.Register(directive, setup)
	caddy.Quiet, dnsserver.Quiet = true, true
	return dnsserver.SetDirectives([]string{"bind", "errors", "cache", directive, "forward"})
})

// Start starts it. It answers SERVFAIL for the cluster's names until it has seen
// the API server.
func Start(c Config) (*Server, error) {
	if err := register(); err != nil {
		return nil, fmt.Errorf("set up the DNS server: %w", err)
	}
	inst, err := caddy.Start(input(c))
	if err != nil {
		return nil, fmt.Errorf("start the DNS server on %s port %d: %w", c.Address, c.Port, err)
	}
	return &Server{inst}, nil
}

// Reconfigure changes the upstreams of a running server.
func (s *Server) Reconfigure(c Config) error {
	inst, err := s.instance.Restart(input(c))
	if err != nil {
		return fmt.Errorf("restart the DNS server: %w", err)
	}
	s.instance = inst
	return nil
}

// Stop ends it.
func (s *Server) Stop() error {
	err := errors.Join(s.instance.ShutdownCallbacks()...)
	return errors.Join(err, s.instance.Stop())
}

func input(c Config) caddy.Input {
	return caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile(c)), ServerTypeName: "dns"}
}

func corefile(c Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".:%d {\n\tbind %s\n\terrors\n\tcache 30 {\n\t\tdisable success %s\n\t\tdisable denial %s\n\t}\n", c.Port, c.Address, c.Domain, c.Domain)
	fmt.Fprintf(&b, "\t%s %s in-addr.arpa ip6.arpa {\n\t\tkubeconfig %s\n\t\tpods insecure\n\t\tttl 5\n\t\tstartup_timeout 1s\n\t\tfallthrough in-addr.arpa ip6.arpa\n\t}\n", directive, c.Domain, quote(c.Kubeconfig))
	if len(c.Upstreams) > 0 {
		b.WriteString("\tforward .")
		for _, u := range c.Upstreams {
			b.WriteString(" " + u.String())
		}
		b.WriteString(" {\n\t\tmax_concurrent 1000\n\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func quote(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) + `"`
}

// setup does what the kubernetes directive does, without redirecting klog.
func setup(c *caddy.Controller) error {
	var k *kubernetes.Kubernetes
	for c.Next() {
		if k != nil {
			return plugin.Error(directive, plugin.ErrOnce)
		}
		var err error
		if k, err = kubernetes.ParseStanza(c); err != nil {
			return plugin.Error(directive, err)
		}
	}
	onStart, onShut, err := k.InitKubeCache(context.Background())
	if err != nil {
		return plugin.Error(directive, err)
	}
	if onStart != nil {
		c.OnStartup(onStart)
	}
	if onShut != nil {
		c.OnShutdown(onShut)
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		k.Next = next
		return k
	})
	return nil
}
