// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdStartLimit is generous: after a power cut a large log is replayed from a
// slow disk.
const etcdStartLimit = 2 * time.Minute

// startEtcd runs etcd on a unix socket only; whoever may open it (root) is its
// only client. It returns the endpoint.
func (c *Config) startEtcd(ctx context.Context, log io.Writer) (*embed.Etcd, string, error) {
	if err := os.MkdirAll(c.run("etcd"), 0o700); err != nil {
		return nil, "", err
	}
	endpoint := "unix://" + c.run("etcd", "etcd.sock")
	client, err := url.Parse(endpoint)
	if err != nil {
		return nil, "", fmt.Errorf("etcd's socket: %w", err)
	}
	// A peer listener cannot be left out; this one takes a free port of the
	// loopback interface and talks to nobody.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	e := embed.NewConfig()
	e.Name = "default"
	e.Dir = c.data("etcd")
	e.ListenClientUrls = []url.URL{*client}
	e.AdvertiseClientUrls = []url.URL{*client}
	e.ListenPeerUrls = []url.URL{peer}
	e.AdvertisePeerUrls = []url.URL{peer}
	e.InitialCluster = e.Name + "=" + peer.String()
	e.EnableGRPCGateway = false
	e.SnapshotCount = 5000 // fewer log entries are kept in memory
	// With a single member the API server compacts by itself every 5 minutes.
	level := zapcore.ErrorLevel
	if c.Verbosity > 2 {
		level = zapcore.InfoLevel
	}
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(log), level)
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(core).Named("etcd"))
	server, err := embed.StartEtcd(e)
	if err != nil {
		return nil, "", fmt.Errorf("start etcd in %s: %w", e.Dir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, endpoint, nil
	case err = <-server.Err():
	case <-time.After(etcdStartLimit):
		err = fmt.Errorf("not ready after %s", etcdStartLimit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	server.Close()
	return nil, "", fmt.Errorf("start etcd in %s: %w", e.Dir, err)
}
