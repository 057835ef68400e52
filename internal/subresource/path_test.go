// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]target{
		"v1/namespaces/ns/virtualmachines/a/start":                          {version: "v1", namespace: "ns", resource: vms, name: "a", sub: "start"},
		"v1alpha3/namespaces/ns/virtualmachineinstances/a.b/vnc/screenshot": {version: "v1alpha3", namespace: "ns", resource: vmis, name: "a.b", sub: "vnc/screenshot"},
		"v1/namespaces/ns/virtualmachines/a/portforward/22":                 {version: "v1", namespace: "ns", resource: vms, name: "a", sub: "portforward", port: 22, protocol: "tcp"},
		"v1/namespaces/ns/virtualmachines/a/portforward/53/UDP":             {version: "v1", namespace: "ns", resource: vms, name: "a", sub: "portforward", port: 53, protocol: "udp"},
		"v1/namespaces/ns/expand-vm-spec":                                   {version: "v1", namespace: "ns", resource: "expand-vm-spec"},
	} {
		got, err := parseTarget(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(target{})); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	for path, want := range map[string]int32{
		"": 404,
		"v2/namespaces/ns/virtualmachines/a/start":                404,
		"v1/namespaces/ns/pods/a/start":                           404,
		"v1/namespaces/ns/virtualmachines/a":                      404,
		"v1/virtualmachines/a/start":                              404,
		"v1/namespaces/NS/virtualmachines/a/start":                400,
		"v1/namespaces//virtualmachines/a/start":                  400,
		"v1/namespaces/ns/virtualmachines/../start":               400,
		"v1/namespaces/ns/virtualmachines/a/portforward":          404,
		"v1/namespaces/ns/virtualmachines/a/portforward/22/tcp/x": 404,
		"v1/namespaces/ns/virtualmachines/a/portforward/+22":      400,
		"v1/namespaces/ns/virtualmachines/a/portforward/99999":    400,
		"v1/namespaces/ns/virtualmachines/a/portforward/22/icmp":  400,
	} {
		if _, err := parseTarget(path); code(err) != want {
			t.Errorf("%q: %v, want %d", path, err, want)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted))
	e.want(http.MethodGet, "virtualmachines/vm1/fly", "", 404, "serves no path")
	e.want(http.MethodGet, "virtualmachines/vm1/start", "", 405, "use PUT, not GET")
	e.want(http.MethodPost, "virtualmachineinstances/vm1/console", "", 405, "use GET, not POST")
	e.want(http.MethodGet, "/apis/"+Group+"/v3", "", 404, "serves no path")
	e.want(http.MethodDelete, "/apis/"+Group+"/v1", "", 404, "serves no path")
}

func FuzzParseTarget(f *testing.F) {
	f.Add("v1/namespaces/ns/virtualmachines/a/portforward/22/tcp")
	f.Add("v1alpha3/namespaces/ns/virtualmachineinstances/a/vnc/screenshot")
	f.Fuzz(func(t *testing.T, path string) {
		got, err := parseTarget(path)
		if err != nil {
			if c := code(err); c != 400 && c != 404 {
				t.Fatalf("%q: %v", path, err)
			}
			return
		}
		if strings.Contains(got.name, "/") || strings.Contains(got.namespace, "/") || (got.sub == "portforward") != (got.port > 0) {
			t.Fatalf("%q: %+v", path, got)
		}
	})
}

func FuzzOptions(f *testing.F) {
	f.Add([]byte(`{"dryRun":["All"],"gracePeriod":5}`))
	f.Add([]byte("gracePeriod: &a 1\ndryRun: [*a]\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o kubevirtv1.StopOptions
		if err := parseOptions(body, &o); err != nil && code(err) != 400 {
			t.Fatal(err)
		}
		_, _ = isDryRun(o.DryRun)
		_, _ = planStop(newVM(always), newVMI(kubevirtv1.Running), o.GracePeriod)
	})
}

// Whatever the request, there is an answer, and nobody who is denied gets more
// than 401 or a document.
func FuzzRequest(f *testing.F) {
	f.Add("PUT", "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/a/start", "jane", "{}")
	f.Add("GET", "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/a/portforward/1", "jane", "")
	f.Add("GET", "/openapi/v3/", "", "")
	s := newServer(broken{}, &fakeNodes{err: errors.New("no")}, authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		name := r.Header.Get("X-Remote-User")
		return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, name != "", nil
	}), quiet)
	s.health.body, s.health.code, s.health.at = map[string]any{}, 200, time.Now().Add(24*time.Hour)
	f.Fuzz(func(t *testing.T, method, path, name, body string) {
		r, err := http.NewRequest(method, "http://x/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL.Path = path
		r.Header.Set("X-Remote-User", name)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 401, 404, 405, 500, 501:
		default:
			t.Fatalf("%s %q: %d", method, path, w.Code)
		}
	})
}
