// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/skerry-dev/skerry/distro/pki"
)

// kubeconfigFor is the path of a component's kubeconfig.
func (c *Config) kubeconfigFor(cert string) string { return c.data("kubeconfigs", cert+".yaml") }

// server is the URL by which this machine reaches the API server.
func (c *Config) server() string { return fmt.Sprintf("https://127.0.0.1:%d", c.Ports.API) }

// writeKubeconfigs writes the administrator's kubeconfig, which can be copied
// elsewhere as it contains its key, and the components', which name the files of
// their certificates so that a renewed one is taken up while they run.
func (c *Config) writeKubeconfigs(dir pki.Dir) error {
	if err := os.MkdirAll(c.data("kubeconfigs"), 0o700); err != nil {
		return err
	}
	for _, cert := range []string{kcmCert, schedulerCert, proxyCert, kubeletCert, dnsCert, controllerCert, agentCert} {
		auth := &clientcmdapi.AuthInfo{ClientCertificate: dir.Cert(cert), ClientKey: dir.Key(cert)}
		if err := writeKubeconfig(c.kubeconfigFor(cert), c.server(), &clientcmdapi.Cluster{CertificateAuthority: dir.Cert(caName)}, auth, cert); err != nil {
			return err
		}
	}
	read := func(path string) []byte {
		b, _ := os.ReadFile(path) // written a moment ago by Ensure; clientcmd refuses an empty one
		return b
	}
	server := c.server()
	if c.bindAddress.IsValid() {
		server = fmt.Sprintf("https://%s:%d", c.bindAddress, c.Ports.API)
	}
	return writeKubeconfig(c.Kubeconfig(), server,
		&clientcmdapi.Cluster{CertificateAuthorityData: read(dir.Cert(caName))},
		&clientcmdapi.AuthInfo{ClientCertificateData: read(dir.Cert(adminCert)), ClientKeyData: read(dir.Key(adminCert))}, "skerry-admin")
}

func writeKubeconfig(path, server string, cluster *clientcmdapi.Cluster, auth *clientcmdapi.AuthInfo, user string) error {
	cluster.Server = server
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["skerry"] = cluster
	cfg.AuthInfos[user] = auth
	cfg.Contexts["skerry"] = &clientcmdapi.Context{Cluster: "skerry", AuthInfo: user}
	cfg.CurrentContext = "skerry"
	b, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", filepath.Base(path), err)
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return pki.WriteFile(path, b, 0o600)
}

// adminREST is this process's own access as administrator.
func (c *Config) adminREST() (*rest.Config, error) {
	r, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	r.Host = c.server()
	r.QPS, r.Burst = 100, 200
	return r, nil
}
