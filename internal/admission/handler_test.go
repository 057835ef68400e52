// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/internal/admission"
)

const storedVMI = `{
	"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
	"metadata": {"name": "a", "labels": {"kubevirt.io/nodeName": "n1", "app": "db"}},
	"spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}},
	"status": {"phase": "Running", "nodeName": "n1", "runtimeUser": 107, "newer": {"field": 1}}
}`

const storedVM = `{
	"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "a"},
	"spec": {"runStrategy": "Always", "template": {"spec": {"domain": {
		"cpu": {"sockets": 1, "maxSockets": 4}, "memory": {"guest": "1Gi", "maxGuest": "4Gi"},
		"firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "SN-1"}, "devices": {}}}}},
	"status": {"created": true}
}`

// TestUpdate changes stored objects as different users.
func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, stored string
		user         authenticationv1.UserInfo
		change       func(spec, status, meta map[string]any)
		refused      string // part of the message
		check        func(t *testing.T, obj map[string]any)
	}{
		{
			name: "a user's status is put back", stored: storedVMI, user: someone,
			change: func(_, status, meta map[string]any) {
				status["phase"], status["nodeName"] = "Failed", "n2"
				delete(status, "newer")
				meta["annotations"] = map[string]any{"note": "x"}
			},
			check: func(t *testing.T, obj map[string]any) {
				want := decoded(t, storedVMI)
				want["metadata"].(map[string]any)["annotations"] = map[string]any{"note": "x"}
				if diff := cmp.Diff(want, obj); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			},
		},
		{
			name: "an agent's status is kept", stored: storedVMI, user: agent,
			change: func(_, status, _ map[string]any) { status["phase"] = "Failed" },
			check: func(t *testing.T, obj map[string]any) {
				if got := obj["status"].(map[string]any)["phase"]; got != "Failed" {
					t.Errorf("phase %v", got)
				}
			},
		},
		{
			name: "a user cannot change an instance's spec", stored: storedVMI, user: someone,
			change:  func(spec, _, _ map[string]any) { spec["hostname"] = "x" },
			refused: "spec cannot be changed",
		},
		{
			name: "the controller can", stored: storedVMI, user: controller,
			change: func(spec, _, _ map[string]any) { spec["terminationGracePeriodSeconds"] = 1 },
			check:  func(*testing.T, map[string]any) {},
		},
		{
			name: "a user cannot move an instance", stored: storedVMI, user: someone,
			change: func(_, _, meta map[string]any) {
				meta["labels"] = map[string]any{"kubevirt.io/nodeName": "n2", "app": "db"}
			},
			refused: `metadata.labels[kubevirt.io/nodeName]: "n2" is set by Skerry itself`,
		},
		{
			name: "nor take it off its node", stored: storedVMI, user: someone,
			change:  func(_, _, meta map[string]any) { meta["labels"] = map[string]any{"app": "db"} },
			refused: `leave it at "n1"`,
		},
		{
			name: "other labels are the user's", stored: storedVMI, user: someone,
			change: func(_, _, meta map[string]any) { meta["labels"] = map[string]any{"kubevirt.io/nodeName": "n1"} },
			check:  func(*testing.T, map[string]any) {},
		},
		{
			name: "a machine keeps its identity", stored: storedVM, user: someone,
			change: func(spec, _, _ map[string]any) {
				delete(domainOf(spec), "firmware")
				domainOf(spec)["rebootPolicy"] = "Terminate"
			},
			check: func(t *testing.T, obj map[string]any) {
				want := map[string]any{"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "SN-1"}
				if diff := cmp.Diff(want, domainOf(obj["spec"].(map[string]any))["firmware"]); diff != "" {
					t.Errorf("firmware (-want +got):\n%s", diff)
				}
			},
		},
		{
			name: "limits of growth are fixed while it runs", stored: storedVM, user: someone,
			change: func(spec, _, _ map[string]any) {
				domainOf(spec)["cpu"] = map[string]any{"sockets": 1, "maxSockets": 8}
				domainOf(spec)["memory"] = map[string]any{"guest": "1Gi", "maxGuest": "8Gi"}
			},
			refused: `spec.template.spec.domain.cpu.maxSockets: 8 differs from 4 and cannot change while the machine runs; stop it first, ` +
				`spec.template.spec.domain.memory.maxGuest: "8Gi" differs from 4Gi and cannot change while the machine runs; stop it first`,
		},
		{
			name: "a machine that an older version accepted can be labelled", user: someone,
			stored: strings.Replace(storedVM, `"devices": {}`, `"devices": {"sound": {"name": "s"}}`, 1),
			change: func(_, _, meta map[string]any) { meta["labels"] = map[string]any{"a": "b"} },
			check:  func(*testing.T, map[string]any) {},
		},
		{
			name: "and deleted", user: someone,
			stored: strings.Replace(storedVM, `{"name": "a"}`, `{"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}`, 1),
			change: func(spec, _, meta map[string]any) { delete(meta, "finalizers"); spec["runStrategy"] = "nonsense" },
			check:  func(*testing.T, map[string]any) {},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old, obj := decoded(t, tc.stored), decoded(t, tc.stored)
			tc.change(obj["spec"].(map[string]any), obj["status"].(map[string]any), obj["metadata"].(map[string]any))
			obj = decoded(t, string(mustJSON(t, obj)))
			got, _, err := newAPIServer(tc.user).admit(t, obj["kind"].(string), admissionv1.Update, obj, old)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Fatalf("got %v, want a refusal with %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tc.check(t, got)
		})
	}
}

func domainOf(vmSpec map[string]any) map[string]any {
	return vmSpec["template"].(map[string]any)["spec"].(map[string]any)["domain"].(map[string]any)
}

// TestCreateStatus: a user's own status is not taken over, the controller's is.
func TestCreateStatus(t *testing.T) {
	t.Parallel()
	manifest := strings.Replace(storedVMI, `"kubevirt.io/nodeName": "n1", `, "", 1)
	manifest = strings.Replace(manifest, `, "newer": {"field": 1}`, `, "virtualMachineRevisionName": "r1"`, 1)
	for _, tc := range []struct {
		user  authenticationv1.UserInfo
		phase string
		rev   any
	}{{someone, "Pending", nil}, {controller, "Running", "r1"}} {
		obj, _, err := newAPIServer(tc.user).create(t, []byte(manifest))
		if err != nil {
			t.Fatal(err)
		}
		status := obj["status"].(map[string]any)
		if status["phase"] != tc.phase || status["virtualMachineRevisionName"] != tc.rev {
			t.Errorf("%s: status %v", tc.user.Username, status)
		}
		if tc.user.Username == someone.Username && status["nodeName"] != nil {
			t.Errorf("nodeName was taken over from a user")
		}
	}
}

// TestDefaultsAreStable: the webhook may be called again on its own result.
func TestDefaultsAreStable(t *testing.T) {
	t.Parallel()
	once, _, err := newAPIServer(someone).create(t, read(t, "testdata/accepted/vmi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	twice, _, err := newAPIServer(controller).create(t, mustJSON(t, once))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(once, twice); diff != "" {
		t.Errorf("(-once +twice):\n%s", diff)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := newAPIServer(someone).handler
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","object":%}}`
	for _, tc := range []struct {
		name, method, path, contentType, body string
		code                                  int
	}{
		{"wrong method", "GET", admission.PathMutateVM, "application/json", "", http.StatusMethodNotAllowed},
		{"wrong path", "POST", "/mutate-pod", "application/json", "{}", http.StatusNotFound},
		{"wrong type", "POST", admission.PathMutateVM, "application/yaml", "{}", http.StatusUnsupportedMediaType},
		{"no JSON", "POST", admission.PathMutateVM, "application/json", "{", http.StatusBadRequest},
		{"old version", "POST", admission.PathMutateVM, "application/json", strings.Replace(review, "k8s.io/v1", "k8s.io/v1beta1", 1), http.StatusBadRequest},
		{"no request", "POST", admission.PathMutateVM, "application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, http.StatusBadRequest},
		{"too large", "POST", admission.PathMutateVM, "application/json", `"` + strings.Repeat("x", 9<<20) + `"`, http.StatusRequestEntityTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
			req.Header.Set("Content-Type", tc.contentType)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if w.Code != tc.code {
				t.Errorf("code %d, want %d: %s", w.Code, tc.code, w.Body)
			}
		})
	}
	// An object that is none is refused in an answer, not by an error.
	for _, path := range []string{admission.PathMutateVM, admission.PathMutateVMI, admission.PathValidateVM, admission.PathValidateVMI} {
		for _, object := range []string{"null", "[]", `"x"`, "7"} {
			req := httptest.NewRequest("POST", path, strings.NewReader(strings.Replace(review, "%", object, 1)))
			req.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			var out admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Response == nil || out.Response.Allowed {
				t.Errorf("%s with object %s: %d %s", path, object, w.Code, w.Body)
			}
		}
	}
}

func decoded(t *testing.T, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// FuzzAdmission sends any object through defaults and rules: nothing may panic,
// and what is accepted must still be accepted when it is sent again.
func FuzzAdmission(f *testing.F) {
	for _, s := range []string{storedVM, storedVMI, `{}`, `{"spec":{"domain":{"cpu":{"sockets":9223372036854775807,"cores":2}}}}`} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	for _, pattern := range []string{"testdata/accepted/*.yaml", "testdata/refused/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			manifest := read(f, file)
			if data, err := yaml.YAMLToJSON(manifest); err == nil {
				f.Add(data, strings.Contains(string(manifest), "kind: VirtualMachine\n"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, isVM bool) {
		if !json.Valid(data) {
			return
		}
		kind := "VirtualMachineInstance"
		if isVM {
			kind = "VirtualMachine"
		}
		var obj map[string]any
		if err := json.Unmarshal(data, &obj); err != nil {
			return
		}
		got, _, err := newAPIServer(controller).admit(t, kind, admissionv1.Create, obj, nil)
		var r *rejected
		if errors.As(err, &r) {
			if r.text == "" {
				t.Error("refused without a word")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := newAPIServer(controller).admit(t, kind, admissionv1.Create, got, nil); err != nil {
			t.Errorf("accepted once, then refused: %v", err)
		}
	})
}
