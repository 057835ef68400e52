// SPDX-License-Identifier: Apache-2.0

package nodeapi_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/skerry-dev/skerry/internal/nodeapi"
)

func TestCalls(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, v := range []nodeapi.Verb{nodeapi.Pause, nodeapi.Unpause, nodeapi.SoftReboot, nodeapi.Reset, nodeapi.Renew} {
		if err := a.client.Call(t.Context(), node, vmi, v); err != nil {
			t.Fatalf("%s: %v", v, err)
		}
	}
	a.png = bytes.Repeat([]byte{1, 2, 3}, 100_000)
	png, err := a.client.Screenshot(t.Context(), node, vmi, true)
	if err != nil || !bytes.Equal(png, a.png) {
		t.Fatalf("screenshot: %d bytes, %v", len(png), err)
	}
	suffix := " default/vm1 " + string(vmi.UID)
	want := []string{"pause" + suffix, "unpause" + suffix, "softreboot" + suffix, "reset" + suffix, "renew" + suffix, "screenshot moved" + suffix}
	if d := cmp.Diff(want, a.calls); d != "" {
		t.Fatal(d)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	t.Parallel()
	vmis := schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachineinstances"}
	for _, c := range []struct {
		name string
		err  error
		code int32
		text string
	}{
		{"status", apierrors.NewConflict(vmis, "vm1", errBoom), 409, "boom"},
		{"wrapped status", errors.Join(errors.New("x"), apierrors.NewBadRequest("not running")), 400, "not running"},
		{"not found", apierrors.NewNotFound(vmis, "vm1"), 404, "vm1"},
		{"plain", errBoom, 500, "boom"},
		{"credentials are the server's affair", apierrors.NewUnauthorized("who are you"), 500, "who are you"},
		{"nonsense code", &apierrors.StatusError{ErrStatus: metav1.Status{Code: 200, Message: "fine"}}, 500, "fine"},
		{"long text", errors.New(strings.Repeat("x", 100_000)), 500, "xxx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			a.err = c.err
			check := func(err error) {
				t.Helper()
				var s apierrors.APIStatus
				if !errors.As(err, &s) {
					t.Fatalf("no status: %v", err)
				}
				if s.Status().Code != c.code || !strings.Contains(s.Status().Message, c.text) || len(s.Status().Message) > 4096 {
					t.Fatalf("got %d %.200q", s.Status().Code, s.Status().Message)
				}
			}
			check(a.client.Call(t.Context(), node, vmi, nodeapi.Pause))
			_, err := a.client.Screenshot(t.Context(), node, vmi, false)
			check(err)
			_, err = a.client.Stream(t.Context(), node, vmi, nodeapi.Console, nodeapi.StreamOptions{})
			check(err)
		})
	}
}

func TestUnreachableIsNoStatus(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	err := a.client.Call(t.Context(), node, vmi, nodeapi.Pause)
	var s apierrors.APIStatus
	if err == nil || errors.As(err, &s) || !strings.Contains(err.Error(), node) {
		t.Fatalf("got %v", err)
	}
}

func TestCancelledCall(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.client.Call(ctx, node, vmi, nodeapi.Pause); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestRefValidation(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, bad := range []nodeapi.VMIRef{
		{Namespace: "", Name: "a", UID: "u"},
		{Namespace: "a/b", Name: "a", UID: "u"},
		{Namespace: "a", Name: "../x", UID: "u"},
		{Namespace: "a", Name: "A", UID: "u"},
		{Namespace: "a", Name: "a", UID: ""},
		{Namespace: "a", Name: "a", UID: "u/pause"},
		{Namespace: "a", Name: "a", UID: "x\n"},
	} {
		if err := a.client.Call(t.Context(), node, bad, nodeapi.Pause); err == nil {
			t.Errorf("%#v accepted", bad)
		}
	}
	if len(a.calls) != 0 {
		t.Fatal(a.calls)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var s apierrors.APIStatus
	err := a.client.Call(t.Context(), node, vmi, "explode")
	if !errors.As(err, &s) || s.Status().Code != http.StatusBadRequest {
		t.Errorf("verb: %v", err)
	}
	_, err = a.client.Stream(t.Context(), node, vmi, "keyboard", nodeapi.StreamOptions{})
	if !errors.As(err, &s) || s.Status().Code != http.StatusBadRequest {
		t.Errorf("channel: %v", err)
	}
	err = a.client.Call(t.Context(), node, vmi, "pause/now")
	if !errors.As(err, &s) || s.Status().Code != http.StatusNotFound {
		t.Errorf("path: %v", err)
	}
}

func TestInternalIP(t *testing.T) {
	t.Parallel()
	nodes := fake.NewClientBuilder().WithObjects(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "a"}, {Type: corev1.NodeInternalIP, Address: "fd00::1"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}},
	).Build()
	find := nodeapi.InternalIP(nodes)
	if got, err := find(t.Context(), "a"); err != nil || got != "fd00::1" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"b", "c"} {
		if _, err := find(t.Context(), name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
