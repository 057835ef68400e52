// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi"
)

// Nodes reaches the node agents; *nodeapi.Client does.
type Nodes interface {
	Call(ctx context.Context, node string, vmi nodeapi.VMIRef, verb nodeapi.Verb) error
	Screenshot(ctx context.Context, node string, vmi nodeapi.VMIRef, moveCursor bool) ([]byte, error)
	Stream(ctx context.Context, node string, vmi nodeapi.VMIRef, ch nodeapi.Channel, opts nodeapi.StreamOptions) (nodeapi.Stream, error)
}

// Config is what a [Server] needs. All fields but Log are required.
type Config struct {
	// REST is the controller's own access to the API server. Requests read
	// through it without a cache: a verb decides on what is true now.
	REST  *rest.Config
	Nodes Nodes
	Log   *slog.Logger // nil: slog.Default()
}

// Server is the aggregated API: an http.Handler for [Paths], to be mounted on a
// TLS server that asks for client certificates (tls.RequestClientCert) and
// neither verifies them nor sets a write limit.
type Server struct {
	client client.Client
	rest   rest.Interface
	nodes  Nodes
	log    *slog.Logger
	auth   authenticator.Request
	proxy  *frontProxy

	stopping context.Context
	end      context.CancelFunc
	streams  streamLimits
	health   struct {
		sync.Mutex
		at   time.Time
		code int
		body any
	}
}

// Paths are the patterns, in the language of http.ServeMux, at which a Server
// has to be mounted.
var Paths = []string{"/apis", "/apis/", "/openapi/v2", "/openapi/v3", "/openapi/v3/"}

// Requests per second to the API server, for reads, reviews and patches.
const qps, burst = 100, 200

// New makes a Server. It accepts nobody before Start has read how to recognise
// the API server.
func New(c Config) (*Server, error) {
	if c.REST == nil || c.Nodes == nil {
		return nil, errors.New("subresource API: REST and Nodes are required")
	}
	config := rest.CopyConfig(c.REST)
	config.QPS, config.Burst = qps, burst
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("subresource API: %w", err)
	}
	scheme, mapper, err := knownTypes()
	if err != nil {
		return nil, fmt.Errorf("subresource API: %w", err)
	}
	direct, err := client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("subresource API: %w", err)
	}
	proxy, err := newFrontProxy(kube)
	if err != nil {
		return nil, fmt.Errorf("subresource API: %w", err)
	}
	s := newServer(direct, c.Nodes, proxy, c.Log)
	s.rest, s.proxy = kube.Discovery().RESTClient(), proxy
	return s, nil
}

func newServer(c client.Client, nodes Nodes, auth authenticator.Request, log *slog.Logger) *Server {
	if log == nil {
		log = slog.Default()
	}
	s := &Server{client: c, nodes: nodes, auth: auth, log: log, streams: streamLimits{of: map[types.UID]int{}}}
	s.stopping, s.end = context.WithCancel(context.Background())
	return s
}

// knownTypes are the kinds that are read and written here. Naming them spares asking
// the API server for all that it has.
func knownTypes() (*runtime.Scheme, meta.RESTMapper, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{kubevirtv1.AddToScheme, corev1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, err
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(kubevirtv1.VirtualMachineKind, meta.RESTScopeNamespace)
	mapper.Add(kubevirtv1.VirtualMachineInstanceKind, meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), meta.RESTScopeRoot)
	return scheme, mapper, nil
}

// Start follows the API server's front-proxy settings until ctx is done, then
// ends all streams. It has the form of a controller-runtime Runnable.
func (s *Server) Start(ctx context.Context) error {
	defer s.end()
	s.proxy.run(ctx)
	return nil
}

// NeedLeaderElection is false: every replica serves.
func (s *Server) NeedLeaderElection() bool { return false }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		if code, body, ok := s.document(r.Context(), r.URL.Path); ok {
			writeJSON(w, code, body)
			return
		}
	}
	if err := s.serve(w, r); err != nil {
		writeError(w, err)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	u, err := s.authenticate(r)
	if err != nil {
		return err
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/apis/"+Group+"/")
	if !ok {
		return errNoSuchPath(r.URL.Path)
	}
	t, err := parseTarget(path)
	if err != nil {
		return err
	}
	e, ok := endpoints[t.resource][t.sub]
	if !ok {
		return errNoSuchPath(r.URL.Path)
	}
	if r.Method != e.method {
		w.Header().Set("Allow", e.method)
		return newStatus(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, fmt.Sprintf("%s: use %s, not %.20s", t.rbacName(), e.method, r.Method))
	}
	if err := s.authorize(r.Context(), u, r.Method, t); err != nil {
		return err
	}
	if e.serve == nil {
		return errNotServed(t.rbacName(), e.instead)
	}
	return e.serve(s, authorized{w: w, r: r, target: t, user: u})
}

// record notes who did what. These are rare, and worth knowing later.
func (s *Server) record(a authorized) {
	s.log.Info("subresource used", "subresource", a.target.rbacName(), "namespace", a.target.namespace, "vm", a.target.name, "user", a.user.GetName())
}
