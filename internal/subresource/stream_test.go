// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/nodeapi/nodeapitest"
)

// dial opens a websocket as user jane. On a refusal it returns code and Status.
func (e *env) dial(path string) (*websocket.Conn, int, metav1.Status) {
	e.t.Helper()
	d := websocket.Dialer{Subprotocols: []string{StreamProtocol}}
	ws, resp, err := d.DialContext(e.t.Context(), strings.Replace(e.url, "http", "ws", 1)+"/apis/"+Group+"/v1/namespaces/ns/"+path, http.Header{"X-Remote-User": {"jane"}})
	if err == nil {
		e.t.Cleanup(func() { ws.Close() })
		if ws.Subprotocol() != StreamProtocol {
			e.t.Fatalf("subprotocol %q", ws.Subprotocol())
		}
		return ws, 101, metav1.Status{}
	}
	if resp == nil {
		e.t.Fatal(err)
	}
	var s metav1.Status
	b, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(b, &s); err != nil {
		s.Message = string(b)
	}
	return nil, resp.StatusCode, s
}

// socketPair returns two connected TCP ends.
func socketPair(t *testing.T) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

func receive(t *testing.T, ws *websocket.Conn, n int) []byte {
	t.Helper()
	var got []byte
	for len(got) < n {
		kind, b, err := ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			t.Fatalf("after %d bytes: type %d, %v", len(got), kind, err)
		}
		got = append(got, b...)
	}
	return got
}

func TestStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, call string }{
		{"virtualmachineinstances/vm1/console", "console n1 ns/vm1 uid-of-vm1"},
		{"virtualmachineinstances/vm1/vnc", "vnc n1 ns/vm1 uid-of-vm1"},
		{"virtualmachineinstances/vm1/vnc?preserveSession=true", "vnc preserving n1 ns/vm1 uid-of-vm1"},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, newVMI(kubevirtv1.Running))
			mine, guest := socketPair(t)
			e.nodes.stream = func() (nodeapi.Stream, error) { return mine, nil }
			ws, code, s := e.dial(c.path)
			if code != 101 {
				t.Fatalf("%d %+v", code, s)
			}
			if d := cmp.Diff([]string{c.call}, e.nodes.calls); d != "" {
				t.Fatal(d)
			}
			// A text message is none of the payload; boundaries do not matter.
			big := bytes.Repeat([]byte("abcdefghij"), 5000)
			for _, m := range []struct {
				kind int
				data []byte
			}{{websocket.TextMessage, []byte("resize")}, {websocket.BinaryMessage, []byte("x")}, {websocket.BinaryMessage, nil}, {websocket.BinaryMessage, big}} {
				if err := ws.WriteMessage(m.kind, m.data); err != nil {
					t.Fatal(err)
				}
			}
			got := make([]byte, 1+len(big))
			if _, err := io.ReadFull(guest, got); err != nil || !bytes.Equal(got, append([]byte("x"), big...)) {
				t.Fatalf("guest got %.40q…, %v", got, err)
			}
			if _, err := guest.Write(big); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, ws, len(big)); !bytes.Equal(got, big) {
				t.Fatal("the client got something else")
			}
			// The guest ends: close code 1000.
			guest.Close()
			if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*websocket.Conn) error{
		"politely": func(ws *websocket.Conn) error {
			return ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Minute))
		},
		"rudely": func(ws *websocket.Conn) error { return ws.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, newVMI(kubevirtv1.Running))
			mine, guest := socketPair(t)
			e.nodes.stream = func() (nodeapi.Stream, error) { return mine, nil }
			ws, _, _ := e.dial("virtualmachineinstances/vm1/console")
			if err := leave(ws); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(guest); err != nil || len(b) > 0 {
				t.Fatalf("guest: %q, %v", b, err)
			}
		})
	}
}

func TestServerStops(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVMI(kubevirtv1.Running))
	mine, _ := socketPair(t)
	e.nodes.stream = func() (nodeapi.Stream, error) { return mine, nil }
	ws, _, _ := e.dial("virtualmachineinstances/vm1/console")
	e.end()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Fatalf("got %v", err)
	}
}

func TestStreamRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		code int
		text string
	}{
		{"in use", newStatus(503, metav1.StatusReasonServiceUnavailable, "vnc of ns/vm1 is in use"), 503, "in use"},
		{"agent away", errors.New("connection refused"), 503, "cannot reach the node agent on n1"},
		{"agent just started", apierrors.NewNotFound(vmiResource, "vm1"), 400, "not known to its node's agent yet"},
	} {
		e := newEnv(t, newVMI(kubevirtv1.Running))
		e.nodes.err = c.err
		_, code, s := e.dial("virtualmachineinstances/vm1/vnc?preserveSession=true")
		if code != c.code || !strings.Contains(s.Message, c.text) {
			t.Errorf("%s: %d %+v", c.name, code, s)
		}
	}
	e := newEnv(t, newVMI(kubevirtv1.Running))
	e.deny = "no"
	if _, code, s := e.dial("virtualmachineinstances/vm1/console"); code != 401 || !strings.Contains(s.Message, "jane") {
		t.Errorf("denied: %d %+v", code, s)
	}
}

func TestStreamLimit(t *testing.T) {
	t.Parallel()
	l := streamLimits{of: map[types.UID]int{}}
	var release []func()
	for range maxStreamsOfOne {
		r, err := l.acquire("a")
		if err != nil {
			t.Fatal(err)
		}
		release = append(release, r)
	}
	if _, err := l.acquire("a"); code(err) != 429 {
		t.Fatal(err)
	}
	if _, err := l.acquire("b"); err != nil {
		t.Fatal(err)
	}
	for _, r := range release {
		r()
	}
	if l.total != 1 || len(l.of) != 1 {
		t.Fatalf("%d %v", l.total, l.of)
	}
}

// Through a real agent: controller, mutual TLS, node API.
func TestThroughTheNodeAPI(t *testing.T) {
	// Not parallel: it looks at all goroutines.
	serverFiles, clientFiles := nodeapitest.Pair(t, "n1")
	guests := make(chan net.Conn, 1)
	api, err := nodeapi.NewServer(nodeapi.ServerConfig{TLS: serverFiles, Log: quiet, Backend: agentBackend{t, guests}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := nodeapi.NewClient(nodeapi.ClientConfig{TLS: clientFiles, Log: quiet, Port: ln.Addr().(*net.TCPAddr).Port,
		Address: func(context.Context, string) (string, error) { return "127.0.0.1", nil }})
	if err != nil {
		t.Fatal(err)
	}
	e := newEnv(t, newVMI(kubevirtv1.Running))
	e.Server.nodes = c
	e.want(http.MethodPut, "virtualmachineinstances/vm1/pause", "", 200, "")
	e.want(http.MethodPut, "virtualmachineinstances/vm1/reset", "", 409, "no reset today")
	e.want(http.MethodGet, "virtualmachineinstances/vm1/vnc/screenshot", "", 200, "PNG")
	ws, code, s := e.dial("virtualmachineinstances/vm1/console")
	if code != 101 {
		t.Fatalf("%d %+v", code, s)
	}
	guest := <-guests
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("ping")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(guest, got); err != nil || string(got) != "ping" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := guest.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, ws, 4); string(got) != "pong" {
		t.Fatalf("%q", got)
	}
	// A second console takes the first one's place.
	ws2, _, _ := e.dial("virtualmachineinstances/vm1/console")
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseInternalServerErr) {
		t.Fatalf("got %v", err)
	}
	ws2.Close()
	(<-guests).Close()
	eventuallyNone(t, "subresource.relay", "nodeapi.splice")
}

// eventuallyNone waits until no goroutine runs in one of the functions.
func eventuallyNone(t *testing.T, functions ...string) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		buf := make([]byte, 8<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		left := false
		for _, f := range functions {
			left = left || strings.Contains(stacks, f+"(")
		}
		if !left {
			return
		}
		select {
		case <-limit:
			t.Fatalf("goroutines are left:\n%s", stacks)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

type agentBackend struct {
	t      *testing.T
	guests chan net.Conn
}

func (b agentBackend) Console(context.Context, nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	mine, guest := net.Pipe()
	b.guests <- guest
	return mine, nil
}
func (b agentBackend) VNC(ctx context.Context, r nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	return b.Console(ctx, r)
}
func (agentBackend) Screenshot(context.Context, nodeapi.VMIRef, bool) ([]byte, error) {
	return []byte("PNG"), nil
}
func (agentBackend) Pause(context.Context, nodeapi.VMIRef) error      { return nil }
func (agentBackend) Unpause(context.Context, nodeapi.VMIRef) error    { return nil }
func (agentBackend) SoftReboot(context.Context, nodeapi.VMIRef) error { return nil }
func (agentBackend) Renew(context.Context, nodeapi.VMIRef) error      { return nil }
func (agentBackend) Reset(_ context.Context, r nodeapi.VMIRef) error {
	return apierrors.NewConflict(vmiResource, r.Name, errors.New("no reset today"))
}

// podOf is a launcher pod of newVMI with an address.
func podOf(vmi *kubevirtv1.VirtualMachineInstance, ip string, with ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "virt-launcher-vm1",
		Labels:          map[string]string{kubevirtv1.CreatedByLabel: string(vmi.UID)},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, kubevirtv1.VirtualMachineInstanceKind)},
	}}
	pod.Status.PodIPs = []corev1.PodIP{{IP: "fd00::7"}, {IP: ip}}
	for _, f := range with {
		f(pod)
	}
	return pod
}

func withAddress(ip string) func(*kubevirtv1.VirtualMachineInstance) {
	return func(vmi *kubevirtv1.VirtualMachineInstance) {
		vmi.Status.Interfaces = []kubevirtv1.VirtualMachineInstanceNetworkInterface{{Name: "default", IPAddress: ip}}
	}
}

func TestPortForwardTCP(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	created := true
	vm := newVM(always, func(vm *kubevirtv1.VirtualMachine) { vm.Status.Created = &created })
	vmi := newVMI(kubevirtv1.Running, withAddress("127.0.0.1"))
	e := newEnv(t, vm, vmi, podOf(vmi, "127.0.0.1"))
	for _, path := range []string{"virtualmachineinstances/vm1/portforward/" + port, "virtualmachines/vm1/portforward/" + port + "/tcp"} {
		ws, code, s := e.dial(path)
		if code != 101 {
			t.Fatalf("%d %+v", code, s)
		}
		if err := ws.WriteMessage(websocket.BinaryMessage, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, ws, 5); string(got) != "hello" {
			t.Fatalf("%q", got)
		}
	}
	ln.Close()
	_, code, s := e.dial("virtualmachineinstances/vm1/portforward/" + port)
	if code != 500 || !strings.Contains(s.Message, "connect to port "+port+" of ns/vm1") {
		t.Fatalf("closed port: %d %+v", code, s)
	}
}

func TestPortForwardUDP(t *testing.T) {
	t.Parallel()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(append([]byte("re:"), buf[:n]...), from)
		}
	}()
	vmi := newVMI(kubevirtv1.Running, withAddress("127.0.0.1"))
	e := newEnv(t, vmi, podOf(vmi, "127.0.0.1"))
	ws, code, s := e.dial("virtualmachineinstances/vm1/portforward/" + strconv.Itoa(pc.LocalAddr().(*net.UDPAddr).Port) + "/udp")
	if code != 101 {
		t.Fatalf("%d %+v", code, s)
	}
	for _, m := range []string{"a", strings.Repeat("b", 20000)} { // one message, one datagram
		if err := ws.WriteMessage(websocket.BinaryMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != "re:"+m {
			t.Fatalf("%.20q %v", got, err)
		}
	}
}

// A guest or a user who writes another address into the status gets nowhere.
func TestPortForwardOnlyToThePod(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ip  string
		pod func(*kubevirtv1.VirtualMachineInstance) *corev1.Pod
	}{
		"another address": {"169.254.169.254", func(v *kubevirtv1.VirtualMachineInstance) *corev1.Pod { return podOf(v, "10.42.0.9") }},
		"no address":      {"kubernetes.default", func(v *kubevirtv1.VirtualMachineInstance) *corev1.Pod { return podOf(v, "10.42.0.9") }},
		"pod of somebody else": {"10.42.0.9", func(v *kubevirtv1.VirtualMachineInstance) *corev1.Pod {
			return podOf(v, "10.42.0.9", func(p *corev1.Pod) { p.OwnerReferences[0].UID = "other" })
		}},
		"pod on the host's network": {"10.0.0.1", func(v *kubevirtv1.VirtualMachineInstance) *corev1.Pod {
			return podOf(v, "10.0.0.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
		}},
		"pod of another namespace": {"10.42.0.9", func(v *kubevirtv1.VirtualMachineInstance) *corev1.Pod {
			return podOf(v, "10.42.0.9", func(p *corev1.Pod) { p.Namespace = "other" })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vmi := newVMI(kubevirtv1.Running, withAddress(c.ip))
			e := newEnv(t, vmi, c.pod(vmi))
			_, code, s := e.dial("virtualmachineinstances/vm1/portforward/80")
			if code != 409 || !strings.Contains(s.Message, "status.interfaces[0].ipAddress") {
				t.Fatalf("%d %+v", code, s)
			}
		})
	}
}

func TestPortForwardOfStoppedVM(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(halted))
	e.want(http.MethodGet, "virtualmachines/vm1/portforward/22", "", 409, "VM is not running")
	e.want(http.MethodGet, "virtualmachines/vm2/portforward/22", "", 404, "vm2")
}
