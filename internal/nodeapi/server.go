// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	maxConnections = 1024
	maxHeader      = 16 << 10
	maxScreenshot  = 32 << 20
	headerLimit    = 10 * time.Second // handshake, and a request's header
	idleLimit      = time.Minute
	callLimit      = 30 * time.Second // one verb or screenshot
	connectLimit   = 15 * time.Second // the backend's part in opening a stream
	shutdownLimit  = 5 * time.Second
)

// ServerConfig is what a [Server] needs. All fields but Log are required.
type ServerConfig struct {
	// TLS are the agent's serving certificate and the CA of its clients.
	TLS     TLSFiles
	Backend Backend
	Log     *slog.Logger // nil: slog.Default()
}

// Server is the agent's end.
type Server struct {
	cfg      ServerConfig
	tls      *reloader
	sessions *sessions
	streams  sync.WaitGroup
	linger   time.Duration
}

// NewServer reads the TLS files once, so that a mistake in them shows at start.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Backend == nil {
		return nil, errors.New("node API server: no backend")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r, err := newReloader(cfg.TLS, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("node API server: %w", err)
	}
	return &Server{cfg: cfg, tls: r, sessions: newSessions(), linger: lingerLimit}, nil
}

// ListenAndServe serves on a TCP address until ctx is done.
func (s *Server) ListenAndServe(ctx context.Context, address string) error {
	// Keep-alive finds clients that vanished without a word.
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("node API server: %w", err)
	}
	return s.Serve(ctx, ln)
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Serve serves on ln, which carries no TLS yet, until ctx is done; then it ends
// all streams, waits for them, and returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeader,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2: streams need the connection
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			srv.Close()
		}
	})
	defer stop()
	err := srv.Serve(tls.NewListener(netutil.LimitListener(ln, maxConnections), s.tls.serverConfig()))
	cancel()
	s.streams.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("node API server: %w", err)
}

// handler routes requests of an authenticated controller.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	const vmi = "/v1/vmis/{namespace}/{name}/{uid}/"
	mux.HandleFunc("PUT "+vmi+"{verb}", s.call)
	mux.HandleFunc("GET "+vmi+"vnc/screenshot", s.screenshot)
	mux.HandleFunc("GET "+vmi+"{channel}", s.stream)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", fmt.Sprintf("no such path: %.200s", r.URL.Path), 0, true))
	})
	return mux
}

// ref reads and checks the machine's name in the path.
func ref(r *http.Request) (VMIRef, error) {
	v := VMIRef{r.PathValue("namespace"), r.PathValue("name"), types.UID(r.PathValue("uid"))}
	if err := v.Validate(); err != nil {
		return v, apierrors.NewBadRequest("path: " + err.Error())
	}
	return v, nil
}

// flag reads a boolean query parameter; absent is false.
func flag(r *http.Request, name string) (bool, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, apierrors.NewBadRequest(fmt.Sprintf("query parameter %s: %.80q is neither true nor false", name, v))
	}
	return b, nil
}

func (s *Server) call(w http.ResponseWriter, r *http.Request) {
	verbs := map[Verb]func(context.Context, VMIRef) error{
		Pause:      s.cfg.Backend.Pause,
		Unpause:    s.cfg.Backend.Unpause,
		SoftReboot: s.cfg.Backend.SoftReboot,
		Reset:      s.cfg.Backend.Reset,
		Renew:      s.cfg.Backend.Renew,
	}
	verb := Verb(r.PathValue("verb"))
	do, ok := verbs[verb]
	if !ok {
		writeError(w, apierrors.NewBadRequest(fmt.Sprintf("verb %.80q: must be pause, unpause, softreboot, reset or renew", verb)))
		return
	}
	vmi, err := ref(r)
	if err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	if err := do(ctx, vmi); err != nil {
		s.cfg.Log.Debug("request failed", "verb", verb, "namespace", vmi.Namespace, "vm", vmi.Name, "uid", vmi.UID, "error", err)
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) screenshot(w http.ResponseWriter, r *http.Request) {
	vmi, err := ref(r)
	if err != nil {
		writeError(w, err)
		return
	}
	move, err := flag(r, "moveCursor")
	if err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	png, err := s.cfg.Backend.Screenshot(ctx, vmi, move)
	if err == nil && len(png) > maxScreenshot {
		err = fmt.Errorf("screenshot of %s has %d bytes, more than %d", vmi, len(png), maxScreenshot)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(png)))
	w.Header().Set("Connection", "close") // the write deadline would outlive this request
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(callLimit))
	_, _ = w.Write(png) // the client is gone if this fails
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	connect := map[Channel]func(context.Context, VMIRef) (io.ReadWriteCloser, error){
		Console: s.cfg.Backend.Console,
		VNC:     s.cfg.Backend.VNC,
	}
	ch := Channel(r.PathValue("channel"))
	open, ok := connect[ch]
	if !ok {
		writeError(w, apierrors.NewBadRequest(fmt.Sprintf("stream %.80q: must be console or vnc", ch)))
		return
	}
	vmi, err := ref(r)
	if err != nil {
		writeError(w, err)
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), StreamProtocol) {
		writeError(w, apierrors.NewBadRequest(fmt.Sprintf("%s needs the header Upgrade: %s", ch, StreamProtocol)))
		return
	}
	preserve, err := flag(r, "preserveSession")
	if err != nil {
		writeError(w, err)
		return
	}
	s.streams.Add(1)
	defer s.streams.Done()
	ctx, release, err := s.sessions.begin(r.Context(), vmi, ch, StreamOptions{PreserveSession: preserve})
	if err != nil {
		writeError(w, err)
		return
	}
	defer release()
	log := s.cfg.Log.With("stream", ch, "namespace", vmi.Namespace, "vm", vmi.Name, "uid", vmi.UID)

	guest, err := connectWithin(ctx, connectLimit, func(ctx context.Context) (io.ReadWriteCloser, error) { return open(ctx, vmi) })
	if err != nil {
		log.Debug("stream not opened", "error", err)
		writeError(w, err)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		guest.Close()
		writeError(w, fmt.Errorf("take over the connection: %w", err))
		return
	}
	client, err := upgrade(conn, buffered.Reader)
	if err != nil {
		conn.Close()
		guest.Close()
		log.Debug("stream not opened", "error", err)
		return
	}
	log.Info("stream opened")
	err = splice(ctx, client, guest, s.linger)
	log.Info("stream closed", "reason", err)
}

// connectWithin calls open with a context that lives as long as ctx, which must
// end; only if open takes longer than limit it is done at once.
func connectWithin(ctx context.Context, limit time.Duration, open func(context.Context) (io.ReadWriteCloser, error)) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("not connected within %v", limit)) })
	rw, err := open(ctx)
	if err == nil && !timer.Stop() {
		rw.Close()
		rw, err = nil, context.Cause(ctx)
	}
	if err != nil {
		timer.Stop()
		cancel(err)
		return nil, err
	}
	return rw, nil
}

// upgrade answers 101 on a connection taken over from the HTTP server.
func upgrade(conn net.Conn, r *bufio.Reader) (*stream, error) {
	if err := conn.SetDeadline(time.Now().Add(headerLimit)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+StreamProtocol+"\r\n\r\n"); err != nil {
		return nil, fmt.Errorf("answer the upgrade: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newStream(conn, r)
}
