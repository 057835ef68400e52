// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// The pods' volumes as the pod sees them.
const (
	inRun  = "/run/skerry/"
	inLog  = "/run/skerry-log/"
	inDisk = "/var/lib/skerry-disks/"
)

// breakIn puts the attacker's program into a machine's pod.
func breakIn(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	dir := filepath.Join(shared.DataDir, "kubelet", "pods", string(pod.UID), "volumes", "kubernetes.io~empty-dir", "disks")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, hostileName), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// attacks has the attacker do one thing and waits for its end.
func attacks(t *testing.T, pod *corev1.Pod, args ...string) {
	t.Helper()
	out, err := podExec(t, pod.Namespace, pod.Name, append([]string{inDisk + hostileName}, args...)...)
	if err != nil || !strings.Contains(out, "done") {
		t.Fatalf("hostile %v: %v %s", args, err, out)
	}
}

// attacking has the attacker do one thing until the test ends, and waits until it does.
func attacking(t *testing.T, pod *corev1.Pod, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, filepath.Join(shared.Bin, "skerry"), append([]string{
		"kubectl", "--kubeconfig", shared.Kubeconfig(), "-n", pod.Namespace, "exec", "-i", pod.Name, "--", inDisk + hostileName}, args...)...)
	stdin, err := cmd.StdinPipe() // its end is the end of "eat"
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cancel()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("hostile %v: %q, %v", args, line, err)
	}
}

// hijack has every machine's pod in the namespace be a shell that waits in the
// launcher's place: whoever attacks from there has all the time in the world.
func hijack(t *testing.T, ns string) {
	t.Helper()
	p := &admissionv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	fail, once := admissionv1.Fail, admissionv1.NeverReinvocationPolicy
	p.Spec = admissionv1.MutatingAdmissionPolicySpec{
		FailurePolicy: &fail, ReinvocationPolicy: once,
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}}}},
		Mutations: []admissionv1.Mutation{{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: fmt.Sprintf(`[
			JSONPatch{op: "replace", path: "/spec/containers/0/image", value: %q},
			JSONPatch{op: "add", path: "/spec/containers/0/command", value: ["/bin/sh", "-c", "trap exit TERM; while :; do sleep 1; done"]},
			JSONPatch{op: "add", path: "/metadata/annotations/hijacked", value: "yes"},
			JSONPatch{op: "add", path: "/spec/containers/0/lifecycle", value: Object.spec.containers.lifecycle{}}
		]`, toolsImage)}}},
	}
	b := &admissionv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	b.Spec = admissionv1.MutatingAdmissionPolicyBindingSpec{
		PolicyName:     ns,
		MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}}},
	}
	for _, o := range []client.Object{p, b} {
		create(t, o)
		t.Cleanup(func() {
			if err := shared.Client.Delete(context.Background(), o); err != nil {
				t.Errorf("delete policy %s: %v", ns, err)
			}
		})
	}
	waitFor(t, "the policy to be enforced", func() (bool, string) {
		try := toolsPod(ns, "try")
		try.Annotations = map[string]string{"a": "b"}
		err := shared.Client.Create(t.Context(), try, client.DryRunAll)
		return err == nil && try.Annotations["hijacked"] == "yes", fmt.Sprint(err, try.Annotations)
	})
}

// hijacked makes a machine whose pod is the attacker's from the start.
func hijacked(t *testing.T, ns, name string) (*v1.VirtualMachineInstance, *corev1.Pod) {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{Spec: tinyVM(ns, name).Spec.Template.Spec}
	vmi.Namespace, vmi.Name = ns, name
	vmi.Spec.TerminationGracePeriodSeconds = ptr(int64(0))
	create(t, vmi)
	var pod *corev1.Pod
	waitFor(t, "the attacker's pod of "+name, func() (bool, string) {
		pods := &corev1.PodList{}
		err := shared.Client.List(t.Context(), pods, client.InNamespace(ns), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)})
		if err != nil || len(pods.Items) != 1 {
			return false, fmt.Sprint(err, len(pods.Items))
		}
		pod = &pods.Items[0]
		return pod.Status.Phase == corev1.PodRunning, string(pod.Status.Phase)
	})
	breakIn(t, pod)
	return vmi, pod
}

// Whoever has broken out of a guest has the pod's sockets and files. Whatever it
// makes of them, the agent neither follows it out of the pod nor waits for it nor
// believes it, says so, and serves the machine beside it. One machine per trick.
func TestHostilePod(t *testing.T) {
	t.Parallel()
	ns, good := namespace(t), namespace(t)
	create(t, tinyVM(good, "good"))
	hijack(t, ns)
	logContains(t, running(t, good, "good"), `SKERRY-GUEST READY`)
	neighbour := openConsole(t, good, "good")
	neighbour.run("true")

	secret := filepath.Join(shared.DataDir, "host-secret")
	const secretText = "only the host's root may read this"
	if err := os.WriteFile(secret, []byte(secretText), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(secret) })
	// The container runtime's socket, which answers HTTP/2 to whoever connects.
	runtime := filepath.Join(shared.RunDir, "containerd.sock")

	type trick struct {
		name   string
		before func(t *testing.T, pod *corev1.Pod)
		says   string // part of the condition Synchronized=False
	}
	serves := func(what, socket string) func(*testing.T, *corev1.Pod) {
		return func(t *testing.T, pod *corev1.Pod) { attacking(t, pod, "serve", what, inRun+socket) }
	}
	puts := func(args ...string) func(*testing.T, *corev1.Pod) {
		return func(t *testing.T, pod *corev1.Pod) { attacks(t, pod, args...) }
	}
	t.Run("before it starts", func(t *testing.T) {
		for _, c := range []trick{
			// CVE-2025-64437: the launcher's socket is a symbolic link to one of the host's.
			{"launcher-link", puts("link", runtime, inRun+"launcher.sock"), "symbolic link"},
			{"launcher-fifo", puts("fifo", inRun+"launcher.sock"), "FIFO instead of a socket"},
			{"launcher-nonsense", serves("nonsense", "launcher.sock"), "the launcher's greeting"},
			{"launcher-line", serves("line", "launcher.sock"), "the launcher's greeting"},
			{"launcher-silence", serves("silence", "launcher.sock"), "the launcher's greeting"},
			{"monitor-link", puts("link", runtime, inRun+"qmp.sock"), "symbolic link"},
			{"monitor-dir", puts("dir", inRun+"qmp.sock"), "directory instead of a socket"},
			{"monitor-nonsense", serves("nonsense", "qmp.sock"), "QMP handshake"},
			{"monitor-line", serves("line", "qmp.sock"), "QMP handshake"},
			{"monitor-silence", serves("silence", "qmp.sock"), "QMP handshake"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				vmi, pod := hijacked(t, ns, c.name)
				c.before(t, pod)
				vmiWhen(t, ns, vmi.Name, "in trouble for "+c.says, func(v *v1.VirtualMachineInstance) bool {
					s := v.Status.Condition(v1.VMISynchronized)
					return s != nil && s.Status == corev1.ConditionFalse && strings.Contains(s.Message, c.says)
				})
			})
		}
		// One that runs, as far as the agent can know.
		t.Run("running", func(t *testing.T) {
			t.Parallel()
			vmi, pod := hijacked(t, ns, "running")
			// CVE-2026-7374: the console's socket leads to the container runtime's.
			// GHSA-qw6q-3pgr-5cwq: links in a volume's file system lead to the host's files.
			attacks(t, pod, "link", runtime, inRun+"serial0.sock", inRun+"guest-agent.sock")
			attacks(t, pod, "fifo", inRun+"vnc.sock")
			attacks(t, pod, "link", secret, inLog+"console.log")
			attacking(t, pod, "serve", "monitor", inRun+"qmp.sock")
			running(t, ns, vmi.Name)
			for sub, want := range map[string]string{"console": "symbolic link", "vnc": "FIFO instead of a socket"} {
				conn, resp, err := stream(t.Context(), shared.REST, ns, vmi.Name, sub)
				if err == nil {
					conn.Close()
					t.Errorf("the %s was opened", sub)
				} else if got := status(resp); !strings.Contains(got, want) {
					t.Errorf("%s: %s, want a refusal that says %q", sub, got, want)
				}
			}
			if log, err := podLogOf(t, pod); err != nil || strings.Contains(log, secretText) {
				t.Errorf("the pod's log: %v %q", err, log)
			}
		})
		// One whose monitor tells another state as often as it can.
		t.Run("flood", func(t *testing.T) {
			t.Parallel()
			vmi, pod := hijacked(t, ns, "flood")
			writes := countWrites(t, vmi)
			attacking(t, pod, "serve", "events", inRun+"qmp.sock")
			running(t, ns, vmi.Name)
			// The neighbour's console answers a good many times meanwhile.
			for range 20 {
				neighbour.run("true")
			}
			// At once at most 20 writes, and then one each three seconds.
			if n, since := writes(); n > 40+int(since.Seconds()/3) {
				t.Errorf("the instance was written %d times in %v", n, since)
			}
		})
	})
	if b, err := os.ReadFile(secret); err != nil || string(b) != secretText {
		t.Errorf("the host's file is now %q, %v", b, err)
	}
	if got := neighbour.run("echo $((6 * 7))"); got != "42" {
		t.Errorf("the neighbour's console says %q", got)
	}
}

func podLogOf(t *testing.T, pod *corev1.Pod) (string, error) {
	t.Helper()
	return podLog(t.Context(), pod.Namespace, pod.Name)
}

// countWrites counts the versions of an instance from now on.
func countWrites(t *testing.T, vmi *v1.VirtualMachineInstance) func() (int, time.Duration) {
	t.Helper()
	w, err := shared.Client.Watch(t.Context(), &v1.VirtualMachineInstanceList{}, client.InNamespace(vmi.Namespace), client.MatchingFields{"metadata.name": vmi.Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	var mu sync.Mutex
	seen, since := map[string]bool{}, time.Now()
	go func() {
		for e := range w.ResultChan() {
			if o, ok := e.Object.(client.Object); ok {
				mu.Lock()
				seen[o.GetResourceVersion()] = true
				mu.Unlock()
			}
		}
	}()
	return func() (int, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		return len(seen), time.Since(since)
	}
}
