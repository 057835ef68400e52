// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/deploy"
)

var testCA = []byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")

// fakeAPI is as much of an API server as Apply needs: it takes server-side apply
// and establishes a CustomResourceDefinition at the second look.
type fakeAPI struct {
	mu      sync.Mutex
	applied []string // kinds and names in order
	objects map[string]map[string]any
	looks   map[string]int
	broken  int // this many requests fail with 503 first

	generation int
}

func partial(o map[string]any) map[string]any {
	return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]}
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if f.broken > 0 {
		f.broken--
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "ServiceUnavailable", "code": 503})
		return
	}
	switch r.Method {
	case http.MethodPatch:
		if r.Header.Get("Content-Type") == "application/merge-patch+json" {
			var p struct{ Metadata map[string]any }
			if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			o := f.objects[r.URL.Path]
			o["metadata"].(map[string]any)["annotations"] = p.Metadata["annotations"]
			_ = json.NewEncoder(w).Encode(partial(o))
			return
		}
		var o map[string]any
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = yaml.Unmarshal(body, &o)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if r.Header.Get("Content-Type") != "application/apply-patch+yaml" || r.URL.Query().Get("fieldManager") != deploy.FieldManager || r.URL.Query().Get("force") != "true" {
			http.Error(w, "not a server-side apply: "+r.URL.RawQuery, http.StatusBadRequest)
			return
		}
		f.applied = append(f.applied, o["kind"].(string))
		f.generation++
		o["metadata"].(map[string]any)["generation"] = f.generation
		f.objects[r.URL.Path] = o
		_ = json.NewEncoder(w).Encode(o)
	case http.MethodGet:
		o := f.objects[r.URL.Path]
		if o == nil {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
			return
		}
		if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
			_ = json.NewEncoder(w).Encode(partial(o))
			return
		}
		o["status"] = map[string]any{"conditions": nil} // so it is at first
		if f.looks[r.URL.Path]++; f.looks[r.URL.Path] > 1 {
			o["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}}
		}
		_ = json.NewEncoder(w).Encode(o)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	api := &fakeAPI{objects: map[string]map[string]any{}, looks: map[string]int{}, broken: 2}
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	apply := func() []string {
		t.Helper()
		api.applied = nil
		if err := deploy.Apply(ctx, &rest.Config{Host: srv.URL}, deploy.Params{Namespace: "elsewhere", CABundle: testCA}); err != nil {
			t.Fatal(err)
		}
		return api.applied
	}
	definitions := func(kinds []string) int {
		n := 0
		for _, k := range kinds {
			if k == "CustomResourceDefinition" {
				n++
			}
		}
		return n
	}
	first := apply()
	if n := definitions(apply()); n != 0 {
		t.Errorf("%d definitions were applied again although nothing has changed", n)
	}
	// Multus brought its definition before us: it stays as it is.
	shared := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/network-attachment-definitions.k8s.cni.cncf.io"
	ours := api.objects[shared]
	if ours == nil {
		t.Fatal("a cluster without NetworkAttachmentDefinitions gets no definition of them")
	}
	api.objects[shared] = map[string]any{"metadata": map[string]any{"name": "network-attachment-definitions.k8s.cni.cncf.io", "generation": 1}}
	if n := definitions(apply()); n != 0 {
		t.Errorf("%d definitions were applied over somebody else's", n)
	}
	api.objects[shared] = ours
	crd := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualmachines.kubevirt.io"
	api.generation++
	api.objects[crd]["metadata"].(map[string]any)["generation"] = api.generation // somebody changed it
	if n := definitions(apply()); n != 1 {
		t.Errorf("%d definitions were applied after one was changed, want 1", n)
	}
	if first[0] != "Namespace" {
		t.Errorf("first applied is %s, want the namespace", first[0])
	}
	caller := slices.IndexFunc(first, func(k string) bool { return k == "APIService" || strings.Contains(k, "Webhook") })
	last := len(first) - 1 - slices.IndexFunc(reversed(first), func(k string) bool { return k == "CustomResourceDefinition" })
	if caller < last {
		t.Errorf("what calls the controller is applied before all definitions are: %v", first)
	}
	for _, path := range []string{
		"/api/v1/namespaces/elsewhere",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualmachines.kubevirt.io",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualmachineinstances.kubevirt.io",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/elsewhere/roles/skerry-controller",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/skerry-controller-authentication-reader",
		"/apis/apiregistration.k8s.io/v1/apiservices/v1.subresources.kubevirt.io",
		"/apis/apiregistration.k8s.io/v1/apiservices/v1alpha3.subresources.kubevirt.io",
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/skerry-node",
		"/apis/scheduling.k8s.io/v1/priorityclasses/kubevirt-cluster-critical",
	} {
		if api.objects[path] == nil {
			t.Errorf("%s was not applied", path)
		}
	}
	for path, o := range api.objects {
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), deploy.DefaultNamespace) {
			t.Errorf("%s still mentions the default namespace", path)
		}
	}
	for _, path := range []string{
		"/apis/apiregistration.k8s.io/v1/apiservices/v1.subresources.kubevirt.io",
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/skerry",
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/skerry",
	} {
		data, _ := json.Marshal(api.objects[path])
		if !strings.Contains(string(data), base64.StdEncoding.EncodeToString(testCA)) {
			t.Errorf("%s has no CA bundle", path)
		}
	}
}

// TestApplyGivesUp: an error that will last is reported at once, with the object.
func TestApplyGivesUp(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no"})
	}))
	t.Cleanup(srv.Close)
	err := deploy.Apply(t.Context(), &rest.Config{Host: srv.URL}, deploy.Params{CABundle: testCA})
	if err == nil || !strings.Contains(err.Error(), "apply Namespace ") {
		t.Errorf("got %v", err)
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	for _, p := range []deploy.Params{
		{},
		{CABundle: []byte("not PEM")},
		{CABundle: testCA, Namespace: "not a namespace: x"},
	} {
		if _, err := deploy.Objects(p); err == nil {
			t.Errorf("%+v was accepted", p)
		}
	}
}

// TestNodeRole: whoever takes over a node must not find Secrets, pods or
// other nodes' business, nor make anything.
func TestNodeRole(t *testing.T) {
	t.Parallel()
	var role rbacv1.ClusterRole
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(find(t, "ClusterRole", "skerry-node").Object, &role, true); err != nil {
		t.Fatal(err)
	}
	for _, rule := range role.Rules {
		for _, res := range rule.Resources {
			for _, verb := range rule.Verbs {
				reads := verb == "get" || verb == "list" || verb == "watch"
				ok := res == "virtualmachineinstances" && (reads || verb == "update" || verb == "patch") ||
					(res == "nodes" && (verb == "get" || verb == "patch")) || (res == "nodes/status" && verb == "patch") ||
					res == "events" && (verb == "create" || verb == "patch") ||
					res == "network-attachment-definitions" && verb == "get"
				if !ok {
					t.Errorf("the node agent may %s %s", verb, res)
				}
			}
		}
	}
}

// TestEnhancedVirtualMachine looks at what clients see of it.
func TestEnhancedVirtualMachine(t *testing.T) {
	t.Parallel()
	o := find(t, "CustomResourceDefinition", "enhancedvirtualmachines.mececs.io")
	names, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "names", "shortNames")
	if !slices.Contains(names, "evm") {
		t.Errorf("short names %v", names)
	}
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	if len(versions) != 1 {
		t.Fatalf("%d versions", len(versions))
	}
	v := versions[0].(map[string]any)
	var narrow, wide []string
	columns, _, _ := unstructured.NestedSlice(v, "additionalPrinterColumns")
	for _, c := range columns {
		m := c.(map[string]any)
		name := strings.ToUpper(m["name"].(string))
		if m["priority"] == nil {
			narrow = append(narrow, name)
		} else {
			wide = append(wide, name)
		}
	}
	if !slices.Equal(narrow, []string{"AGE"}) || !slices.Equal(wide, []string{"PHASE", "IMAGE", "VM", "READY"}) {
		t.Errorf("columns %v, wide %v", narrow, wide)
	}
	if _, ok, _ := unstructured.NestedMap(v, "subresources", "status"); !ok || v["name"] != "v1beta1" || v["storage"] != true {
		t.Errorf("version %v: status subresource %v", v["name"], ok)
	}
}

// TestDefinitions looks at what clients see of the kinds.
func TestDefinitions(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"virtualmachines.kubevirt.io", "virtualmachineinstances.kubevirt.io"} {
		o := find(t, "CustomResourceDefinition", name)
		if _, ok := o.GetLabels()["kubevirt.io"]; !ok {
			t.Errorf("%s: no label kubevirt.io", name)
		}
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		var got []string
		for _, v := range versions {
			m := v.(map[string]any)
			got = append(got, m["name"].(string))
			if m["storage"] != (m["name"] == "v1") || (m["deprecated"] == true) != (m["name"] == "v1alpha3") || m["served"] != true {
				t.Errorf("%s %v: served %v, storage %v, deprecated %v", name, m["name"], m["served"], m["storage"], m["deprecated"])
			}
			if _, hasStatus, _ := unstructured.NestedMap(m, "subresources", "status"); hasStatus != (name == "virtualmachines.kubevirt.io") {
				t.Errorf("%s %v: status subresource %v", name, m["name"], hasStatus)
			}
		}
		if !slices.Equal(got, []string{"v1", "v1alpha3"}) {
			t.Errorf("%s: versions %v", name, got)
		}
		data, err := json.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), `"description"`) {
			t.Errorf("%s has descriptions, which cost the API server memory", name)
		}
	}
}

func reversed(s []string) []string {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}
