// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"errors"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi"
)

// Config is what Run needs.
type Config struct {
	// REST is the access to the API server. Required.
	REST *rest.Config
	// Namespace is where the controller itself lives; default skerry-system.
	Namespace string

	// LauncherImage is the image of the machines' pods. Required.
	LauncherImage string
	// LauncherPullPolicy is its pull policy; empty takes Kubernetes' default.
	LauncherPullPolicy corev1.PullPolicy
	// ImporterImage is the image of the pods that fetch machines' images from a
	// registry; "" for none: machines that need one say so.
	ImporterImage string

	// ListenAddress is the host:port of the webhooks and the subresources' API,
	// by TLS. Required.
	ListenAddress string
	// TLSCertFile and TLSKeyFile are its serving certificate (PEM), read again
	// when they change. Required.
	TLSCertFile, TLSKeyFile string

	// NodeClientCertFile and NodeClientKeyFile are the certificate with which
	// node agents are called, NodeCAFile the CA of theirs. All are read again
	// when they change. Required.
	NodeClientCertFile, NodeClientKeyFile, NodeCAFile string
	// NodeAgentPort is the agents' port; default 8187.
	NodeAgentPort int

	// ResizePolicy is what changes of a running machine's CPUs, memory and resources
	// do where the machine does not say; default InPlace.
	ResizePolicy v1.ResizePolicy

	// MetricsAddress is the host:port of Prometheus metrics by plain HTTP; ""
	// or "0" serves none.
	MetricsAddress string
	// LeaderElection lets several controllers run of which one acts. Webhooks
	// and subresources are served by all.
	LeaderElection bool
}

const defaultNamespace = "skerry-system"

// complete checks the whole configuration and fills in its defaults.
func (c Config) complete() (Config, error) {
	var errs []error
	required := func(name string, missing bool) {
		if missing {
			errs = append(errs, fmt.Errorf("%s: required", name))
		}
	}
	required("REST", c.REST == nil)
	required("LauncherImage", c.LauncherImage == "")
	required("TLSCertFile", c.TLSCertFile == "")
	required("TLSKeyFile", c.TLSKeyFile == "")
	required("NodeClientCertFile", c.NodeClientCertFile == "")
	required("NodeClientKeyFile", c.NodeClientKeyFile == "")
	required("NodeCAFile", c.NodeCAFile == "")
	if _, _, err := net.SplitHostPort(c.ListenAddress); err != nil {
		errs = append(errs, fmt.Errorf("ListenAddress: %q is not host:port, for example 0.0.0.0:8443", c.ListenAddress))
	}
	switch c.LauncherPullPolicy {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		errs = append(errs, fmt.Errorf("LauncherPullPolicy: %q is not one of Always, IfNotPresent, Never", c.LauncherPullPolicy))
	}
	switch c.ResizePolicy {
	case "", v1.ResizeInPlace, v1.ResizeInPlaceOrMigrate, v1.ResizeRestartOnly:
	default:
		errs = append(errs, fmt.Errorf("ResizePolicy: %q is not one of %s, %s, %s", c.ResizePolicy, v1.ResizeInPlace, v1.ResizeInPlaceOrMigrate, v1.ResizeRestartOnly))
	}
	if c.NodeAgentPort < 0 || c.NodeAgentPort > 65535 {
		errs = append(errs, fmt.Errorf("NodeAgentPort: %d is not a port", c.NodeAgentPort))
	}
	if len(errs) > 0 {
		return Config{}, fmt.Errorf("configuration of the controller: %w", errors.Join(errs...))
	}
	if c.Namespace == "" {
		c.Namespace = defaultNamespace
	}
	if c.NodeAgentPort == 0 {
		c.NodeAgentPort = nodeapi.DefaultPort
	}
	if c.MetricsAddress == "" {
		c.MetricsAddress = "0"
	}
	return c, nil
}
