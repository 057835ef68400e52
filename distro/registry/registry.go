// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Config is the registry's.
type Config struct {
	// Dir has the blobs. It is made if it is missing.
	Dir string
	// Addresses are where it listens, as host:port.
	Addresses []string
	// CertFile and KeyFile are read again when they change.
	CertFile, KeyFile string
	Login             Login
	// Log takes what goes wrong.
	Log io.Writer
}

// Server is a running registry.
type Server struct {
	http    *http.Server
	handler *handler
	certs   *certwatcher.CertWatcher
	done    chan error
	addrs   []string
}

// Start collects garbage and begins to serve.
func Start(ctx context.Context, c Config) (s *Server, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	// distribution logs through the one logger of that library, every "not found" as
	// an error. What the registry itself failed at is logged below.
	logrus.SetOutput(c.Log)
	logrus.SetLevel(logrus.FatalLevel)
	h, err := newHandler(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := h.collect(ctx); err != nil {
		// What cannot be given back is no reason to serve nothing.
		fmt.Fprintf(c.Log, "registry: give back the space of what was deleted: %v\n", err)
	}
	certs, err := certwatcher.New(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, err
	}
	var listeners []net.Listener
	for _, a := range c.Addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, fmt.Errorf("listen on %s: %w", a, err)
		}
		listeners = append(listeners, l)
	}
	s = &Server{handler: h, certs: certs, done: make(chan error, len(listeners)), http: &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.GetCertificate}, ErrorLog: h.log,
	}}
	for _, l := range listeners {
		s.addrs = append(s.addrs, l.Addr().String())
		go func() { s.done <- s.http.ServeTLS(l, "", "") }()
	}
	return s, nil
}

// Run serves until the context ends, or an error.
func (s *Server) Run(ctx context.Context) error {
	defer s.http.Close()
	go func() {
		if err := s.certs.Start(ctx); err != nil && ctx.Err() == nil {
			s.http.ErrorLog.Printf("follow the certificate: %v", err)
		}
	}()
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.done:
			return err
		case <-tick.C:
		case <-s.handler.deleted:
		}
		if err := s.handler.collect(ctx); err != nil {
			s.http.ErrorLog.Printf("give back the space of what was deleted: %v", err)
		}
	}
}

// Garbage is collected after a deletion, but not while an upload may go on: what it
// brought has no manifest yet.
const (
	collectEvery = 10 * time.Minute
	uploadQuiet  = time.Hour
)

// handler checks the login, and keeps uploads and the collection apart.
type handler struct {
	app     http.Handler
	login   [2][32]byte // SHA-256 of user and password
	driver  *filesystem.Driver
	deleted chan struct{}
	log     *log.Logger
	// repositories is distribution's directory, which comes with the first push.
	repositories string

	mu      sync.RWMutex // held for reading by whoever writes to the registry
	state   sync.Mutex
	dirty   bool
	uploads map[string]time.Time // repositories with blobs that came after their last manifest
}

func newHandler(ctx context.Context, c Config) (h *handler, err error) {
	// distribution panics at what it does not like about its configuration.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("set up the registry: %v", r)
		}
	}()
	conf := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": c.Dir, "maxthreads": 32},
			"delete":     configuration.Parameters{"enabled": true},
			"redirect":   configuration.Parameters{"disable": true},
		},
		Catalog: configuration.Catalog{MaxEntries: 1000},
	}
	h = &handler{
		driver: filesystem.New(filesystem.DriverParameters{RootDirectory: c.Dir, MaxThreads: 32}), dirty: true,
		login:   [2][32]byte{sha256.Sum256([]byte(c.Login.User)), sha256.Sum256([]byte(c.Login.Password))},
		deleted: make(chan struct{}, 1), uploads: map[string]time.Time{},
		log:          log.New(c.Log, "registry: ", 0),
		repositories: filepath.Join(c.Dir, "docker", "registry", "v2", "repositories"),
	}
	h.app = handlers.NewApp(context.WithoutCancel(ctx), conf)
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	// The password is 256 random bits: a slow hash would guard nothing, and would
	// cost on every blob.
	if subtle.ConstantTimeCompare(u[:], h.login[0][:])&subtle.ConstantTimeCompare(p[:], h.login[1][:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="skerry registry"`)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"the login is missing or wrong"}]}`+"\n")
		return
	}
	w = &watched{w, h.log, r}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		h.app.ServeHTTP(w, r)
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	repo, kind := route(r.URL.Path)
	if kind == "blobs" {
		h.note(repo, true)
	}
	h.app.ServeHTTP(w, r)
	switch {
	case kind == "manifests" && r.Method == http.MethodPut:
		h.note(repo, false)
	case r.Method == http.MethodDelete:
		h.state.Lock()
		h.dirty = true
		h.state.Unlock()
	default:
		return
	}
	select {
	case h.deleted <- struct{}{}:
	default:
	}
}

// watched logs what the registry itself failed at, such as a full disk.
type watched struct {
	http.ResponseWriter
	log *log.Logger
	r   *http.Request
}

func (w *watched) WriteHeader(code int) {
	if code >= 500 {
		w.log.Printf("%s %s: %d %s", w.r.Method, w.r.URL.Path, code, http.StatusText(code))
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// route says which repository and kind of thing a path of the API is about
// (distribution-spec, "Endpoints").
func route(path string) (repo, kind string) {
	path = strings.TrimPrefix(path, "/v2/")
	for _, kind := range []string{"blobs", "manifests"} {
		if n := strings.LastIndex(path, "/"+kind+"/"); n > 0 {
			return path[:n], kind
		}
	}
	return "", ""
}

// note remembers that a repository has blobs that no manifest names yet, or that its
// manifest came.
func (h *handler) note(repo string, uploading bool) {
	h.state.Lock()
	defer h.state.Unlock()
	if uploading {
		h.uploads[repo] = time.Now()
	} else {
		delete(h.uploads, repo)
	}
}

// collect removes the blobs that nothing names, if something was deleted and no
// upload is under way.
func (h *handler) collect(ctx context.Context) error {
	if !h.mu.TryLock() {
		return nil // somebody writes: later
	}
	defer h.mu.Unlock()
	h.state.Lock()
	defer h.state.Unlock()
	for repo, since := range h.uploads {
		if time.Since(since) > uploadQuiet {
			delete(h.uploads, repo)
		}
	}
	if !h.dirty || len(h.uploads) > 0 {
		return nil
	}
	if _, err := os.Stat(h.repositories); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever pushed
	}
	reg, err := storage.NewRegistry(ctx, h.driver)
	if err != nil {
		return err
	}
	// Untagged manifests are not removed: machines may be of a digest whose tag has
	// moved on.
	if err := storage.MarkAndSweep(ctx, h.driver, reg, storage.GCOpts{Quiet: true}); err != nil {
		return err
	}
	h.dirty = false
	return nil
}
