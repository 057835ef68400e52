// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	kcmapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kcmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
	schedulerapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"github.com/skerry-dev/skerry/distro/pki"
)

// runControllerManager runs Kubernetes' controllers and closes built once all of them
// exist and begin to watch.
func (c *Config) runControllerManager(ctx context.Context, dir pki.Dir, built chan<- struct{}) error {
	o, err := kcmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	known, off, aliases := kcmapp.KnownControllers(), kcmapp.ControllersDisabledByDefault(), kcmapp.ControllerAliases()
	// Not for the flags: only this call fills in the flags' defaults, such as the
	// eviction rates, which differ from the struct's zero values.
	o.Flags(known, off, aliases)
	o.Generic.ClientConnection.Kubeconfig = c.kubeconfigFor(kcmCert)
	// With the usual 20 requests per second the first start spends 5 seconds on
	// the tokens of its 30 controllers.
	o.Generic.ClientConnection.QPS = 300
	o.Generic.ClientConnection.Burst = 600
	o.Generic.LeaderElection.LeaderElect = false
	// It only adds warnings about types to policies' status, and keeps a copy of
	// all schemas for that.
	o.Generic.Controllers = []string{"*", "-validatingadmissionpolicy-status-controller"}
	o.SecureServing.BindPort = 0
	o.KubeCloudShared.UseServiceAccountCredentials = true
	o.KubeCloudShared.AllocateNodeCIDRs = true
	o.KubeCloudShared.ClusterCIDR = c.podCIDR.Masked().String()
	o.KubeCloudShared.ConfigureCloudRoutes = false
	o.NodeIPAMController.ServiceCIDR = c.serviceCIDR.Masked().String()
	o.NodeIPAMController.NodeCIDRMaskSize = int32(c.podCIDR.Bits())
	o.SAController.ServiceAccountKeyFile = dir.Key(signingKey)
	o.SAController.RootCAFile = dir.Cert(caName)
	o.CSRSigningController.ClusterSigningCertFile = dir.Cert(caName)
	o.CSRSigningController.ClusterSigningKeyFile = dir.Key(caName)
	cfg, err := o.Config(ctx, known, off, aliases)
	if err != nil {
		return err
	}
	once := sync.OnceFunc(func() { close(built) })
	cfg.Kubeconfig.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return watching(func(r *http.Request) (*http.Response, error) {
			// The informers that all share start after the last of them is made.
			if q := r.URL.Query(); strings.Contains(r.UserAgent(), "shared-informers") && (q.Has("watch") || q.Has("resourceVersion")) {
				once()
			}
			return rt.RoundTrip(r)
		})
	})
	return kcmapp.Run(ctx, cfg.Complete())
}

// watching is a function that makes requests.
type watching func(*http.Request) (*http.Response, error)

// RoundTrip is http.RoundTripper's.
func (w watching) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func (c *Config) runScheduler(ctx context.Context) error {
	o := scheduleroptions.NewOptions()
	for _, f := range []struct{ set, name, value string }{
		{"deprecated", "kubeconfig", c.kubeconfigFor(schedulerCert)},
		{"leader election", "leader-elect", "false"},
	} {
		if err := o.Flags.FlagSet(f.set).Set(f.name, f.value); err != nil {
			return fmt.Errorf("set %s: %w", f.name, err)
		}
	}
	o.SecureServing.BindPort = 0
	cfg, sched, err := schedulerapp.Setup(ctx, o)
	if err != nil {
		return err
	}
	return schedulerapp.Run(ctx, cfg, sched)
}

func (c *Config) runProxy(ctx context.Context) error {
	o := proxyapp.NewOptions()
	fs := pflag.NewFlagSet("kube-proxy", pflag.ContinueOnError)
	o.AddFlags(fs)
	oom := 0
	if c.host.sysResource {
		oom = -999
	}
	if err := fs.Parse([]string{
		"--kubeconfig=" + c.kubeconfigFor(proxyCert),
		"--proxy-mode=nftables",
		"--hostname-override=" + c.NodeName,
		"--bind-address=" + c.NodeAddress().String(),
		"--cluster-cidr=" + c.podCIDR.Masked().String(),
		"--healthz-bind-address=127.0.0.1:" + strconv.Itoa(c.Ports.ProxyHealth),
		"--metrics-bind-address=127.0.0.1:" + strconv.Itoa(c.Ports.ProxyMetrics),
		"--oom-score-adj=" + strconv.Itoa(oom),
		"--conntrack-max-per-core=0", // the machine's limit is the owner's business
		"--conntrack-tcp-timeout-established=0s",
		"--conntrack-tcp-timeout-close-wait=0s",
	}); err != nil {
		return err
	}
	if err := o.Complete(fs); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	return o.Run(ctx)
}
