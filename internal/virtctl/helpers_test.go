// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// api is an API server that records what it is asked.
type api struct {
	*httptest.Server
	mux        *http.ServeMux
	kubeconfig string

	mu   sync.Mutex
	seen []string
}

// newAPI answers each pattern (of http.ServeMux) with a handler, the rest with 404.
func newAPI(t *testing.T, handlers map[string]http.HandlerFunc) *api {
	t.Helper()
	a := &api{mux: http.NewServeMux()}
	for pattern, h := range handlers {
		a.mux.HandleFunc(pattern, h)
	}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		if r.Method != http.MethodGet {
			body, _ = io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		line := r.Method + " " + r.URL.RequestURI()
		if len(body) > 0 {
			line += " " + string(body)
		}
		a.mu.Lock()
		a.seen = append(a.seen, line)
		a.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		a.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: a.URL, InsecureSkipTLSVerify: true}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "secret"}
	config.AuthInfos["nobody"] = &clientcmdapi.AuthInfo{Token: "wrong"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u", Namespace: "ns"}
	config.Contexts["nobody"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "nobody", Namespace: "ns"}
	config.CurrentContext = "x"
	a.kubeconfig = filepath.Join(t.TempDir(), "config")
	if err := clientcmd.WriteToFile(*config, a.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *api) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.seen...)
}

// run runs virtctl with args and returns what it printed.
func (a *api) run(t *testing.T, in io.Reader, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return a.runContext(t.Context(), in, args...)
}

func (a *api) runContext(ctx context.Context, in io.Reader, args ...string) (stdout, stderr string, err error) {
	var out, notice bytes.Buffer
	cmd := NewCommand("virtctl", func() string { return "" })
	cmd.SetArgs(append([]string{"--kubeconfig", a.kubeconfig}, args...))
	cmd.SetIn(in)
	cmd.SetOut(&out)
	cmd.SetErr(&notice)
	err = cmd.ExecuteContext(ctx)
	return out.String(), notice.String(), err
}

func answer(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func object(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

func refusal(code int32, message, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: code, Message: message}
		if name != "" {
			s.Details = &metav1.StatusDetails{Name: name}
		}
		w.WriteHeader(int(code))
		_ = json.NewEncoder(w).Encode(s)
	}
}

// streams upgrades and hands the websocket to serve.
func streams(serve func(*websocket.Conn)) http.HandlerFunc {
	up := websocket.Upgrader{Subprotocols: []string{streamProtocol}}
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		serve(ws)
	}
}

// echo sends everything back until the client closes.
func echo(ws *websocket.Conn) {
	for {
		kind, b, err := ws.ReadMessage()
		if err != nil {
			return
		}
		if err := ws.WriteMessage(kind, b); err != nil {
			return
		}
	}
}

func closeNormally(ws *websocket.Conn) {
	_ = ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	_, _, _ = ws.ReadMessage()
}

const (
	vmPath  = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/vm1/"
	vmiPath = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/vm1/"
	vmObj   = "/apis/kubevirt.io/v1/namespaces/ns/virtualmachines/vm1"
	vmiObj  = "/apis/kubevirt.io/v1/namespaces/ns/virtualmachineinstances/vm1"
)
