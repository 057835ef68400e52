// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-dev/skerry/distro/containerd"
	"github.com/skerry-dev/skerry/distro/logfile"
	"github.com/skerry-dev/skerry/distro/pki"
	"github.com/skerry-dev/skerry/internal/failpoint"
)

const (
	// drain is how long the API server may take to end: time for requests to be
	// answered. Its clients' watches keep it from ending by itself.
	drain = time.Second
	// etcdStop is how long etcd may take to close. What it has confirmed is on
	// disk; a power cut gives it no time at all.
	etcdStop = time.Second
	// upkeepEvery is how often certificates and containerd's log are looked at.
	upkeepEvery = 15 * time.Minute
	// upkeepSignal has them looked at at once.
	upkeepSignal = syscall.SIGUSR1
	// containerdLogLimit bounds containerd's log, in bytes.
	containerdLogLimit = 16 << 20
	// apiLimit and nodeLimit bound the waits of the start: they end a start that
	// hangs, with a reason.
	apiLimit  = 2 * time.Minute
	nodeLimit = 3 * time.Minute
)

// instance is the one run of a process.
type instance struct {
	cfg   *Config
	dir   pki.Dir
	log   *slog.Logger
	out   io.Writer // where components that want a writer log
	began time.Time
	first bool      // the cluster is made by this start
	seen  time.Time // the latest time that an earlier start has left a mark of

	upkeepMu sync.Mutex // one upkeep at a time

	mu       sync.Mutex
	progress Progress

	ended   chan error // receives the first part's end
	stopAPI context.CancelFunc
}

// Run brings the cluster up and keeps it running until the context is cancelled,
// then stops everything but the pods and containerd, within about three seconds.
// It returns an error when a part ends by itself; the whole process must then be
// started again, as no part can be. Logs go to slog, klog and out.
func Run(ctx context.Context, cfg Config, out io.Writer, progress Progress) (err error) {
	began := time.Now()
	if err := cfg.Complete(); err != nil {
		return err
	}
	if cfg.host, err = detectHost(); err != nil {
		return err
	}
	if err := makeRoom(cfg.DataDir); err != nil {
		return fmt.Errorf("give back the reserve of a full disk: %w", err)
	}
	seen := lastSeen(cfg.LockFile())
	held, err := lock(cfg.LockFile())
	if err != nil {
		return err
	}
	defer held.Close()
	if err := cfg.fits(); err != nil {
		return err
	}
	i := &instance{
		cfg: &cfg, dir: pki.Dir(cfg.PKIDir()), log: slog.Default(), out: out, began: began, progress: progress,
		ended: make(chan error, 1), seen: seen,
	}
	return i.run(ctx)
}

// stage runs one step and reports it.
func (i *instance) stage(name string, do func() (detail string, err error)) error {
	since := time.Now()
	detail, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	now := time.Now()
	i.tell(Event{Stage: name, Detail: detail, At: now.Sub(i.began), Took: now.Sub(since)})
	return nil
}

func (i *instance) tell(e Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.progress(e)
}

// part runs a component; its end before the context's is the end of all.
func (i *instance) part(ctx context.Context, name string, run func(context.Context) error) (done <-chan struct{}) {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it returned")
		}
		i.end(fmt.Errorf("%s ended: %w", name, err))
	}()
	return ch
}

// end remembers why all has to end; the first reason counts.
func (i *instance) end(why error) {
	select {
	case i.ended <- why:
	default:
	}
}

// prepared is what is there before anything runs.
type prepared struct {
	encryption string       // path of the encryption configuration
	loopback   net.Listener // of the API server
	archives   []containerd.Archive
	pause      string // image of every pod's first container
	launcher   string // image of machines' pods
}

func (i *instance) run(ctx context.Context) error {
	made := madeFile(i.cfg.DataDir)
	_, statErr := os.Stat(made)
	i.first = errors.Is(statErr, os.ErrNotExist)
	setGC(startGC)
	// From the first moment: without this the signal would end the process.
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, upkeepSignal)
	defer signal.Stop(asked)

	p, err := i.prepare(ctx)
	if err != nil {
		return err
	}
	// Parts stop in the order: workers (Skerry, kubelet, controllers, scheduler),
	// API server, etcd. containerd is only let go.
	workCtx, stopWork := context.WithCancel(ctx)
	defer stopWork()
	stopControlPlane, err := i.start(ctx, workCtx, p)
	if err != nil {
		// Nothing is stopped in order: an API server that is told to end while it
		// starts takes that for a fatal error. The process ends, which all survive.
		if ctx.Err() != nil {
			err = errors.New("interrupted before the cluster was ready")
		}
		return err
	}
	defer func() {
		stopWork()
		stopControlPlane()
	}()
	if i.first {
		if err := failpoint.Hit(ctx, "cluster.start.before-made"); err != nil {
			return err
		}
		if err := pki.WriteFile(made, nil, 0o600); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(ctx, "cluster.start.before-ready"); err != nil {
		return err
	}
	i.tell(Event{Ready: true, First: i.first, At: time.Since(i.began)})
	go settle() // takes a while, in which a signal must not wait

	upkeep := time.NewTicker(upkeepEvery)
	defer upkeep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-i.ended:
			return err
		case <-upkeep.C:
			_ = i.upkeep() // the box watch tells of certificates that stay due
		case <-asked:
			_ = i.upkeep()
		}
	}
}

// prepare makes certificates, looks for the images and prepares the machine, in
// this order: what can be refused is refused before the machine is changed.
func (i *instance) prepare(ctx context.Context) (p prepared, err error) {
	c := i.cfg
	if err = i.stage("certificates", func() (string, error) {
		changed, err := i.dir.Ensure(c.certificates(), time.Now())
		if err != nil {
			return "", err
		}
		if err := failpoint.Hit(ctx, "cluster.encryption.before-ensure"); err != nil {
			return "", err
		}
		if p.encryption, err = c.ensureEncryption(); err != nil {
			return "", err
		}
		if err := failpoint.Hit(ctx, "cluster.kubeconfigs.before-write"); err != nil {
			return "", err
		}
		if err := c.writeKubeconfigs(i.dir); err != nil {
			return "", err
		}
		if len(changed) == 0 {
			return "all good", nil
		}
		return fmt.Sprintf("%d made or renewed", len(changed)), nil
	}); err != nil {
		return p, err
	}
	if p.archives, p.pause, p.launcher, err = c.archives(); err != nil {
		return p, err
	}
	if p.loopback, err = c.listenAPI("127.0.0.1"); err != nil {
		return p, err
	}
	if err = failpoint.Hit(ctx, "cluster.configuration.before-save"); err != nil {
	} else if err = c.save(); err != nil {
		err = fmt.Errorf("remember the configuration: %w", err)
	} else {
		err = i.stage("host", func() (string, error) { return c.hostSummary(), c.prepareHost(ctx) })
	}
	if err != nil {
		p.loopback.Close()
	}
	return p, err
}

// start starts everything and returns when all is ready, or the first error. Stop
// ends etcd and the API server.
func (i *instance) start(ctx, workCtx context.Context, p prepared) (stop func(), err error) {
	c := i.cfg
	group, startCtx := errgroup.WithContext(ctx)
	containerdUp := make(chan struct{})
	group.Go(func() error { return i.startContainerd(startCtx, workCtx, p, containerdUp) })

	etcdEndpoint, closeEtcd, err := i.startEtcd(ctx)
	if err != nil {
		return nil, err
	}
	var apiCtx context.Context
	apiCtx, i.stopAPI = context.WithCancel(context.WithoutCancel(ctx))
	var apiDone <-chan struct{}
	if err := i.stage("API server", func() (string, error) {
		if err := failpoint.Hit(ctx, "cluster.apiserver.before-start"); err != nil {
			return "", err
		}
		l, err := c.apiListener(p.loopback)
		if err != nil {
			return "", err
		}
		opts := c.apiServerOptions(i.dir, etcdEndpoint, p.encryption, l)
		apiDone = i.part(apiCtx, "API server", func(ctx context.Context) error { return c.runAPIServer(ctx, opts) })
		waitCtx, cancel := context.WithTimeout(startCtx, apiLimit)
		defer cancel()
		return c.server(), i.await(waitCtx, i.waitAPI)
	}); err != nil {
		return nil, err
	}
	if err := failpoint.Hit(ctx, "cluster.apiserver.after-ready"); err != nil {
		return nil, err
	}
	admin, err := c.adminREST()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return nil, err
	}

	go newBoxWatch(i, client).run(workCtx)
	// The node agent and the kubelet both look there, and neither waits for the other.
	if err := linkDevicePlugins(filepath.Join(c.KubeletRoot(), "device-plugins")); err != nil {
		return nil, err
	}
	controllers := make(chan struct{})
	i.part(workCtx, "controller manager", func(ctx context.Context) error { return c.runControllerManager(ctx, i.dir, controllers) })
	i.part(workCtx, "scheduler", c.runScheduler)
	group.Go(func() error {
		// kube-proxy ends the process when it has waited half a minute for the node's
		// address and finds one after that.
		if err := waitNode(startCtx, client, c.NodeName, unaddressed); err != nil {
			return err
		}
		i.part(workCtx, "kube-proxy", c.runProxy)
		return nil
	})
	group.Go(func() error {
		return i.stage("node "+c.NodeName, func() (string, error) {
			select {
			case <-containerdUp:
			case <-startCtx.Done():
				return "", context.Cause(startCtx)
			}
			// Kubernetes' CSI plugin keeps what it knows of the node in a variable that
			// controllers and kubelet share in this process, and the last who makes a
			// plugin wins: a controller's, which has no node, would keep the kubelet
			// from becoming Ready, and CSI drivers from being registered.
			select {
			case <-controllers:
			case <-startCtx.Done():
				return "", context.Cause(startCtx)
			}
			if err := failpoint.Hit(startCtx, "cluster.kubelet.before-start"); err != nil {
				return "", err
			}
			i.part(workCtx, "kubelet", func(ctx context.Context) error { return c.runKubelet(ctx, i.dir) })
			waitCtx, cancel := context.WithTimeout(startCtx, nodeLimit)
			defer cancel()
			return "Ready", waitNode(waitCtx, client, c.NodeName, func(n *corev1.Node) string { return notReady(n, i.began) })
		})
	})
	group.Go(func() error {
		return i.stage("DNS", func() (string, error) { return c.DNSServiceAddress().String(), i.startDNS(workCtx, client) })
	})
	group.Go(func() error { return i.startRegistry(workCtx, client) })
	group.Go(func() error { return i.startSkerry(startCtx, workCtx, admin, client, p.launcher) })
	if err := i.await(ctx, func(context.Context) error { return group.Wait() }); err != nil {
		return nil, err
	}
	return func() { i.stopControlPlane(apiDone, closeEtcd) }, nil
}

// startContainerd closes up when containerd answers, and returns when the images
// are there.
func (i *instance) startContainerd(ctx, workCtx context.Context, p prepared, up chan<- struct{}) error {
	c := i.cfg
	cfg := containerd.Config{
		BinDir: c.BinDir, Root: c.data("containerd"), State: c.run("ctrd"), Socket: c.ContainerdSocket(),
		LogFile: c.containerdLog(), CNIConf: c.data("cni", "conf"), Registries: c.registriesDir(), SandboxImage: p.pause,
		SystemdCgroup: c.host.systemd, RestrictOOMScore: !c.host.sysResource,
	}
	if err := i.stage("containerd", func() (string, error) {
		if err := failpoint.Hit(ctx, "cluster.containerd.before-start"); err != nil {
			return "", err
		}
		d, err := containerd.Start(ctx, cfg, i.log)
		if err != nil {
			return "", err
		}
		go d.Run(workCtx)
		if d.Adopted() {
			return "adopted with its pods", nil
		}
		return "started", nil
	}); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "cluster.containerd.after-start"); err != nil {
		return err
	}
	close(up)
	return i.stage("images", func() (string, error) {
		got, err := containerd.Import(ctx, cfg, p.archives)
		return fmt.Sprintf("%d imported, %d there already", len(got), len(p.archives)-len(got)), err
	})
}

func (i *instance) startEtcd(ctx context.Context) (endpoint string, closeIt func(), err error) {
	err = i.stage("etcd", func() (string, error) {
		if err := failpoint.Hit(ctx, "cluster.etcd.before-start"); err != nil {
			return "", err
		}
		e, at, err := i.cfg.startEtcd(ctx, i.out)
		if err != nil {
			return "", err
		}
		endpoint, closeIt = at, e.Close
		go func() {
			if err, ok := <-e.Err(); ok {
				i.end(fmt.Errorf("etcd ended: %w", err))
			}
		}()
		return "", nil
	})
	return endpoint, closeIt, err
}

// stopControlPlane ends the API server and then etcd, for a limited time each.
func (i *instance) stopControlPlane(apiDone <-chan struct{}, closeEtcd func()) {
	since := time.Now()
	i.stopAPI()
	select {
	case <-apiDone:
	case <-time.After(drain):
	}
	drained := time.Since(since)
	closed := make(chan struct{})
	go func() { closeEtcd(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(etcdStop):
	}
	i.log.Info("stopped; pods and containerd go on", "api", drained, "all", time.Since(since))
}

// await waits for do, or for the end of any part.
func (i *instance) await(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-i.ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// upkeep renews certificates, which all parts take up from their files, and
// bounds containerd's log. Its error, which has been logged, is the certificates'.
func (i *instance) upkeep() error {
	i.upkeepMu.Lock()
	defer i.upkeepMu.Unlock()
	changed, err := i.dir.Ensure(i.cfg.certificates(), time.Now())
	if err == nil && len(changed) > 0 {
		i.log.Info("renewed certificates", "names", changed)
		err = i.cfg.writeKubeconfigs(i.dir)
	}
	if err != nil {
		i.log.Error("renew certificates", "err", err)
	}
	if bound := logfile.Bound(i.cfg.containerdLog(), containerdLogLimit); bound != nil {
		i.log.Warn("bound containerd's log", "err", bound)
	}
	return err
}
