// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi"
)

// env is a Server with a fake API server behind it.
type env struct {
	*Server
	t       *testing.T
	client  client.Client
	nodes   *fakeNodes
	url     string
	mu      sync.Mutex
	reviews []authorizationv1.SubjectAccessReviewSpec
	deny    string // reason of a refusal; "" allows
	// beforePatch runs before each patch reaches the API server.
	beforePatch func(kind string)
}

var quiet = slog.New(slog.DiscardHandler)

func newEnv(t *testing.T, objects ...client.Object) *env {
	t.Helper()
	scheme, mapper, err := knownTypes()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, nodes: &fakeNodes{}}
	for _, o := range objects {
		if o.GetUID() == "" {
			o.SetUID(types.UID("uid-of-" + o.GetName()))
		}
	}
	e.client = fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).
		WithStatusSubresource(&kubevirtv1.VirtualMachine{}).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				sar, ok := obj.(*authorizationv1.SubjectAccessReview)
				if !ok {
					return c.Create(ctx, obj, opts...)
				}
				e.mu.Lock()
				defer e.mu.Unlock()
				e.reviews = append(e.reviews, sar.Spec)
				sar.Status.Allowed, sar.Status.Reason = e.deny == "", e.deny
				return nil
			},
			Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
				e.patching("spec", obj)
				return asServer(c.Patch(ctx, obj, patch, opts...))
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				e.patching(sub, obj)
				return asServer(c.SubResource(sub).Patch(ctx, obj, patch, opts...))
			},
		}).Build()
	auth := authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		name := r.Header.Get("X-Remote-User")
		return &authenticator.Response{User: &user.DefaultInfo{Name: name, Groups: r.Header.Values("X-Remote-Group"), UID: "7", Extra: map[string][]string{"scopes": {"a"}}}}, name != "", nil
	})
	e.Server = newServer(e.client, e.nodes, auth, quiet)
	srv := httptest.NewServer(e.Server)
	t.Cleanup(func() {
		e.end()
		srv.Close()
	})
	e.url = srv.URL
	return e
}

// asServer turns a failed test into what a real API server answers.
func asServer(err error) error {
	if errors.Is(err, jsonpatch.ErrTestFailed) {
		return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return err
}

func (e *env) patching(sub string, obj client.Object) {
	if e.beforePatch != nil {
		kind := "vm"
		if _, ok := obj.(*kubevirtv1.VirtualMachineInstance); ok {
			kind = "vmi"
		}
		e.beforePatch(kind + " " + sub)
	}
}

// do sends a request as user jane to a path below the group's v1.
func (e *env) do(method, path, body string) (int, string) {
	e.t.Helper()
	if !strings.HasPrefix(path, "/") {
		path = "/apis/" + Group + "/v1/namespaces/ns/" + path
	}
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	r.Header.Set("X-Remote-User", "jane")
	r.Header.Add("X-Remote-Group", "staff")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// want checks code and, for errors, that the body is a Status with text in it.
func (e *env) want(method, path, body string, code int, text string) {
	e.t.Helper()
	got, answer := e.do(method, path, body)
	if got != code {
		e.t.Fatalf("%s %s: %d %s; want %d", method, path, got, answer, code)
	}
	if code < 300 {
		if answer != text {
			e.t.Fatalf("%s %s: body %q, want %q", method, path, answer, text)
		}
		return
	}
	var s metav1.Status
	if err := json.Unmarshal([]byte(answer), &s); err != nil {
		e.t.Fatalf("%s %s: body %q is no Status: %v", method, path, answer, err)
	}
	if s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" || int(s.Code) != code || !strings.Contains(s.Message, text) {
		e.t.Fatalf("%s %s: %s; want a message with %q", method, path, answer, text)
	}
	if len(answer) > 1024 { // websocket clients see no more
		e.t.Errorf("%s %s: the Status has %d bytes", method, path, len(answer))
	}
}

func (e *env) getVM(name string) *kubevirtv1.VirtualMachine {
	e.t.Helper()
	vm := &kubevirtv1.VirtualMachine{}
	if err := e.client.Get(e.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, vm); err != nil {
		e.t.Fatal(err)
	}
	return vm
}

func (e *env) getVMI(name string) *kubevirtv1.VirtualMachineInstance {
	e.t.Helper()
	vmi := &kubevirtv1.VirtualMachineInstance{}
	if err := e.client.Get(e.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, vmi); err != nil {
		e.t.Fatal(err)
	}
	return vmi
}

func newVM(strategy kubevirtv1.VirtualMachineRunStrategy, with ...func(*kubevirtv1.VirtualMachine)) *kubevirtv1.VirtualMachine {
	vm := &kubevirtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "vm1"}}
	vm.Spec.RunStrategy = &strategy
	vm.Status.ObservedGeneration = 1
	for _, f := range with {
		f(vm)
	}
	return vm
}

func newVMI(phase kubevirtv1.VirtualMachineInstancePhase, with ...func(*kubevirtv1.VirtualMachineInstance)) *kubevirtv1.VirtualMachineInstance {
	vmi := &kubevirtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "vm1"}}
	vmi.UID = "uid-of-vm1"
	vmi.Status.Phase = phase
	if phase == kubevirtv1.Running {
		vmi.Status.NodeName = "n1"
	}
	for _, f := range with {
		f(vmi)
	}
	return vmi
}

func condition(t kubevirtv1.VirtualMachineInstanceConditionType) func(*kubevirtv1.VirtualMachineInstance) {
	return func(vmi *kubevirtv1.VirtualMachineInstance) {
		vmi.Status.Conditions = append(vmi.Status.Conditions, kubevirtv1.VirtualMachineInstanceCondition{Type: t, Status: corev1.ConditionTrue})
	}
}

// fakeNodes records calls and answers with err.
type fakeNodes struct {
	mu     sync.Mutex
	calls  []string
	err    error
	png    []byte
	stream func() (nodeapi.Stream, error)
}

func (n *fakeNodes) call(what, node string, vmi nodeapi.VMIRef) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, what+" "+node+" "+vmi.String()+" "+string(vmi.UID))
	return n.err
}

func (n *fakeNodes) Call(_ context.Context, node string, vmi nodeapi.VMIRef, v nodeapi.Verb) error {
	return n.call(string(v), node, vmi)
}

func (n *fakeNodes) Screenshot(_ context.Context, node string, vmi nodeapi.VMIRef, move bool) ([]byte, error) {
	what := "screenshot"
	if move {
		what = "screenshot moved"
	}
	return n.png, n.call(what, node, vmi)
}

func (n *fakeNodes) Stream(_ context.Context, node string, vmi nodeapi.VMIRef, ch nodeapi.Channel, o nodeapi.StreamOptions) (nodeapi.Stream, error) {
	what := string(ch)
	if o.PreserveSession {
		what += " preserving"
	}
	if err := n.call(what, node, vmi); err != nil {
		return nil, err
	}
	return n.stream()
}
