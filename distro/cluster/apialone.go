// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/skerry-dev/skerry/distro/pki"
)

// APIAlone is an API server with its etcd on the loopback interface: no kubelet, no
// scheduler, no controllers, and nothing on the machine is changed but its one
// directory. Measurements of Skerry's controllers run against it.
type APIAlone struct {
	// Admin is the administrator's access.
	Admin *rest.Config `json:"-"`
	// Kubeconfig is the file of the controller's access.
	Kubeconfig string
	// CA is the file of the cluster's authority, in PEM.
	CA string
	// ServingCert and ServingKey are the controller's, good for 127.0.0.1;
	// ClientCert and ClientKey are those with which it calls node agents.
	ServingCert, ServingKey, ClientCert, ClientKey string

	stop func()
}

// StartAPIAlone starts one in dir, an empty directory with a path of at most 50
// bytes. There can be one in a process's life. Its parts log to log.
func StartAPIAlone(ctx context.Context, dir string, log io.Writer) (*APIAlone, error) {
	c := &Config{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), BinDir: dir, ImagesDir: dir, NodeName: "alone"}
	if err := c.Complete(); err != nil {
		return nil, err
	}
	c.bindAddress = netip.AddrFrom4([4]byte{127, 0, 0, 1}) // Complete refuses it: no pod could reach it
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the API server: %w", err)
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("listen for the API server: %s is no TCP address", l.Addr())
	}
	c.Ports.API = tcp.Port
	for _, d := range []string{c.DataDir, c.RunDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	i := &instance{cfg: c, dir: pki.Dir(c.PKIDir()), log: slog.Default(), out: log, began: time.Now(), progress: func(Event) {}, ended: make(chan error, 1)}
	if _, err := i.dir.Ensure(c.certificates(), time.Now()); err != nil {
		return nil, err
	}
	encryption, err := c.ensureEncryption()
	if err != nil {
		return nil, err
	}
	if err := c.writeKubeconfigs(i.dir); err != nil {
		return nil, err
	}
	endpoint, closeEtcd, err := i.startEtcd(ctx)
	if err != nil {
		return nil, err
	}
	var apiCtx context.Context
	apiCtx, i.stopAPI = context.WithCancel(context.WithoutCancel(ctx))
	opts := c.apiServerOptions(i.dir, endpoint, encryption, l)
	opts.EndpointReconcilerType = "none" // the Service kubernetes may not have a loopback address behind it
	done := i.part(apiCtx, "API server", func(ctx context.Context) error { return c.runAPIServer(ctx, opts) })
	a := &APIAlone{
		Kubeconfig: c.kubeconfigFor(controllerCert), CA: i.dir.Cert(caName),
		ServingCert: i.dir.Cert(controllerServer), ServingKey: i.dir.Key(controllerServer),
		ClientCert: i.dir.Cert(controllerCert), ClientKey: i.dir.Key(controllerCert),
		stop: func() { i.stopControlPlane(done, closeEtcd) },
	}
	waitCtx, cancel := context.WithTimeout(ctx, apiLimit)
	defer cancel()
	if err := i.await(waitCtx, i.waitAPI); err != nil {
		return nil, err
	}
	if a.Admin, err = c.adminREST(); err != nil {
		a.Stop()
		return nil, err
	}
	return a, nil
}

// Stop ends both.
func (a *APIAlone) Stop() { a.stop() }
