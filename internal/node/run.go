// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	cniv1 "github.com/skerry-dev/skerry/api/cni/v1"
	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/cniplugin"
	"github.com/skerry-dev/skerry/internal/deviceplugin"
	"github.com/skerry-dev/skerry/internal/hostinfo"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/podcgroup"
	"github.com/skerry-dev/skerry/internal/podfs"
)

// name of the agent in Events.
const componentName = "skerry-node"

// stopLimit is how long the agent's parts may take to end.
const stopLimit = 5 * time.Second

// Run is the node agent. It returns nil when ctx ends; machines run on.
func Run(ctx context.Context, c Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	log := slog.With("node", c.NodeName)
	host := hostinfo.Detect(ctx, localHost(c.NodeName))
	accel, err := accelerator(c.Accel, host)
	if err != nil {
		return err
	}
	log.Info("node agent starts", "accelerator", accel, "host", host.Message())

	a := newAgent(ctx, c, accel, log)
	if a.notify, err = podfs.NewNotifier(); err != nil {
		// Everything that is watched is also looked at from time to time.
		log.Warn("changes in pods are noticed later", "error", err)
	} else {
		defer a.notify.Close()
	}
	defer a.close()

	mgr, err := newManager(c, log)
	if err != nil {
		return err
	}
	a.events = mgr.GetEventRecorder(componentName)
	a.definitions = apiDefinitions{mgr.GetAPIReader()}
	if err := a.setup(mgr); err != nil {
		return err
	}
	api, err := nodeapi.NewServer(nodeapi.ServerConfig{
		TLS:     nodeapi.TLSFiles{CertFile: c.TLSCertFile, KeyFile: c.TLSKeyFile, CAFile: c.ClientCAFile},
		Backend: backend{a}, Log: log,
	})
	if err != nil {
		return fmt.Errorf("node agent: %w", err)
	}
	beat := &heart{
		client: mgr.GetClient(), reader: mgr.GetAPIReader(), node: c.NodeName, arch: runtime.GOARCH,
		condition: nodeCondition(accel, c.Accel, host), now: time.Now, log: log, every: beatEvery, retry: findNode,
	}

	if c.Renew == RenewAuto && a.images != nil {
		a.renewals = make(chan struct{}, 1)
	}

	g, run := errgroup.WithContext(ctx)
	g.Go(func() error {
		a.renewAll(run)
		return nil
	})
	g.Go(func() error {
		a.sweepNetworks(run)
		return nil
	})
	g.Go(func() error { return mgr.Start(run) })
	g.Go(func() error { return api.ListenAndServe(run, c.ListenAddress) })
	g.Go(func() error {
		offerDevices(run, c.KubeletRoot, accel, log)
		return nil
	})
	g.Go(func() error {
		// A node is schedulable once its agent sees its instances.
		if mgr.GetCache().WaitForCacheSync(run) {
			beat.run(run)
		}
		return nil
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("node agent: %w", err)
	}
	return nil
}

// lookupLimit bounds the question whether the node's name resolves: nothing
// depends on the answer, and a host without a name server must not start slower.
const lookupLimit = 200 * time.Millisecond

func localHost(nodeName string) hostinfo.Source {
	s := hostinfo.Local(nodeName)
	lookup := s.Lookup
	s.Lookup = func(ctx context.Context, name string) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, lookupLimit)
		defer cancel()
		return lookup(ctx, name)
	}
	return s
}

func newAgent(ctx context.Context, c Config, accel machine.Accel, log *slog.Logger) *agent {
	a := &agent{
		node: c.NodeName, kubeletRoot: c.KubeletRoot, cgroupRoot: podcgroup.Root, accel: accel, arch: runtime.GOARCH,
		log: log, dial: dialPod, network: realNetwork{}, now: time.Now,
		// Readable by QEMU's group, and by nobody else.
		owner:  podfs.Owner{UID: 0, GID: v1.QEMUUser, Mode: 0o440},
		images: newImageSource(c),
		times:  defaultTimes(), guests: map[types.UID]*guest{}, ctx: ctx,
	}
	if c.CNIStateDir != "" && len(c.CNIBinDirs) > 0 {
		a.attach = &cniplugin.Runner{BinDirs: c.CNIBinDirs, StateDir: c.CNIStateDir}
		a.netHost = netattach.Host{LeaseDir: cniplugin.LeaseDir(c.CNIStateDir), Reserved: c.ReservedBridges}
	}
	return a
}

// newManager makes a controller manager whose cache has this node's instances only.
func newManager(c Config, log *slog.Logger) (manager.Manager, error) {
	scheme := kruntime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("node agent: scheme: %w", err)
	}
	if err := cniv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("node agent: scheme: %w", err)
	}
	if err := v1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("node agent: scheme: %w", err)
	}
	mine := labels.SelectorFromSet(labels.Set{v1.NodeNameLabel: c.NodeName})
	config := rest.CopyConfig(c.REST)
	if config.QPS == 0 {
		config.QPS, config.Burst = 50, 100
	}
	stop := stopLimit
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme:                  scheme,
		Logger:                  logr.FromSlogHandler(log.Handler()),
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		GracefulShutdownTimeout: &stop,
		Cache: cache.Options{
			ByObject: map[client.Object]cache.ByObject{&v1.VirtualMachineInstance{}: {Label: mine}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("node agent: %w", err)
	}
	return mgr, nil
}

// setup has mgr reconcile the agent's instances.
func (a *agent) setup(mgr manager.Manager) error {
	r := &reconciler{agent: a, client: mgr.GetClient()}
	// What guests observe comes in here; the queue is there once the controller is.
	queues := make(chan workqueue.TypedRateLimitingInterface[reconcile.Request], 1)
	own := source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queues <- q
		return nil
	})
	var queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	a.enqueue = func(n types.NamespacedName) {
		// Guests exist only once the controller runs, and so the queue.
		a.queueOnce.Do(func() { queue = <-queues })
		queue.Add(reconcile.Request{NamespacedName: n})
	}
	skip := true
	err := ctrl.NewControllerManagedBy(mgr).
		Named("skerry-node").
		For(&v1.VirtualMachineInstance{}).
		WatchesRawSource(own).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4,
			SkipNameValidation:      &skip, // several agents in one process: tests
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](50*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("node agent: %w", err)
	}
	return nil
}

// offerDevices runs the device plugins for as long as ctx lives.
func offerDevices(ctx context.Context, kubeletRoot string, accel machine.Accel, log *slog.Logger) {
	wait := backoff{first: time.Second, max: 30 * time.Second}
	for {
		err := deviceplugin.Run(ctx, filepath.Join(kubeletRoot, "device-plugins"), filepath.Join(kubeletRoot, "skerry-devices"),
			deviceplugin.Standard(accel == machine.KVM))
		if ctx.Err() != nil {
			return
		}
		log.Error("device plugins", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait.next()):
		}
	}
}
