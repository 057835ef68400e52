// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	crdapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	crdopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/skerry-dev/skerry/distro/pki"
)

// listenAPI listens for the API server on one address. It is called for the
// loopback interface before anything on the machine is changed: whoever has that
// port is most likely another cluster, whose network must not be touched.
func (c *Config) listenAPI(address string) (net.Listener, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort(address, strconv.Itoa(c.Ports.API)))
	if err != nil {
		return nil, fmt.Errorf("listen for the API server (is another cluster running on this machine? see --api-port): %w", err)
	}
	return l, nil
}

// apiListener listens, beside the loopback interface, on the node's address and,
// where that is another one, the bridge's: on nothing else.
func (c *Config) apiListener(loopback net.Listener) (net.Listener, error) {
	parts := []net.Listener{loopback}
	addrs := []netip.Addr{c.NodeAddress()}
	if b := c.BridgeAddress(); b != c.NodeAddress() {
		addrs = append(addrs, b)
	}
	for _, a := range addrs {
		l, err := c.listenAPI(a.String())
		if err != nil {
			for _, p := range parts[1:] {
				p.Close()
			}
			return nil, err
		}
		parts = append(parts, l)
	}
	return merge(parts...), nil
}

func (c *Config) apiServerOptions(dir pki.Dir, etcd, encryption string, l net.Listener) *options.ServerRunOptions {
	s := options.NewServerRunOptions()
	s.Etcd.StorageConfig.Transport.ServerList = []string{etcd}
	s.Etcd.EncryptionProviderConfigFilepath = encryption
	s.SecureServing.Listener = l
	s.SecureServing.BindPort = c.Ports.API
	s.SecureServing.ServerCert.CertKey.CertFile = dir.Cert(apiServerCert)
	s.SecureServing.ServerCert.CertKey.KeyFile = dir.Key(apiServerCert)
	s.GenericServerRunOptions.AdvertiseAddress = net.IP(c.NodeAddress().AsSlice())
	s.Authentication.Anonymous.Allow = false
	s.Authentication.ClientCert.ClientCA = dir.Cert(caName)
	s.Authentication.RequestHeader.ClientCAFile = dir.Cert(frontProxyCA)
	s.Authentication.RequestHeader.AllowedNames = []string{"front-proxy-client"}
	s.Authentication.RequestHeader.UsernameHeaders = []string{"X-Remote-User"}
	s.Authentication.RequestHeader.UIDHeaders = []string{"X-Remote-Uid"}
	s.Authentication.RequestHeader.GroupHeaders = []string{"X-Remote-Group"}
	s.Authentication.RequestHeader.ExtraHeaderPrefixes = []string{"X-Remote-Extra-"}
	s.Authentication.ServiceAccounts.Issuers = []string{"https://kubernetes.default.svc." + ClusterDomain}
	s.Authentication.ServiceAccounts.KeyFiles = []string{dir.Pub(signingKey)}
	s.ServiceAccountSigningKeyFile = dir.Key(signingKey)
	s.Authorization.Modes = []string{"Node", "RBAC"}
	s.Admission.GenericAdmission.EnablePlugins = []string{"NodeRestriction"}
	s.ProxyClientCertFile = dir.Cert(frontProxyClient)
	s.ProxyClientKeyFile = dir.Key(frontProxyClient)
	// The aggregated API's Service has no selector and no proxy is needed to
	// reach its one endpoint.
	s.EnableAggregatorRouting = true
	s.AllowPrivileged = true // also for the kubelet: the setting is process-wide and this is the first to make it
	s.ServiceClusterIPRanges = c.serviceCIDR.String()
	s.KubeletConfig.PreferredAddressTypes = []string{"InternalIP"} // the node's name need not resolve
	s.KubeletConfig.TLSClientConfig.CertFile = dir.Cert(apiServerKubelet)
	s.KubeletConfig.TLSClientConfig.KeyFile = dir.Key(apiServerKubelet)
	s.KubeletConfig.TLSClientConfig.CAFile = dir.Cert(caName)
	return s
}

// runAPIServer runs until the context ends.
func (c *Config) runAPIServer(ctx context.Context, s *options.ServerRunOptions) error {
	// Its own clients need no warnings about deprecated APIs, every ten seconds.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	// Once per process, before anything reads a feature gate.
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := s.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	cfg, err := app.NewConfig(completed)
	if err != nil {
		return err
	}
	// OpenAPI v2 costs 20 MiB and nobody here asks for it: kubectl's apply and
	// explain, server-side apply and helm all use version 3. Custom resources'
	// part stays on, as without it their version 3 is off, too; but it knows only
	// its own types, and the specification is computed only when somebody asks.
	cfg.KubeAPIs.ControlPlane.Generic.OpenAPIConfig = nil
	cfg.Aggregator.GenericConfig.OpenAPIConfig = nil
	cfg.ApiExtensions.GenericConfig.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(
		crdopenapi.GetOpenAPIDefinitions, openapinamer.NewDefinitionNamer(crdapiserver.Scheme))
	full, err := cfg.Complete()
	if err != nil {
		return err
	}
	chain, err := app.CreateServerChain(full)
	if err != nil {
		return err
	}
	server, err := chain.PrepareRun()
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// waitAPI polls /readyz as the administrator until it says ok.
func (i *instance) waitAPI(ctx context.Context) error {
	cert, err := tls.LoadX509KeyPair(i.dir.Cert(adminCert), i.dir.Key(adminCert))
	if err != nil {
		return err
	}
	roots, err := i.roots()
	if err != nil {
		return err
	}
	return pollReady(ctx, "API server", i.cfg.server()+"/readyz", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}})
}

func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return err
}
