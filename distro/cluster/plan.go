// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net"
	"net/netip"

	"github.com/skerry-dev/skerry/distro/pki"
)

// Names in the certificate directory.
const (
	caName           = "ca"
	frontProxyCA     = "front-proxy-ca"
	apiServerCert    = "apiserver"
	apiServerKubelet = "apiserver-kubelet-client"
	frontProxyClient = "front-proxy-client"
	adminCert        = "admin"
	kcmCert          = "kube-controller-manager"
	schedulerCert    = "kube-scheduler"
	proxyCert        = "kube-proxy"
	kubeletCert      = "kubelet"
	dnsCert          = "dns"
	controllerCert   = "skerry-controller"
	controllerServer = "skerry-controller-serving"
	agentCert        = "skerry-node"
	agentServer      = "skerry-node-serving"
	signingKey       = "sa"
	registryCert     = "registry"
)

// Skerry's own names in the cluster.
const (
	skerryNamespace   = "skerry-system"
	controllerService = "skerry-controller"
	controllerUser    = "skerry-controller"
	controllerGroup   = "skerry:controllers"
	agentUserPrefix   = "skerry-node:"
	agentGroup        = "skerry:nodes"
	dnsUser           = "skerry:dns"
)

// certificates is everything that the cluster's parts prove themselves with.
func (c *Config) certificates() pki.Plan {
	ip := func(addrs ...netip.Addr) (out []net.IP) {
		for _, a := range addrs {
			out = append(out, net.IP(a.AsSlice()))
		}
		return out
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	node := c.NodeAddress()
	apiIPs := ip(loopback, c.APIServiceAddress(), node)
	if b := c.BridgeAddress(); b != node {
		apiIPs = append(apiIPs, ip(b)...)
	}
	client := func(name, cn string, org ...string) pki.Leaf {
		return pki.Leaf{Name: name, Authority: caName, CommonName: cn, Organization: org, Client: true}
	}
	svc := controllerService + "." + skerryNamespace + ".svc"
	plan := pki.Plan{
		Authorities: []pki.Authority{
			{Name: caName, CommonName: "skerry-ca"},
			{Name: frontProxyCA, CommonName: "skerry-front-proxy-ca"},
		},
		Leaves: []pki.Leaf{
			{Name: apiServerCert, Authority: caName, CommonName: "kube-apiserver", Server: true, IPs: apiIPs,
				DNSNames: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + ClusterDomain, "localhost", c.NodeName}},
			client(apiServerKubelet, "kube-apiserver-kubelet-client", "system:masters"),
			{Name: frontProxyClient, Authority: frontProxyCA, CommonName: "front-proxy-client", Client: true},
			client(adminCert, "skerry-admin", "system:masters"),
			client(kcmCert, "system:kube-controller-manager"),
			client(schedulerCert, "system:kube-scheduler"),
			client(proxyCert, "system:kube-proxy"),
			{Name: kubeletCert, Authority: caName, CommonName: "system:node:" + c.NodeName, Organization: []string{"system:nodes"},
				Client: true, Server: true, DNSNames: []string{c.NodeName}, IPs: ip(node)},
			client(dnsCert, dnsUser),
			client(controllerCert, controllerUser, controllerGroup),
			{Name: controllerServer, Authority: caName, CommonName: svc, Server: true, DNSNames: []string{svc, svc + "." + ClusterDomain}, IPs: ip(node)},
			client(agentCert, agentUserPrefix+c.NodeName, agentGroup),
			{Name: agentServer, Authority: caName, CommonName: c.NodeName + ".skerry-node", Server: true,
				DNSNames: []string{c.NodeName + ".skerry-node"}, IPs: ip(node)},
		},
		SigningKey: signingKey,
	}
	if c.Registry == RegistryOn {
		plan.Leaves = append(plan.Leaves, pki.Leaf{Name: registryCert, Authority: caName, CommonName: registryCert, Server: true,
			DNSNames: []string{"localhost"}, IPs: ip(loopback, c.BridgeAddress())})
	}
	return plan
}
