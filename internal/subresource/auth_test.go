// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi/nodeapitest"
)

func TestReview(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted), newVMI(kubevirtv1.Running))
	for _, c := range []struct {
		method, path                      string
		verb, resource, subresource, name string
	}{
		{"PUT", "virtualmachines/vm1/start", "update", "virtualmachines", "start", "vm1"},
		{"GET", "virtualmachineinstances/vm1/vnc/screenshot", "get", "virtualmachineinstances", "vnc/screenshot", "vm1"},
		{"GET", "virtualmachineinstances/vm1/portforward/22/udp", "get", "virtualmachineinstances", "portforward", "vm1"},
		{"GET", "virtualmachines/vm1/portforward/22", "get", "virtualmachines", "portforward", "vm1"},
		{"PUT", "virtualmachineinstances/vm1/evacuate/cancel", "update", "virtualmachineinstances", "evacuate/cancel", "vm1"},
		{"PUT", "expand-vm-spec", "update", "expand-vm-spec", "", ""},
	} {
		e.reviews = nil
		e.do(c.method, c.path, "")
		want := []authorizationv1.SubjectAccessReviewSpec{{
			User: "jane", UID: "7", Groups: []string{"staff"}, Extra: map[string]authorizationv1.ExtraValue{"scopes": {"a"}},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "ns", Verb: c.verb, Group: Group, Version: "v1", Resource: c.resource, Subresource: c.subresource, Name: c.name},
		}}
		if d := cmp.Diff(want, e.reviews); d != "" {
			t.Errorf("%s: %s", c.path, d)
		}
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted), newVMI(kubevirtv1.Running))
	e.deny = "no RBAC rule"
	for resource, subs := range endpoints {
		for sub, p := range subs {
			path := resource + "/vm1/" + sub
			switch sub {
			case "":
				path = resource
			case "portforward":
				path += "/22"
			}
			code, body := e.do(p.method, path, "")
			name := target{resource: resource, sub: sub}.rbacName()
			if code != 401 || !strings.Contains(body, `user "jane" cannot `+verbOf(p.method)+` resource "`+name+`"`) || !strings.Contains(body, "no RBAC rule") {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
	}
	if len(e.nodes.calls) > 0 || *e.getVM("vm1").Spec.RunStrategy != halted {
		t.Fatal("a denied request had an effect")
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted))
	for _, path := range []string{"/apis/" + Group + "/v1/namespaces/ns/virtualmachines/vm1/start", "/apis/other/v1", "/openapi/v2/x", "/apis/" + Group + "/v2"} {
		r, err := http.NewRequest(http.MethodPut, e.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if len(e.reviews) > 0 {
		t.Fatal("the API server was asked about nobody")
	}
}

func TestReviewFails(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted))
	e.Server.client = broken{e.client}
	e.want(http.MethodPut, "virtualmachines/vm1/start", "", 500, "the API server is away")
}

type broken struct{ client.Client }

func (broken) Create(context.Context, client.Object, ...client.CreateOption) error {
	return errors.New("the API server is away")
}

// The real authenticator, over TLS as it is mounted, with a ConfigMap that changes.
func TestFrontProxy(t *testing.T) {
	t.Parallel()
	ca, other, later := nodeapitest.NewCA(t, "front proxy"), nodeapitest.NewCA(t, "front proxy"), nodeapitest.NewCA(t, "later")
	settings := func(ca *nodeapitest.CA, names string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: authNamespace, Name: authConfigMap},
			Data: map[string]string{
				"requestheader-client-ca-file":       string(ca.PEM),
				"requestheader-allowed-names":        names,
				"requestheader-username-headers":     `["X-Remote-User"]`,
				"requestheader-uid-headers":          `["X-Remote-Uid"]`,
				"requestheader-group-headers":        `["X-Remote-Group"]`,
				"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
			},
		}
	}
	kube := kubefake.NewClientset(settings(ca, `["front-proxy-client"]`))
	proxy, err := newFrontProxy(kube)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(nil, nil, proxy, quiet)
	s.proxy = proxy
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	var seen *authenticator.Response
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := s.authenticate(r)
		if err != nil {
			writeError(w, err)
			return
		}
		seen = &authenticator.Response{User: u}
	}))
	serving, key := ca.Issue(t, "server")
	pair, err := tls.X509KeyPair(serving, key)
	if err != nil {
		t.Fatal(err)
	}
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ask := func(ca *nodeapitest.CA, name string, headers map[string]string) int {
		t.Helper()
		config := &tls.Config{RootCAs: x509.NewCertPool()}
		config.RootCAs.AddCert(srv.Certificate())
		if ca != nil {
			cert, key := ca.Issue(t, name)
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		r, err := http.NewRequest(http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	jane := map[string]string{"X-Remote-User": "jane", "X-Remote-Group": "staff", "X-Remote-Extra-Scopes": "a", "X-Remote-Uid": "7"}

	// Before the ConfigMap was read nobody gets in.
	if code := ask(ca, "front-proxy-client", jane); code != 401 {
		t.Fatalf("before the start: %d", code)
	}
	go func() { stopped <- s.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	until := func(what string, ok func() bool) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for !ok() {
			select {
			case <-limit:
				t.Fatal(what)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	until("the aggregator is never accepted", func() bool { return ask(ca, "front-proxy-client", jane) == 200 })
	u := seen.User
	if u.GetName() != "jane" || u.GetUID() != "7" || len(u.GetGroups()) != 1 || u.GetGroups()[0] != "staff" || u.GetExtra()["scopes"][0] != "a" {
		t.Fatalf("%+v", u)
	}
	for what, code := range map[string]int{
		"no certificate":    ask(nil, "", jane),
		"another name":      ask(ca, "jane", jane),
		"another CA":        ask(other, "front-proxy-client", jane),
		"no user in header": ask(ca, "front-proxy-client", nil),
	} {
		if code != 401 {
			t.Errorf("%s: %d", what, code)
		}
	}
	if _, err := kube.CoreV1().ConfigMaps(authNamespace).Update(ctx, settings(later, `[]`), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until("the new CA is never accepted", func() bool { return ask(later, "any name", jane) == 200 })
	if code := ask(ca, "front-proxy-client", jane); code != 401 {
		t.Errorf("the old CA: %d", code)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.rest = nil
	for _, c := range []struct{ path, golden string }{
		{"/apis", "apis.json"},
		{"/apis/" + Group, "group.json"},
		{"/apis/" + Group + "/v1", "resources-v1.json"},
		{"/apis/" + Group + "/v1alpha3", "resources-v1alpha3.json"},
		{"/openapi/v2", "openapi-v2.json"},
		{"/openapi/v3", "openapi-v3.json"},
		{"/openapi/v3/apis/" + Group + "/v1", "openapi-v3-v1.json"},
	} {
		r, err := http.Get(e.url + c.path) // as nobody
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %d %q %v", c.path, r.StatusCode, r.Header, err)
		}
		golden(t, c.golden, b)
	}
	code, body := e.do(http.MethodGet, "/apis/"+Group+"/v1/version", "")
	var v map[string]string
	if code != 200 || json.Unmarshal([]byte(body), &v) != nil || v["gitVersion"] == "" || v["platform"] == "" {
		t.Errorf("version: %d %s", code, body)
	}
}

var update = flag.Bool("update", false, "rewrite testdata")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(got, &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	pretty, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	pretty = append(pretty, '\n')
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, pretty, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(pretty)); d != "" {
		t.Errorf("%s: %s", name, d)
	}
}
