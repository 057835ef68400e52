// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Images of the tests, built from test/guest.
const (
	tinyKernelImage = "skerry.dev/test/tiny-kernel:latest"
	tinyImage       = "skerry.dev/test/tiny:latest"
	debianImage     = "skerry.dev/test/debian:latest"
	toolsImage      = "skerry.dev/test/tools:latest"
)

func ptr[T any](v T) *T { return &v }

// tinyVM is the smallest machine: a kernel and an initramfs, no disk, one NIC on
// the pod network behind masquerade.
func tinyVM(namespace, name string) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{}
	vm.Namespace, vm.Name = namespace, name
	vm.Spec.RunStrategy = ptr(v1.RunStrategyAlways)
	t := &vm.Spec.Template
	t.ObjectMeta = metav1.ObjectMeta{Labels: map[string]string{"app": name}}
	t.Spec = v1.VirtualMachineInstanceSpec{
		TerminationGracePeriodSeconds: ptr(int64(20)),
		Domain: v1.DomainSpec{
			Memory: &v1.Memory{Guest: ptr(resource.MustParse("128Mi"))},
			Firmware: &v1.Firmware{KernelBoot: &v1.KernelBoot{
				KernelArgs: "console=ttyS0 quiet cryptomgr.notests no_timer_check skerry.heartbeat=off",
				Container: &v1.KernelBootContainer{
					Image: tinyKernelImage, KernelPath: "/boot/vmlinux", InitrdPath: "/boot/initrd",
					ImagePullPolicy: corev1.PullIfNotPresent,
				},
			}},
			Devices: v1.Devices{
				Interfaces: []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}},
			},
		},
		Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}},
	}
	return vm
}

// create makes the objects; they go with their namespace.
func create(t *testing.T, objs ...client.Object) {
	t.Helper()
	for _, o := range objs {
		if err := shared.Client.Create(t.Context(), o); err != nil {
			t.Fatalf("create %T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
		}
	}
}

// vmiWhen waits until the instance is as wanted and returns it.
func vmiWhen(t *testing.T, namespace, name, what string, ok func(*v1.VirtualMachineInstance) bool) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	waitFor(t, fmt.Sprintf("instance %s/%s to be %s", namespace, name, what), func() (bool, string) {
		vmi = &v1.VirtualMachineInstance{}
		if err := shared.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, vmi); err != nil {
			return false, err.Error()
		}
		return ok(vmi), fmt.Sprintf("phase %q, conditions %+v", vmi.Status.Phase, vmi.Status.Conditions)
	})
	return vmi
}

func running(t *testing.T, namespace, name string) *v1.VirtualMachineInstance {
	t.Helper()
	return vmiWhen(t, namespace, name, "Running", func(v *v1.VirtualMachineInstance) bool { return v.Status.Phase == v1.Running })
}

// podOf returns the one live pod of an instance.
func podOf(t *testing.T, vmi *v1.VirtualMachineInstance) *corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	if err := shared.Client.List(t.Context(), pods, client.InNamespace(vmi.Namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)}); err != nil {
		t.Fatalf("list pods of %s: %v", vmi.Name, err)
	}
	if len(pods.Items) != 1 {
		t.Fatalf("instance %s has %d pods, want 1", vmi.Name, len(pods.Items))
	}
	return &pods.Items[0]
}

// podLog is what `kubectl logs` shows.
func podLog(ctx context.Context, namespace, pod string) (string, error) {
	c, err := kubernetes.NewForConfig(shared.REST)
	if err != nil {
		return "", err
	}
	b, err := c.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(ctx)
	return string(b), err
}

// logContains waits until `kubectl logs` of the machine's pod matches.
func logContains(t *testing.T, vmi *v1.VirtualMachineInstance, re string) string {
	t.Helper()
	r := regexp.MustCompile(re)
	pod := podOf(t, vmi)
	var log string
	waitFor(t, fmt.Sprintf("the log of pod %s to match %q", pod.Name, re), func() (bool, string) {
		var err error
		log, err = podLog(t.Context(), pod.Namespace, pod.Name)
		if err != nil {
			return false, err.Error()
		}
		return r.MatchString(log), tail(log, 600)
	})
	return log
}

func tail(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}

// console is a session on a guest's serial console, over the aggregated API as
// virtctl does it.
type console struct {
	t    *testing.T
	conn *websocket.Conn
	mu   sync.Mutex
	seen bytes.Buffer
	err  error
	n    int
}

// stream opens one of the websocket subresources as cfg's user.
func stream(ctx context.Context, cfg *rest.Config, namespace, name, sub string) (*websocket.Conn, *http.Response, error) {
	tls, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	d := websocket.Dialer{TLSClientConfig: tls, Subprotocols: []string{"plain.kubevirt.io"}, HandshakeTimeout: time.Minute}
	url := strings.Replace(cfg.Host, "https://", "wss://", 1) +
		fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/%s", namespace, name, sub)
	h := http.Header{}
	if cfg.Impersonate.UserName != "" {
		h.Set("Impersonate-User", cfg.Impersonate.UserName)
	}
	return d.DialContext(ctx, url, h)
}

func openConsole(t *testing.T, namespace, name string) *console {
	t.Helper()
	c := &console{t: t}
	waitFor(t, "the console of "+name, func() (bool, string) {
		conn, resp, err := stream(t.Context(), shared.REST, namespace, name, "console")
		if err != nil {
			if resp != nil {
				b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
				return false, fmt.Sprintf("%v: %s", err, b)
			}
			return false, err.Error()
		}
		c.conn = conn
		return true, ""
	})
	go func() {
		for {
			_, b, err := c.conn.ReadMessage()
			c.mu.Lock()
			c.seen.Write(b)
			c.err = err
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { c.conn.Close() })
	return c
}

func (c *console) text() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.String(), c.err
}

func (c *console) send(s string) {
	c.t.Helper()
	if err := c.conn.WriteMessage(websocket.BinaryMessage, []byte(s)); err != nil {
		c.t.Fatalf("write to the console: %v", err)
	}
}

// run types a command into the tiny guest's shell and returns what it printed.
// It is typed again when nothing comes back, since a guest that is still booting
// drops input.
func (c *console) run(command string) string {
	c.t.Helper()
	c.n++
	// The shell joins the quoted halves, so that the echo of what was typed is
	// never taken for the answer.
	begin, end := fmt.Sprintf("<<%d:", c.n), fmt.Sprintf(":%d>>", c.n)
	typed := fmt.Sprintf("\necho '<<''%d:'; %s; echo ':%d''>>'\n", c.n, command, c.n)
	var answer string
	next := time.Now()
	waitFor(c.t, fmt.Sprintf("the guest to answer %q", command), func() (bool, string) {
		all, err := c.text()
		if _, rest, ok := strings.Cut(all, begin); ok {
			if a, _, ok := strings.Cut(rest, end); ok {
				answer = strings.TrimSpace(strings.ReplaceAll(a, "\r", ""))
				return true, ""
			}
			if err == nil {
				return false, tail(all, 300) // it answers: give it time
			}
		}
		if err != nil {
			c.t.Fatalf("the console closed while %q ran: %v; last: %s", command, err, tail(all, 300))
		}
		if time.Now().After(next) {
			c.send(typed)
			next = time.Now().Add(10 * time.Second)
		}
		return false, tail(all, 300)
	})
	return answer
}

// uptime is the guest's own, in seconds.
func (c *console) uptime() float64 {
	c.t.Helper()
	f := strings.Fields(c.run("cat /proc/uptime"))
	if len(f) == 0 {
		c.t.Fatal("the guest printed no uptime")
	}
	up, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		c.t.Fatalf("the guest's uptime: %v", err)
	}
	return up
}

// toolsPod is an ordinary container that serves its name over HTTP.
func toolsPod(namespace, name string) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name = namespace, name
	p.Labels = map[string]string{"app": name}
	p.Spec.TerminationGracePeriodSeconds = ptr(int64(0))
	p.Spec.Containers = []corev1.Container{{
		Name: "tools", Image: toolsImage, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"/bin/sh", "-c", "mkdir -p /tmp/www && echo pod-" + name + " > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"},
	}}
	return p
}

// service makes a ClusterIP Service for the pods labelled app=name.
func service(namespace, name string, port int32) *corev1.Service {
	s := &corev1.Service{}
	s.Namespace, s.Name = namespace, name
	s.Spec.Selector = map[string]string{"app": name}
	s.Spec.Ports = []corev1.ServicePort{{Port: port}}
	return s
}

// exec runs a command in a pod by kubectl.
func podExec(t *testing.T, namespace, pod string, command ...string) (string, error) {
	t.Helper()
	return shared.Kubectl(t.Context(), append([]string{"-n", namespace, "exec", pod, "--"}, command...)...)
}
