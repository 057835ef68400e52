// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/admission"
	evmconfig "github.com/skerry-dev/skerry/internal/config"
	"github.com/skerry-dev/skerry/internal/controller/evm"
	"github.com/skerry-dev/skerry/internal/controller/vm"
	"github.com/skerry-dev/skerry/internal/controller/vmi"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/subresource"
)

// name is the controller's in Events, leases and the like.
const name = "skerry-controller"

// Run runs everything until ctx is done, logging to slog's default; the process
// has set controller-runtime's own logger, as there is but one. Mistakes in the configuration, a port
// that is taken and certificates that cannot be read are returned at once.
func Run(ctx context.Context, c Config) error {
	c, err := c.complete()
	if err != nil {
		return err
	}
	log := slog.Default().With("component", name)
	framework := frameworkLog(log)

	rc := rest.CopyConfig(c.REST)
	rc.QPS = -1 // the API server's own fairness is the limit
	rc.UserAgent = name
	rc.WarningHandler = rest.NoWarnings{}

	srv, err := newServer(c.ListenAddress, c.TLSCertFile, c.TLSKeyFile, log)
	if err != nil {
		return err
	}
	defer srv.listener.Close()

	scheme, mapper, err := knownTypes()
	if err != nil {
		return err
	}
	stopPatience := 2*stopLimit + time.Second
	mgr, err := crmanager.New(rc, crmanager.Options{
		Scheme:                        scheme,
		MapperProvider:                func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mapper, nil },
		Cache:                         cacheOptions(),
		Logger:                        framework,
		Metrics:                       metricsserver.Options{BindAddress: c.MetricsAddress},
		HealthProbeBindAddress:        "0",
		LeaderElection:                c.LeaderElection,
		LeaderElectionID:              name,
		LeaderElectionNamespace:       c.Namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &stopPatience,
	})
	if err != nil {
		return fmt.Errorf("set up the controller's manager: %w", err)
	}

	if err := addControllers(mgr, rc, c, log); err != nil {
		return err
	}
	if err := addAPIs(mgr, rc, c, srv, log); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("controller: %w", err)
	}
	return nil
}

func addControllers(mgr crmanager.Manager, rc *rest.Config, c Config, log *slog.Logger) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it only tells controllers apart
	}
	recorder := newRecorder(mgr.GetClient(), mgr.GetScheme(), name+"-"+host, log)
	if err := mgr.Add(recorder); err != nil {
		return fmt.Errorf("set up the controller's manager: %w", err)
	}
	instances := &vmi.Reconciler{
		Client:             mgr.GetClient(),
		Live:               mgr.GetAPIReader(),
		Events:             recorder,
		Log:                log.With("controller", "vmi"),
		Now:                time.Now,
		LauncherImage:      c.LauncherImage,
		LauncherPullPolicy: c.LauncherPullPolicy,
		Overhead:           overhead,
	}
	if err := instances.SetupWithManager(mgr); err != nil {
		return err
	}
	machines := &vm.Reconciler{
		Client: mgr.GetClient(),
		Live:   mgr.GetAPIReader(),
		Events: recorder,
		Log:    log.With("controller", "vm"),
		Now:    time.Now,

		ResizePolicy: c.ResizePolicy,
	}
	if err := machines.SetupWithManager(mgr); err != nil {
		return err
	}
	return addEnhanced(mgr, rc, c, recorder, log)
}

// addEnhanced adds the controllers of EnhancedVirtualMachines.
func addEnhanced(mgr crmanager.Manager, rc *rest.Config, c Config, recorder *recorder, log *slog.Logger) error {
	logs, err := newPodLogs(rc)
	if err != nil {
		return err
	}
	settings := &evmconfig.Source{Client: mgr.GetClient(), Events: recorder}
	enhanced := &evm.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Settings: settings,
		Log: log.With("controller", "evm"), Now: time.Now,
	}
	if err := enhanced.SetupWithManager(mgr); err != nil {
		return err
	}
	bases := &evm.BaseReconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Logs: logs, Settings: settings,
		Log: log.With("controller", "base"), Now: time.Now,
		Importer: c.ImporterImage, PullPolicy: c.LauncherPullPolicy,
	}
	return bases.SetupWithManager(mgr)
}

func addAPIs(mgr crmanager.Manager, rc *rest.Config, c Config, srv *server, log *slog.Logger) error {
	nodes, err := nodeapi.NewClient(nodeapi.ClientConfig{
		TLS:     nodeapi.TLSFiles{CertFile: c.NodeClientCertFile, KeyFile: c.NodeClientKeyFile, CAFile: c.NodeCAFile},
		Address: nodeapi.InternalIP(mgr.GetClient()),
		Port:    c.NodeAgentPort,
		Log:     log,
	})
	if err != nil {
		return err
	}
	sub, err := subresource.New(subresource.Config{REST: rc, Nodes: nodes, Log: log})
	if err != nil {
		return err
	}
	for _, p := range subresource.Paths {
		srv.mux.Handle(p, sub)
	}
	webhooks := admission.Handler(admission.Options{
		Cluster: admission.DefaultCluster(),
		Trusted: admission.DefaultIdentities(c.Namespace),
		Log:     log,
	})
	for _, p := range []string{admission.PathMutateVM, admission.PathMutateVMI, admission.PathValidateVM, admission.PathValidateVMI, admission.PathValidateEVM} {
		srv.mux.Handle(p, webhooks)
	}
	filled := crmanager.RunnableFunc(func(ctx context.Context) error {
		for _, kind := range []client.Object{&corev1.Node{}, &corev1.Pod{}, &v1.VirtualMachine{}, &v1.VirtualMachineInstance{}} {
			if _, err := mgr.GetCache().GetInformer(ctx, kind); err != nil { // waits until it is filled
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("fill the cache with %T: %w", kind, err)
			}
		}
		srv.ready.Store(true)
		<-ctx.Done()
		return nil
	})
	for _, r := range []crmanager.Runnable{srv.certs, srv, sub, always{filled}} {
		if err := mgr.Add(r); err != nil {
			return fmt.Errorf("set up the controller's manager: %w", err)
		}
	}
	return nil
}

// always is a Runnable that runs whoever leads.
type always struct{ crmanager.Runnable }

func (always) NeedLeaderElection() bool { return false }

// frameworkLog is what controller-runtime logs to: its warnings and errors. It
// tells each step of its start at info, which is of no use to an operator.
func frameworkLog(log *slog.Logger) logr.Logger {
	return logr.FromSlogHandler(warnings{log.Handler()})
}

type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }
func (w warnings) WithGroup(g string) slog.Handler      { return warnings{w.Handler.WithGroup(g)} }
