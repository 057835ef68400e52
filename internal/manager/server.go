// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

const (
	headerLimit = 10 * time.Second
	bodyLimit   = 30 * time.Second
	idleLimit   = 2 * time.Minute
	maxHeader   = 64 << 10 // bytes
	// stopLimit is how long requests may go on after the process was told to stop.
	stopLimit = 2 * time.Second
)

// server serves the webhooks and the aggregated API.
type server struct {
	listener net.Listener
	certs    *certwatcher.CertWatcher
	mux      *http.ServeMux
	log      *slog.Logger
	ready    atomic.Bool
}

// newServer listens at once, so that a port that is taken is an error of Run
// and not a line in a log.
func newServer(address, certFile, keyFile string, log *slog.Logger) (*server, error) {
	certs, err := certwatcher.New(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("serving certificate %s, %s: %w", certFile, keyFile, err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks and subresources: %w", err)
	}
	s := &server{listener: l, certs: certs, mux: http.NewServeMux(), log: log}
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "the caches are not filled yet", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	return s, nil
}

// Start serves until ctx is done (a controller-runtime Runnable).
func (s *server) Start(ctx context.Context) error {
	srv := &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: headerLimit,
		ReadTimeout:       bodyLimit, // lifted for streams, which take the connection over
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: s.certs.GetCertificate,
			// The aggregator's certificate is checked by the subresource API,
			// which knows whose it may be; webhooks are called without one.
			ClientAuth: tls.RequestClientCert,
			NextProtos: []string{"h2", "http/1.1"},
		},
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(s.listener, "", "") }()
	select {
	case err := <-done:
		return fmt.Errorf("serve webhooks and subresources: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve webhooks and subresources: %w", err)
	}
	return nil
}

// NeedLeaderElection is false: every replica serves.
func (s *server) NeedLeaderElection() bool { return false }
