// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"
)

func reference(t testing.TB) *corev1.ConfigMap {
	t.Helper()
	data, err := os.ReadFile("testdata/hci-controller-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cm := &corev1.ConfigMap{}
	if err := yaml.UnmarshalStrict(data, cm); err != nil {
		t.Fatal(err)
	}
	return cm
}

func TestReference(t *testing.T) {
	t.Parallel()
	cm := reference(t)
	if cm.Namespace != Namespace || cm.Name != Name {
		t.Errorf("it is %s/%s", cm.Namespace, cm.Name)
	}
	got, err := Parse(cm.Data[Key])
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		HealthzPort: 8080, ResyncPeriod: 10 * time.Minute,
		LeaderElection: LeaderElection{
			LeaderElect: true, LeaseDuration: 30 * time.Second, RenewDeadline: 15 * time.Second, ResyncPeriod: 5 * time.Second,
			ResourceName: "hci-controller", ResourceNamespace: "mec-images",
		},
		BaseImageNamespace: "mec-images", SnapshotClass: "csi-rbdplugin-snapclass", GlanceBaseURL: "https://172.18.22.100:9292",
		RegistryAddr: "harbor.mec.local", BaseImageRetention: 7 * 24 * time.Hour,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, empty := range []string{"", "{}", "controllerConfig:\n", "controllerConfig: {snapshotClass: ''}"} {
		if c, err := Parse(empty); err != nil || !cmp.Equal(c, Default()) {
			t.Errorf("%q: %+v, %v", empty, c, err)
		}
	}
	c, err := Parse(`controllerConfig: {registryAddr: "https://harbor.example:5000/vms/", baseImageRetention: 0, releasedVolumeRetention: 720h, imagePullSecrets: [robot], registryCA: harbor-ca, insecureRegistries: ["10.0.0.1:5000"]}`)
	if err != nil || c.RegistryAddr != "harbor.example:5000/vms" || c.BaseImageRetention != 0 || c.ReleasedVolumeRetention != 720*time.Hour ||
		c.ImagePullSecrets[0] != "robot" || c.RegistryCA != "harbor-ca" || c.InsecureRegistries[0] != "10.0.0.1:5000" {
		t.Errorf("%+v, %v", c, err)
	}
	// All at once.
	_, err = Parse(`
healthzPort: 70000
resyncperiod: 10m
resyncPeriod: soon
leaderElection: {leaderElect: "yes", leaseDuration: 1ms, resourceLock: zookeeper}
controllerConfig:
  baseImageNamespace: Images!
  glanceBaseURL: ftp://x
  registryAddr: http://x
  imagePullSecrets: robot
  insecureRegistries: ["https://x"]
`)
	for _, want := range []string{
		`healthzPort: "70000"`, "resyncperiod: there is no such field; there are controllerConfig, healthzPort", `resyncPeriod: "soon"`,
		`leaderElection.leaderElect: "yes" is not accepted; use true or false`, `leaderElection.leaseDuration: "1ms"`, `leaderElection.resourceLock: "zookeeper" is not accepted; use leases`,
		`controllerConfig.baseImageNamespace: "Images!"`, `controllerConfig.glanceBaseURL: "ftp://x"`, `controllerConfig.registryAddr: "http://x"`,
		`controllerConfig.imagePullSecrets: "robot" is not accepted; use a list`, `controllerConfig.insecureRegistries[0]: "https://x"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error\n%v\nwithout %q", err, want)
		}
	}
	for _, bad := range []string{"a: b: c", "[]", "x", "resyncPeriod: 1m\nresyncPeriod: 2m", strings.Repeat("#", maxSize+1), "leaderElection: {leaseDuration: 5s, renewDeadline: 5s}"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	c := Config{RegistryAddr: "harbor.mec.local"}
	for ref, want := range map[string]string{
		"kubevirt/fedora36:latest":      "harbor.mec.local/kubevirt/fedora36:latest",
		"fedora36":                      "harbor.mec.local/fedora36:latest",
		"fedora36:1":                    "harbor.mec.local/fedora36:1",
		"quay.io/x/y":                   "quay.io/x/y:latest",
		"localhost/x":                   "localhost/x:latest",
		"registry:5000/x:1":             "registry:5000/x:1",
		"docker://quay.io/x@sha256:abc": "quay.io/x@sha256:abc",
	} {
		if got := c.Image(ref); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
	if got := (Config{}).Image("x/y"); got != "x/y:latest" {
		t.Errorf("without a registry: %s", got)
	}
}

type events []string

func (e *events) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	*e = append(*e, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

func TestSource(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).Build()
	var told events
	s := &Source{Client: api, Events: &told}
	ctx := context.Background()
	if c, err := s.Current(ctx); err != nil || !cmp.Equal(c, Default()) {
		t.Errorf("without a ConfigMap: %+v, %v", c, err)
	}
	cm := reference(t)
	if err := api.Create(ctx, cm); err != nil {
		t.Fatal(err)
	}
	registry := func() string {
		c, err := s.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return c.RegistryAddr
	}
	if got := registry(); got != "harbor.mec.local" {
		t.Errorf("registry %s", got)
	}
	change := func(data string) {
		cm.Data = map[string]string{Key: data}
		if err := api.Update(ctx, cm); err != nil {
			t.Fatal(err)
		}
	}
	change("controllerConfig: {registryAddr: other.example}")
	if got := registry(); got != "other.example" || len(told) > 0 {
		t.Errorf("after a change: %s, events %v", got, told)
	}
	change("nonsense: 1")
	for range 3 {
		if got := registry(); got != "other.example" {
			t.Errorf("while it is broken: %s", got)
		}
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "Warning InvalidConfiguration The last good configuration stays in use: nonsense: there is no such field") {
		t.Errorf("events %q", told)
	}
	if _, err := (&Source{Client: api, Events: &told}).Current(ctx); err == nil || !strings.Contains(err.Error(), "mec-images/hci-controller-config: nonsense") {
		t.Errorf("broken from the start: %v", err)
	}
	change("controllerConfig: {registryAddr: third.example}")
	if got := registry(); got != "third.example" || !strings.HasPrefix(told[len(told)-1], "Normal ConfigurationLoaded") {
		t.Errorf("repaired: %s, events %q", got, told)
	}
	if err := api.Delete(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: Name}}); err != nil {
		t.Fatal(err)
	}
	if got := registry(); got != "" {
		t.Errorf("after its end: %s", got)
	}
}

// FuzzParse: whatever is taken is whole, and nothing makes it panic.
func FuzzParse(f *testing.F) {
	f.Add(reference(f).Data[Key])
	f.Add("healthzPort: 1e3\nleaderElection: []\ncontrollerConfig: {imagePullSecrets: [1, null, a]}")
	f.Add("resyncPeriod: -1s")
	f.Fuzz(func(t *testing.T, data string) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		if c.BaseImageNamespace == "" || c.HealthzPort < 1 || c.ResyncPeriod < time.Second || c.LeaderElection.RenewDeadline >= c.LeaderElection.LeaseDuration {
			t.Errorf("%q gives %+v", data, c)
		}
		if ref := c.Image("x"); !strings.HasSuffix(ref, "x:latest") {
			t.Errorf("%q gives image %s", data, ref)
		}
	})
}
