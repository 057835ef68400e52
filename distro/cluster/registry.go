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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-dev/skerry/distro/containerd"
	"github.com/skerry-dev/skerry/distro/registry"
)

// Values of Config.Registry.
const (
	RegistryOn  = "on"
	RegistryOff = "off"
)

// registrySecret is the pull secret for the cluster's registry, in kube-system.
const registrySecret = "skerry-registry"

// RegistryHosts are the names of the cluster's registry: on the pods' bridge, as
// pods and images' names have it, and on this machine.
func (c *Config) RegistryHosts() []string {
	port := ":" + strconv.Itoa(c.Ports.Registry)
	return []string{c.BridgeAddress().String() + port, "127.0.0.1" + port, "localhost" + port}
}

// RegistryLogin is the file (a Docker configuration) with the registry's login.
func (c *Config) RegistryLogin() string { return c.data("registry-login.json") }

// CAFile is the certificate of the cluster's authority.
func (c *Config) CAFile() string { return filepath.Join(c.PKIDir(), caName+".crt") }

// registriesDir is where containerd looks up how a registry is reached.
func (c *Config) registriesDir() string { return c.data("containerd-registries") }

// trustRegistry has containerd trust the registry, or not any more. containerd
// reads these files at every pull.
func (c *Config) trustRegistry() error {
	for _, h := range c.RegistryHosts() {
		dir := filepath.Join(c.registriesDir(), h)
		if c.Registry != RegistryOn {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			continue
		}
		if err := containerd.Trust(dir, h, c.CAFile()); err != nil {
			return fmt.Errorf("have containerd trust the registry: %w", err)
		}
	}
	return nil
}

// startRegistry serves the cluster's registry and makes its pull secret.
func (i *instance) startRegistry(ctx context.Context, client kubernetes.Interface) error {
	c := i.cfg
	if c.Registry != RegistryOn {
		err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, registrySecret, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete secret %s/%s: %w", metav1.NamespaceSystem, registrySecret, err)
		}
		return nil
	}
	return i.stage("registry", func() (string, error) {
		hosts := c.RegistryHosts()
		login, content, err := registry.EnsureLogin(c.RegistryLogin(), hosts)
		if err != nil {
			return "", err
		}
		server, err := registry.Start(ctx, registry.Config{
			Dir: c.data("registry"), Addresses: hosts[:2], Login: login, Log: i.out,
			CertFile: i.dir.Cert(registryCert), KeyFile: i.dir.Key(registryCert),
		})
		if err != nil {
			return "", err
		}
		i.part(ctx, "registry", server.Run)
		secret := coreapply.Secret(registrySecret, metav1.NamespaceSystem).WithType(corev1.SecretTypeDockerConfigJson).
			WithData(map[string][]byte{corev1.DockerConfigJsonKey: content})
		if _, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Apply(ctx, secret, own); err != nil {
			return "", fmt.Errorf("apply secret %s/%s: %w", metav1.NamespaceSystem, registrySecret, err)
		}
		return hosts[0], nil
	})
}

// ErrNoRegistry says that the cluster has none.
var ErrNoRegistry = errors.New(`the cluster has no registry: start it once with "skerry up --registry", or name another registry's image as host/name:tag`)

// RegistryContent is the Docker configuration with the registry's login.
func (c *Config) RegistryContent() ([]byte, error) {
	if c.Registry != RegistryOn {
		return nil, ErrNoRegistry
	}
	b, err := os.ReadFile(c.RegistryLogin())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoRegistry
	}
	return b, err
}
