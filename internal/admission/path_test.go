// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	structurallisttype "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	structuralpruning "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/internal/admission"
)

// apiServer takes an object through the steps that the API server takes: strict
// decoding against the CustomResourceDefinition's schema, the mutating webhook,
// the schema's rules, the validating webhook. The webhooks are the real handler.
type apiServer struct {
	handler http.Handler
	user    authenticationv1.UserInfo
}

var (
	someone    = authenticationv1.UserInfo{Username: "someone", Groups: []string{"system:authenticated"}}
	controller = authenticationv1.UserInfo{Username: "skerry-controller", Groups: []string{"skerry:controllers", "system:authenticated"}}
	agent      = authenticationv1.UserInfo{Username: "skerry-node:n1", Groups: []string{"skerry:nodes", "system:authenticated"}}
)

// testCluster makes the same UUIDs and times in every run.
func testCluster() admission.Cluster {
	c := admission.DefaultCluster()
	n := 0
	c.NewUUID = func() string { n++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
	c.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	return c
}

func newAPIServer(user authenticationv1.UserInfo) *apiServer {
	return &apiServer{
		handler: admission.Handler(admission.Options{Cluster: testCluster(), Trusted: admission.DefaultIdentities("skerry-system")}),
		user:    user,
	}
}

type crdSchema struct {
	structural *structuralschema.Structural
	validator  schemavalidation.SchemaValidator
}

var schemas = sync.OnceValues(func() (map[string]crdSchema, error) {
	out := map[string]crdSchema{}
	for kind, file := range map[string]string{
		"VirtualMachine": "kubevirt.io_virtualmachines", "VirtualMachineInstance": "kubevirt.io_virtualmachineinstances",
		"EnhancedVirtualMachine": "mececs.io_enhancedvirtualmachines",
	} {
		data, err := os.ReadFile("../../deploy/crds/" + file + ".yaml")
		if err != nil {
			return nil, err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			return nil, err
		}
		var props apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
			return nil, err
		}
		s, err := structuralschema.NewStructural(&props)
		if err != nil {
			return nil, err
		}
		v, _, err := schemavalidation.NewSchemaValidator(&props)
		if err != nil {
			return nil, err
		}
		out[kind] = crdSchema{s, v}
	}
	return out, nil
})

// rejected is the API server's refusal.
type rejected struct {
	step   string
	text   string
	status *metav1.Status
}

func (r *rejected) Error() string { return r.step + ": " + r.text }

// create sends a manifest and returns the object as it would be stored, with the
// warnings that the user would see.
func (a *apiServer) create(t *testing.T, manifest []byte) (map[string]any, []string, error) {
	t.Helper()
	var obj map[string]any
	if err := yaml.UnmarshalStrict(manifest, &obj); err != nil {
		return nil, nil, &rejected{step: "YAML", text: err.Error()}
	}
	kind, _ := obj["kind"].(string)
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	schema, ok := all[kind]
	if !ok {
		return nil, nil, &rejected{step: "decode", text: fmt.Sprintf("no kind %q", kind)}
	}
	unknown := structuralpruning.PruneWithOptions(obj, schema.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return nil, nil, &rejected{step: "strict decoding", text: `unknown field "` + strings.Join(unknown, `", unknown field "`) + `"`}
	}
	return a.admit(t, kind, admissionv1.Create, obj, nil)
}

func (a *apiServer) admit(t *testing.T, kind string, op admissionv1.Operation, obj, old map[string]any) (map[string]any, []string, error) {
	t.Helper()
	paths := [2]string{admission.PathMutateVM, admission.PathValidateVM}
	if kind == "VirtualMachineInstance" {
		paths = [2]string{admission.PathMutateVMI, admission.PathValidateVMI}
	}
	resp := &admissionv1.AdmissionResponse{Allowed: true}
	if kind == "EnhancedVirtualMachine" {
		paths = [2]string{"", admission.PathValidateEVM} // nothing is filled in
	} else {
		resp = a.review(t, paths[0], kind, op, obj, old)
	}
	if !resp.Allowed {
		return nil, nil, &rejected{"mutating webhook", resp.Result.Message, resp.Result}
	}
	if len(resp.Patch) > 0 {
		patch, err := jsonpatch.DecodePatch(resp.Patch)
		if err != nil {
			t.Fatal(err)
		}
		data, err := patch.Apply(mustJSON(t, obj))
		if err != nil {
			t.Fatalf("patch does not apply: %v", err)
		}
		obj = nil
		if err := json.Unmarshal(data, &obj); err != nil {
			t.Fatal(err)
		}
	}
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	errs := schemavalidation.ValidateCustomResource(nil, obj, all[kind].validator)
	errs = append(errs, structurallisttype.ValidateListSetsAndMaps(nil, all[kind].structural, obj)...)
	if len(errs) > 0 {
		return nil, nil, &rejected{step: "schema", text: errs.ToAggregate().Error()}
	}
	warnings := resp.Warnings
	resp = a.review(t, paths[1], kind, op, obj, old)
	warnings = append(warnings, resp.Warnings...)
	if !resp.Allowed {
		return nil, warnings, &rejected{"validating webhook", resp.Result.Message, resp.Result}
	}
	if resp.Patch != nil {
		t.Error("the validating webhook answered with a patch")
	}
	return obj, warnings, nil
}

func (a *apiServer) review(t *testing.T, path, kind string, op admissionv1.Operation, obj, old map[string]any) *admissionv1.AdmissionResponse {
	t.Helper()
	in := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("review-1"), Operation: op, UserInfo: a.user, Namespace: "default", Name: "name",
			Kind:   metav1.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: kind},
			Object: runtime.RawExtension{Raw: mustJSON(t, obj)},
		},
	}
	if old != nil {
		in.Request.OldObject.Raw = mustJSON(t, old)
	}
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(mustJSON(t, in)))
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	var out admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if out.Response == nil || out.Response.UID != in.Request.UID || out.Kind != in.Kind || out.APIVersion != in.APIVersion {
		t.Fatalf("%s: answer does not belong to the question: %s", path, w.Body)
	}
	return out.Response
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
