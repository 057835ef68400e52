// SPDX-License-Identifier: Apache-2.0

package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

const (
	kubeletSocket = "kubelet.sock"
	// How often a device that is missing is looked for, and one that is
	// advertised is checked.
	checkInterval = time.Minute
	// A kubelet has made its socket a moment before it answers on it.
	registerTimeout = 5 * time.Second
	retryInterval   = 500 * time.Millisecond
)

// Run advertises the devices to the kubelet whose plugin directory (in the
// kubelet's root: device-plugins) is pluginDir until ctx ends; then it returns
// nil. Its own device nodes are in nodeDir, which must be at the same path for
// the container runtime. A device that does not exist or does not work is looked
// at again every minute. Errors are those of the plugin directory itself.
func Run(ctx context.Context, pluginDir, nodeDir string, devs []Device) error {
	for _, d := range devs {
		if err := d.check(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(pluginDir, 0o750); err != nil {
		return fmt.Errorf("device plugin directory: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range devs {
		p := &plugin{dev: d, dir: pluginDir, nodeDir: nodeDir, interval: checkInterval,
			log: slog.With("resource", d.Resource)}
		g.Go(func() error { return p.run(ctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

type plugin struct {
	dev          Device
	dir, nodeDir string
	interval     time.Duration
	log          *slog.Logger
}

func (p *plugin) socket() string { return filepath.Join(p.dir, "skerry-"+p.dev.name()+".sock") }

func (p *plugin) kubelet() string { return filepath.Join(p.dir, kubeletSocket) }

// unchanged tells whether a is b. Numbers of files are used again at once, so
// their times count too.
func unchanged(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime())
}

func (p *plugin) run(ctx context.Context) error {
	if err := p.awaitDevice(ctx); err != nil {
		return err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch device plugin directory: %w", err)
	}
	defer w.Close()
	if err := w.Add(p.dir); err != nil {
		return fmt.Errorf("watch device plugin directory %s: %w", p.dir, err)
	}
	s := newServer(p.dev, p.nodeDir)
	for {
		if err := p.session(ctx, s, w); err != nil {
			return err
		}
	}
}

// awaitDevice returns once the device works.
func (p *plugin) awaitDevice(ctx context.Context) error {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	last := ""
	for {
		err := p.dev.works()
		if err == nil {
			return nil
		}
		if err.Error() != last {
			p.log.Info("device is not offered", "reason", err)
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// session serves on a new socket and registers it, again with each new kubelet.
// It returns nil when it has to be done over with another socket: a starting
// kubelet removes all plugins' sockets. No kubelet is told twice, since it takes
// the first socket's end for the plugin's.
func (p *plugin) session(ctx context.Context, s *server, w *fsnotify.Watcher) error {
	drain(w)
	l, mine, err := p.listen()
	if errors.Is(err, os.ErrNotExist) {
		return nil // the kubelet was quicker in removing it
	}
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	api.RegisterDevicePluginServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer srv.Stop()

	retry := time.NewTimer(0)
	defer retry.Stop()
	check := time.NewTicker(p.interval)
	defer check.Stop()
	var told os.FileInfo // the kubelet's socket that was registered with
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-served:
			return fmt.Errorf("serve %s: %w", p.socket(), err)
		case err := <-w.Errors:
			// Events may be lost (overflow): start over, which costs little.
			p.log.Warn("watching the device plugin directory", "error", err)
			return nil
		case e, ok := <-w.Events:
			switch {
			case !ok:
				return errors.New("watch of the device plugin directory ended")
			case e.Name == p.kubelet() && e.Has(fsnotify.Create):
				if now, err := os.Stat(p.kubelet()); err == nil && !unchanged(told, now) {
					retry.Reset(0)
				}
			case e.Name == p.socket() && !p.is(mine):
				return nil
			case e.Name == p.dir && e.Has(fsnotify.Remove):
				return fmt.Errorf("device plugin directory %s was removed", p.dir)
			}
		case <-retry.C:
			kubelet, err := os.Stat(p.kubelet())
			if errors.Is(err, os.ErrNotExist) {
				continue // its appearing is an event
			}
			if err == nil {
				err = p.register(ctx)
			}
			if err != nil {
				p.log.Debug("kubelet does not take registrations yet", "error", err)
				retry.Reset(retryInterval)
				continue
			}
			told = kubelet
			p.log.Info("device is offered", "count", p.dev.Count)
		case <-check.C:
			_, err := p.dev.exists()
			s.setHealthy(err == nil)
		}
	}
}

// drain forgets events that are older than the session: registering comes after
// them anyway.
func drain(w *fsnotify.Watcher) {
	for {
		select {
		case <-w.Events:
		default:
			return
		}
	}
}

// listen takes the place of whatever socket was there and says which file is its own.
func (p *plugin) listen() (net.Listener, os.FileInfo, error) {
	if err := os.Remove(p.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("device plugin socket: %w", err)
	}
	l, err := net.Listen("unix", p.socket())
	if err != nil {
		return nil, nil, fmt.Errorf("device plugin socket: %w", err)
	}
	// Closing must not remove a socket of the same name that is not ours any more.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	mine, err := os.Lstat(p.socket())
	if err != nil {
		l.Close()
		return nil, nil, fmt.Errorf("device plugin socket: %w", err)
	}
	return l, mine, nil
}

// is tells whether the socket's path still leads to the file mine.
func (p *plugin) is(mine os.FileInfo) bool {
	fi, err := os.Lstat(p.socket())
	return err == nil && os.SameFile(fi, mine)
}

func (p *plugin) register(ctx context.Context) error {
	if err := failpoint.Hit(ctx, "agent.devices.before-register"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+p.kubelet(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the kubelet: %w", err)
	}
	defer conn.Close()
	_, err = api.NewRegistrationClient(conn).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: filepath.Base(p.socket()), ResourceName: p.dev.Resource,
		Options: &api.DevicePluginOptions{},
	})
	if err != nil {
		return fmt.Errorf("register %s with the kubelet: %w", p.dev.Resource, err)
	}
	return nil
}
