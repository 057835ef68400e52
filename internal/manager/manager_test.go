// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// certificate writes a self-signed certificate for 127.0.0.1 and its key.
func certificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func answer(w http.ResponseWriter, v any) {
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// emptyAPI is an API server with nothing in it.
func emptyAPI(t *testing.T) *rest.Config {
	t.Helper()
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		kinds := map[string]string{"pods": "PodList", "nodes": "NodeList", "virtualmachines": "VirtualMachineList", "virtualmachineinstances": "VirtualMachineInstanceList",
			"configmaps": "ConfigMapList", "persistentvolumeclaims": "PersistentVolumeClaimList", "enhancedvirtualmachines": "EnhancedVirtualMachineList"}
		version := "v1"
		switch {
		case strings.Contains(r.URL.Path, "/mececs.io/"):
			version = "mececs.io/v1beta1"
		case strings.Contains(r.URL.Path, "/kubevirt.io/"):
			version = "kubevirt.io/v1"
		case strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata"):
			version = "meta.k8s.io/v1"
			kinds["persistentvolumeclaims"] = "PartialObjectMetadataList"
		}
		kind, ok := kinds[parts[len(parts)-1]]
		switch {
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			answer(w, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404})
		case r.URL.Query().Get("watch") != "":
			if r.URL.Query().Get("sendInitialEvents") == "true" { // the watch starts with the list, which is empty
				answer(w, map[string]any{"type": "BOOKMARK", "object": map[string]any{
					"apiVersion": version, "kind": strings.TrimSuffix(kind, "List"),
					"metadata": map[string]any{"resourceVersion": "1", "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}},
				}})
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		default:
			answer(w, map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}})
		}
	}))
	t.Cleanup(func() { close(stop); srv.Close() })
	return &rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func config(t *testing.T, address string) Config {
	t.Helper()
	cert, key := certificate(t, t.TempDir(), 1)
	return Config{
		REST: emptyAPI(t), LauncherImage: "launcher:1", ListenAddress: address, TLSCertFile: cert, TLSKeyFile: key,
		NodeClientCertFile: cert, NodeClientKeyFile: key, NodeCAFile: cert,
	}
}

// free is an address that nothing listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}, Timeout: 10 * time.Second}
}

// eventually asks until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	c := config(t, free(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()

	serial := int64(0)
	get := func(path string) int {
		resp, err := insecure().Get("https://" + c.ListenAddress + path)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		serial = resp.TLS.PeerCertificates[0].SerialNumber.Int64()
		return resp.StatusCode
	}
	eventually(t, "ready", func() bool {
		select {
		case err := <-done:
			t.Fatalf("ended: %v", err)
		default:
		}
		return get("/readyz") == http.StatusOK
	})
	if got := get("/livez"); got != http.StatusOK {
		t.Errorf("livez: %d", got)
	}
	// The webhooks are there, and take reviews alone.
	resp, err := insecure().Post("https://"+c.ListenAddress+"/mutate-vmi", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an empty review: %d", resp.StatusCode)
	}
	// So is the aggregated API, and lets nobody in whom the aggregator did not send.
	if got := get("/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/web/start"); got == http.StatusOK || got == http.StatusNotFound || got == 0 {
		t.Errorf("a subresource without credentials: %d", got)
	}
	// A new certificate is served without a restart.
	certificate(t, filepath.Dir(c.TLSCertFile), 2)
	eventually(t, "the new certificate", func() bool { return get("/livez") == http.StatusOK && serial == 2 })

	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	if got := get("/livez"); got != 0 {
		t.Errorf("still serving: %d", got)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), config(t, l.Addr().String()))
	if err == nil || !strings.Contains(err.Error(), "listen for webhooks and subresources") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v", err)
	}
}

func TestNoCertificate(t *testing.T) {
	t.Parallel()
	c := config(t, free(t))
	c.TLSCertFile = filepath.Join(t.TempDir(), "missing.crt")
	if err := Run(t.Context(), c); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "missing.crt") {
		t.Errorf("error %v", err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := Config{ListenAddress: "8443", LauncherPullPolicy: "Sometimes", NodeAgentPort: -1}.complete()
	for _, want := range []string{"REST: required", "LauncherImage: required", "TLSCertFile: required", "NodeCAFile: required", `ListenAddress: "8443"`, `"Sometimes"`, "NodeAgentPort: -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	c, err := config(t, "0.0.0.0:8443").complete()
	if err != nil || c.Namespace != "skerry-system" || c.NodeAgentPort != 8187 || c.MetricsAddress != "0" {
		t.Errorf("defaults %+v, error %v", c, err)
	}
}

func TestStripNode(t *testing.T) {
	t.Parallel()
	full := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{v1.SchedulableLabel: "true"}, Annotations: map[string]string{"big": "x"}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{v1.KVMResource: resource.MustParse("1k"), corev1.ResourceCPU: resource.MustParse("4")},
			Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: v1.VirtualizationCondition, Status: corev1.ConditionTrue, Message: "x"}},
			Images:      []corev1.ContainerImage{{Names: []string{"x"}}},
		},
	}
	obj, err := stripNode(full)
	if err != nil {
		t.Fatal(err)
	}
	n := obj.(*corev1.Node)
	if n.Labels[v1.SchedulableLabel] != "true" || len(n.Status.Allocatable) != 1 || len(n.Status.Addresses) != 1 ||
		len(n.Status.Conditions) != 1 || n.Status.Conditions[0].Type != v1.VirtualizationCondition || n.Annotations != nil || n.Status.Images != nil {
		t.Errorf("node %+v", n)
	}
}

func TestStripMachineAndInstance(t *testing.T) {
	t.Parallel()
	meta := func() metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Name: "a", Annotations: map[string]string{lastApplied: "{}", "mine": "kept"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		}
	}
	vm := &v1.VirtualMachine{ObjectMeta: meta()}
	vm.Status.Conditions = []v1.VirtualMachineCondition{{Type: v1.VMReady, Status: corev1.ConditionTrue, Message: "text"}}
	vmi := &v1.VirtualMachineInstance{ObjectMeta: meta()}
	vmi.Spec.Domain.Firmware = &v1.Firmware{KernelBoot: &v1.KernelBoot{KernelArgs: "quiet"}}
	vmi.Status.Phase = v1.Running
	wantVM, wantVMI := vm.DeepCopy(), vmi.DeepCopy()
	for _, m := range []*metav1.ObjectMeta{&wantVM.ObjectMeta, &wantVMI.ObjectMeta} {
		m.ManagedFields, m.Annotations = nil, map[string]string{"mine": "kept"}
	}
	gotVM, err1 := stripMachine(vm)
	gotVMI, err2 := stripInstance(vmi)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	// All the rest is as it was.
	if diff := cmp.Diff(wantVM, gotVM); diff != "" {
		t.Errorf("machine (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantVMI, gotVMI); diff != "" {
		t.Errorf("instance (-want +got):\n%s", diff)
	}
}
