// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-dev/skerry/distro/containerd"
	"github.com/skerry-dev/skerry/distro/dns"
	"github.com/skerry-dev/skerry/distro/logfile"
	"github.com/skerry-dev/skerry/distro/pki"
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
	first bool // the cluster is made by this start

	mu       sync.Mutex
	progress Progress

	ended chan error // receives the first part's end
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
		ended: make(chan error, 1),
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
		select {
		case i.ended <- fmt.Errorf("%s ended: %w", name, err):
		default:
		}
	}()
	return ch
}

func (i *instance) run(ctx context.Context) error {
	c := i.cfg
	// This file is written when all is ready: a start that was cut short before
	// does not count.
	_, statErr := os.Stat(c.data("made"))
	i.first = errors.Is(statErr, os.ErrNotExist)

	setGC(startGC)

	// Parts stop in the order: workers (Skerry, kubelet, controllers, scheduler),
	// API server, etcd. containerd is only let go.
	apiCtx, stopAPI := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPI()
	workCtx, stopWork := context.WithCancel(ctx)
	defer stopWork()

	var encryption string
	if err := i.stage("certificates", func() (string, error) {
		changed, err := i.dir.Ensure(c.certificates(), time.Now())
		if err != nil {
			return "", err
		}
		if encryption, err = c.ensureEncryption(); err != nil {
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
		return err
	}
	archives, pause, launcher, err := c.archives()
	if err != nil {
		return err
	}
	loopback, err := c.listenAPI("127.0.0.1")
	if err != nil {
		return err
	}
	defer loopback.Close()
	if err := c.save(); err != nil {
		return fmt.Errorf("remember the configuration: %w", err)
	}
	if err := i.stage("host", func() (string, error) { return c.hostSummary(), c.prepareHost(ctx) }); err != nil {
		return err
	}

	ctrd := containerd.Config{
		BinDir: c.BinDir, Root: c.data("containerd"), State: c.run("ctrd"), Socket: c.ContainerdSocket(),
		LogFile: filepath.Join(c.LogDir(), "containerd.log"), CNIConf: c.data("cni", "conf"), SandboxImage: pause,
		SystemdCgroup: c.host.systemd, RestrictOOMScore: !c.host.sysResource,
	}
	start, startCtx := errgroup.WithContext(ctx)
	containerdUp := make(chan struct{})
	start.Go(func() error {
		var d *containerd.Daemon
		if err := i.stage("containerd", func() (string, error) {
			var err error
			if d, err = containerd.Start(startCtx, ctrd, i.log); err != nil {
				return "", err
			}
			if d.Adopted() {
				return "adopted with its pods", nil
			}
			return "started", nil
		}); err != nil {
			return err
		}
		go d.Run(workCtx)
		close(containerdUp)
		return i.stage("images", func() (string, error) {
			got, err := containerd.Import(startCtx, ctrd, archives)
			return fmt.Sprintf("%d imported, %d there already", len(got), len(archives)-len(got)), err
		})
	})

	var etcdEndpoint string
	closeEtcd := func() {}
	if err := i.stage("etcd", func() (string, error) {
		e, endpoint, err := c.startEtcd(ctx, i.out)
		if err != nil {
			return "", err
		}
		etcdEndpoint, closeEtcd = endpoint, e.Close
		go func() {
			if err, ok := <-e.Err(); ok {
				select {
				case i.ended <- fmt.Errorf("etcd ended: %w", err):
				default:
				}
			}
		}()
		return "", nil
	}); err != nil {
		return err
	}
	var apiDone <-chan struct{}
	defer func() {
		since := time.Now()
		stopWork()
		stopAPI()
		select {
		case <-apiDone: // nil when it never began
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
	}()

	if err := i.stage("API server", func() (string, error) {
		l, err := c.apiListener(loopback)
		if err != nil {
			return "", err
		}
		opts := c.apiServerOptions(i.dir, etcdEndpoint, encryption, l)
		apiDone = i.part(apiCtx, "API server", func(ctx context.Context) error { return c.runAPIServer(ctx, opts) })
		waitCtx, cancel := context.WithTimeout(startCtx, apiLimit)
		defer cancel()
		return c.server(), i.await(waitCtx, i.waitAPI)
	}); err != nil {
		return err
	}
	admin, err := c.adminREST()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return err
	}

	i.part(workCtx, "controller manager", func(ctx context.Context) error { return c.runControllerManager(ctx, i.dir) })
	i.part(workCtx, "scheduler", c.runScheduler)
	i.part(workCtx, "kube-proxy", c.runProxy)
	start.Go(func() error {
		return i.stage("node "+c.NodeName, func() (string, error) {
			select {
			case <-containerdUp:
			case <-startCtx.Done():
				return "", context.Cause(startCtx)
			}
			i.part(workCtx, "kubelet", func(ctx context.Context) error { return c.runKubelet(ctx, i.dir) })
			waitCtx, cancel := context.WithTimeout(startCtx, nodeLimit)
			defer cancel()
			return "Ready", waitNode(waitCtx, client, c.NodeName, func(n *corev1.Node) string { return notReady(n, i.began) })
		})
	})
	start.Go(func() error {
		return i.stage("DNS", func() (string, error) { return c.DNSServiceAddress().String(), i.startDNS(workCtx, client) })
	})
	start.Go(func() error { return i.startSkerry(startCtx, workCtx, admin, client, launcher) })

	if err := i.await(ctx, func(context.Context) error { return start.Wait() }); err != nil {
		return err
	}
	if i.first {
		if err := os.WriteFile(c.data("made"), nil, 0o600); err != nil {
			return err
		}
	}
	i.tell(Event{Ready: true, First: i.first, At: time.Since(i.began)})
	settle()

	upkeep := time.NewTicker(upkeepEvery)
	defer upkeep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-i.ended:
			return err
		case <-upkeep.C:
			i.upkeep(ctrd.LogFile)
		}
	}
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
// bounds containerd's log.
func (i *instance) upkeep(containerdLog string) {
	changed, err := i.dir.Ensure(i.cfg.certificates(), time.Now())
	if err == nil && len(changed) > 0 {
		i.log.Info("renewed certificates", "names", changed)
		err = i.cfg.writeKubeconfigs(i.dir)
	}
	if err != nil {
		i.log.Error("renew certificates", "err", err)
	}
	if err := logfile.Bound(containerdLog, containerdLogLimit); err != nil {
		i.log.Warn("bound containerd's log", "err", err)
	}
}

func (c *Config) adminREST() (*rest.Config, error) {
	r, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	r.Host = c.server()
	r.QPS, r.Burst = 100, 200
	return r, nil
}

func (c *Config) hostSummary() string {
	v := "v1"
	if c.host.cgroupV2 {
		v = "v2"
	}
	return fmt.Sprintf("%s %s, cgroup %s (%s)", c.Bridge, c.BridgeAddress(), v, c.host.cgroupDriver())
}

// startDNS starts the DNS server and follows the machine's own resolv.conf.
func (i *instance) startDNS(ctx context.Context, client kubernetes.Interface) error {
	c := i.cfg
	if err := c.applyDNS(ctx, client); err != nil {
		return err
	}
	cfg := dns.Config{Address: c.BridgeAddress(), Port: c.Ports.DNS, Domain: ClusterDomain, Kubeconfig: c.kubeconfigFor(dnsCert)}
	cfg.Upstreams = c.upstreams()
	server, err := dns.Start(cfg)
	if err != nil {
		return err
	}
	go i.followHost(ctx, server, cfg)
	return nil
}
