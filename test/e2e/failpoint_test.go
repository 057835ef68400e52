// SPDX-License-Identifier: Apache-2.0

//go:build e2e && failpoints

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/failpoint/arm"
)

// These tests run by hack/failpoints.sh, on a node of the build with failpoints.
// They take the API away from each other, so none of them is parallel.

// injector arms failpoints on the shared node and starts skerry again where they
// have killed it.
type injector struct {
	t   *testing.T
	dir arm.Dir
	// excused is how many hits have excused a start that failed.
	excused int
}

func newInjector(t *testing.T) *injector {
	t.Helper()
	path := os.Getenv(failpoint.Environment)
	if path == "" {
		t.Fatal(failpoint.Environment + " is not set: run this by hack/failpoints.sh")
	}
	dir, err := arm.Make(path)
	if err == nil {
		err = dir.Clear()
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &injector{t: t, dir: dir}
	t.Cleanup(func() {
		if err := dir.Clear(); err != nil {
			t.Error(err)
		}
		if !skerryRuns() {
			if err := up(shared); err != nil { // for the next test
				t.Errorf("skerry up at the end: %v", err)
			}
		}
	})
	return f
}

// launcherPolicy has the API server add the failpoints' directory to machines'
// pods. It takes nothing of the tests into the product.
var launcherPolicy = template.Must(template.New("").Parse(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: failpoints}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"]}
  matchConditions:
  - {name: machines, expression: "object.metadata.?labels['kubevirt.io'].orValue('') == 'virt-launcher' || object.metadata.?labels['failpoints'].orValue('') == 'probe'"}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{name: "failpoints",
           hostPath: Object.spec.volumes.hostPath{path: "{{.Dir}}", type: "Directory"}}},
         JSONPatch{op: "add", path: "/spec/containers/0/volumeMounts/-", value: Object.spec.containers.volumeMounts{name: "failpoints", mountPath: "{{.Dir}}"}},
         JSONPatch{op: "add", path: "/spec/containers/0/env", value: [Object.spec.containers.env{name: "{{.Variable}}", value: "{{.Dir}}"}]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: failpoints}
spec: {policyName: failpoints}
`))

// reachLaunchers lets launchers find the failpoints and waits until that works:
// the API server takes a policy up a little after it was made.
func (f *injector) reachLaunchers() {
	f.t.Helper()
	var b bytes.Buffer
	if err := launcherPolicy.Execute(&b, map[string]string{"Dir": string(f.dir), "Variable": failpoint.Environment}); err != nil {
		f.t.Fatal(err)
	}
	file := filepath.Join(f.t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if out, err := shared.Kubectl(f.t.Context(), "apply", "--server-side", "-f", file); err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	ns := namespace(f.t)
	waitFor(f.t, "the policy for launchers to be in force", func() (bool, string) {
		p := toolsPod(ns, "probe")
		p.Labels["failpoints"] = "probe"
		p.Spec.Volumes = []corev1.Volume{{Name: "x", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/x"}}
		err := shared.Client.Create(f.t.Context(), p, client.DryRunAll)
		return err == nil && len(p.Spec.Containers[0].Env) == 1, fmt.Sprint(err, p.Spec.Containers[0].Env)
	})
}

// skerryRuns tells whether the process that holds the cluster's lock lives.
func skerryRuns() bool {
	pid, err := shared.PID()
	return err == nil && lives(pid)
}

func lives(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ") && !strings.Contains(string(stat), ") X ")
}

// until waits for a condition and starts skerry again when a failpoint kills it.
func (f *injector) until(what string, done func() (bool, string)) {
	f.t.Helper()
	waitFor(f.t, what, func() (bool, string) {
		f.t.Helper()
		f.revive()
		return done()
	})
}

// revive starts skerry if it is dead. A failpoint may kill the start as well: then
// it is started again, once for each hit. A start that ends by itself is started
// again by its supervisor, which is this test here; it must not do so for ever.
func (f *injector) revive() {
	f.t.Helper()
	for byItself := 0; !skerryRuns(); {
		err := up(shared)
		switch n := f.hits(); {
		case err == nil:
		case n > f.excused:
			f.excused = n
		case byItself < 2:
			byItself++
			f.t.Logf("skerry's start ended although no failpoint was hit: %v", err)
		default:
			f.t.Fatalf("skerry does not start although no failpoint was hit: %v", err)
		}
	}
}

func (f *injector) hits() int {
	f.t.Helper()
	all, err := f.dir.Hits()
	if err != nil {
		f.t.Fatal(err)
	}
	return len(all)
}

// arm has each of the places kill its process once.
func (f *injector) arm(points []string) {
	f.t.Helper()
	for _, p := range points {
		if err := f.dir.Arm(p, "crash"); err != nil {
			f.t.Fatal(err)
		}
	}
}

// settle takes back what was not hit and waits until skerry runs in spite of what
// was. It returns the places that were hit.
func (f *injector) settle() map[string]bool {
	f.t.Helper()
	armed, err := f.dir.Armed()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, p := range armed {
		if _, err := f.dir.Disarm(p); err != nil {
			f.t.Fatal(err)
		}
	}
	hits, err := f.dir.Hits()
	if err != nil {
		f.t.Fatal(err)
	}
	got := map[string]bool{}
	for _, h := range hits {
		got[h.Name] = true
		if strings.HasPrefix(h.Name, "launcher.") {
			continue // its PID is that in the pod
		}
		waitFor(f.t, "the process that hit "+h.Name+" to die", func() (bool, string) { return !lives(strconv.Itoa(h.PID)), "it lives" })
	}
	f.revive()
	if err := f.dir.Clear(); err != nil {
		f.t.Fatal(err)
	}
	f.excused = 0
	return got
}

// killSkerry sends SIGKILL to skerry and starts it again.
func (f *injector) killSkerry() {
	f.t.Helper()
	killProcess(f.t)
	f.revive()
}

// killProcess sends SIGKILL to skerry and waits for its death.
func killProcess(t *testing.T) {
	t.Helper()
	pid, err := shared.PID()
	if err == nil {
		err = kill(pid)
	}
	if err != nil {
		t.Fatalf("kill skerry: %v", err)
	}
	waitFor(t, "skerry to be dead", func() (bool, string) { return !lives(pid), "PID " + pid })
}

// verb calls a subresource of an instance, as virtctl pause does.
func verb(ctx context.Context, namespace, name, verb string) error {
	c, err := kubernetes.NewForConfig(shared.REST)
	if err != nil {
		return err
	}
	path := "/apis/subresources.kubevirt.io/v1/namespaces/" + namespace + "/virtualmachineinstances/" + name + "/" + verb
	return c.CoreV1().RESTClient().Put().AbsPath(path).Body([]byte("{}")).Do(ctx).Error()
}
