// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/deploy"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/manager"
	"github.com/skerry-dev/skerry/internal/node"
)

// skerryLimit bounds the wait for Skerry's own parts.
const skerryLimit = 2 * time.Minute

// startSkerry installs Skerry's objects, then runs its controllers and its node
// agent in this process, with no more rights than they have on other clusters.
// It returns when machines can be created.
func (i *instance) startSkerry(startCtx, workCtx context.Context, admin *rest.Config, client kubernetes.Interface, launcher string) error {
	c := i.cfg
	ctx, cancel := context.WithTimeout(startCtx, skerryLimit)
	defer cancel()
	if !i.first {
		// What they need is there since an earlier start.
		if err := i.runSkerry(workCtx, launcher); err != nil {
			return err
		}
	}
	err := i.stage("API objects", func() (string, error) {
		ca, err := os.ReadFile(i.dir.Cert(caName))
		if err != nil {
			return "", err
		}
		if err := c.applyController(ctx, client); err != nil {
			return "", err
		}
		return "kubevirt.io/v1", deploy.Apply(ctx, admin, deploy.Params{Namespace: skerryNamespace, CABundle: ca})
	})
	if err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "cluster.objects.after-apply"); err != nil {
		return err
	}
	return i.stage("Skerry", func() (string, error) {
		if i.first {
			if err := i.runSkerry(workCtx, launcher); err != nil {
				return "", err
			}
		}
		if err := i.waitController(ctx); err != nil {
			return "", err
		}
		since := i.began.Truncate(time.Second)
		return "controllers and node agent", waitNode(ctx, client, c.NodeName, func(n *corev1.Node) string { return notServing(n, since) })
	})
}

// runSkerry starts the controllers and the node agent.
func (i *instance) runSkerry(ctx context.Context, launcher string) error {
	c := i.cfg
	if err := failpoint.Hit(ctx, "cluster.skerry.before-run"); err != nil {
		return err
	}
	controllerREST, err := clientcmd.BuildConfigFromFlags("", c.kubeconfigFor(controllerCert))
	if err != nil {
		return err
	}
	agentREST, err := clientcmd.BuildConfigFromFlags("", c.kubeconfigFor(agentCert))
	if err != nil {
		return err
	}
	i.part(ctx, "controller", func(ctx context.Context) error {
		return manager.Run(ctx, manager.Config{
			REST: controllerREST, Namespace: skerryNamespace,
			LauncherImage: launcher, LauncherPullPolicy: corev1.PullIfNotPresent,
			ListenAddress: c.controllerAddress(),
			TLSCertFile:   i.dir.Cert(controllerServer), TLSKeyFile: i.dir.Key(controllerServer),
			NodeClientCertFile: i.dir.Cert(controllerCert), NodeClientKeyFile: i.dir.Key(controllerCert), NodeCAFile: i.dir.Cert(caName),
			NodeAgentPort: c.Ports.NodeAgent, ResizePolicy: c.ResizePolicy,
		})
	})
	i.part(ctx, "node agent", func(ctx context.Context) error {
		return node.Run(ctx, node.Config{
			REST: agentREST, NodeName: c.NodeName, KubeletRoot: c.KubeletRoot(),
			ListenAddress: net.JoinHostPort(c.NodeAddress().String(), strconv.Itoa(c.Ports.NodeAgent)),
			TLSCertFile:   i.dir.Cert(agentServer), TLSKeyFile: i.dir.Key(agentServer), ClientCAFile: i.dir.Cert(caName),
			Accel: c.Accel, Renew: c.Renew,
			CNIBinDirs: []string{c.attachPlugins()}, CNIStateDir: c.attachDir(), ReservedBridges: []string{c.Bridge},
			LauncherArchive: filepath.Join(c.ImagesDir, launcherArchive), LauncherStore: c.data("launcher"),
		})
	})
	return nil
}

// attachPlugins has the CNI plugins that tenants' networks may name. It is a
// directory of its own: others beside skerry are no CNI plugins.
func (c *Config) attachPlugins() string { return filepath.Join(c.BinDir, "cni") }

// attachDir is where the node agent remembers what they did.
func (c *Config) attachDir() string { return c.data("cni", "attached") }

func (c *Config) controllerAddress() string {
	return net.JoinHostPort(c.NodeAddress().String(), strconv.Itoa(c.Ports.Controller))
}

// waitController polls the controller's /readyz.
func (i *instance) waitController(ctx context.Context) error {
	roots, err := i.roots()
	if err != nil {
		return err
	}
	return pollReady(ctx, "controller", "https://"+i.cfg.controllerAddress()+"/readyz", &tls.Config{RootCAs: roots})
}

// notServing says why machines cannot run on the node yet, empty if they can:
// its agent has not reported since this start, or a device of this machine that
// they ask for is not offered yet.
func notServing(n *corev1.Node, since time.Time) string {
	beat, err := time.Parse(time.RFC3339, n.Annotations[v1.HeartbeatAnnotation])
	if err != nil || beat.Before(since) {
		return "its agent has not reported yet"
	}
	if _, err := os.Stat("/dev/net/tun"); err == nil && n.Status.Allocatable.Name(v1.TunResource, "").IsZero() {
		return v1.TunResource + " is not offered yet"
	}
	return ""
}

// roots is the cluster's authority.
func (i *instance) roots() (*x509.CertPool, error) {
	ca, err := os.ReadFile(i.dir.Cert(caName))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s is no certificate", i.dir.Cert(caName))
	}
	return roots, nil
}

// pollReady asks url until it answers 200. The error tells the last answer.
func pollReady(ctx context.Context, what, url string, tlsConfig *tls.Config) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: tlsConfig}}
	defer client.CloseIdleConnections()
	for {
		last := ask(ctx, client, url)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", what, errors.Join(context.Cause(ctx), last))
		case <-time.After(25 * time.Millisecond):
		}
	}
}
