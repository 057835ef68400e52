// SPDX-License-Identifier: Apache-2.0

package podtemplate

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

func params() Params {
	return Params{
		LauncherImage:      "registry.example/skerry-launcher@sha256:0011",
		LauncherPullPolicy: corev1.PullIfNotPresent,
		KVM:                true,
		VhostNet:           true,
		MemoryOverhead:     resource.MustParse("64Mi"),
		BlockClaims:        map[string]bool{"web-raw": true},
	}
}

func instance(mutate ...func(*v1.VirtualMachineInstance)) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "6a1a24a1-0000-4000-8000-000000000001"},
	}
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: new(resource.MustParse("128Mi"))}
	for _, m := range mutate {
		m(vmi)
	}
	return vmi
}

func everything(vmi *v1.VirtualMachineInstance) {
	vmi.Labels = map[string]string{"app": "web", v1.NodeNameLabel: "old-node"}
	vmi.Annotations = map[string]string{
		"kubectl.kubernetes.io/last-applied-configuration": "{}",
		"kubevirt.io/latest-observed-api-version":          "v1",
		v1.VMGenerationAnnotation:                          "3",
	}
	s := &vmi.Spec
	s.Architecture = "amd64"
	s.Hostname = "front"
	s.Subdomain = "svc"
	s.NodeSelector = map[string]string{"disk": "fast"}
	s.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey:   corev1.LabelHostname,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}},
	}}
	s.Tolerations = []corev1.Toleration{{Key: "edge", Operator: corev1.TolerationOpExists}}
	s.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway,
	}}
	s.PriorityClassName = "high"
	s.SchedulerName = "other"
	s.DNSPolicy = corev1.DNSNone
	s.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.53"}}
	s.TerminationGracePeriodSeconds = new(int64(120))
	s.Domain.CPU = &v1.CPU{Sockets: 2, Cores: 2, Threads: 1}
	s.Domain.Devices.Interfaces = []v1.Interface{{
		Name: "default", Masquerade: &v1.InterfaceMasquerade{},
		Ports: []v1.Port{{Name: "http", Port: 80}, {Port: 53, Protocol: "udp"}},
	}}
	s.Networks = []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}}
	s.Volumes = []v1.Volume{
		{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: "registry.example/fedora:42", ImagePullPolicy: corev1.PullAlways, ImagePullSecret: "reg"}},
		{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{
			SecretRef:            &corev1.LocalObjectReference{Name: "user"},
			NetworkDataSecretRef: &corev1.LocalObjectReference{Name: "net"},
		}},
		{Name: "scratch", EmptyDisk: &v1.EmptyDiskSource{Capacity: resource.MustParse("1Gi")}},
		{Name: "tools", ContainerDisk: &v1.ContainerDiskSource{Image: "registry.example/tools:1", ImagePullSecret: "reg"}},
		{Name: "data", PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "web-data"}},
		{Name: "raw", PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "web-raw"}},
		{Name: "media", PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "media", ReadOnly: new(true)}},
	}
	s.Domain.Firmware = &v1.Firmware{KernelBoot: &v1.KernelBoot{Container: &v1.KernelBootContainer{
		Image: "registry.example/kernel:6.12", KernelPath: "/boot/vmlinuz", ImagePullSecret: "kernels",
	}}}
}

func TestRenderGolden(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		vmi *v1.VirtualMachineInstance
		p   Params
	}{
		"minimal":    {instance(), params()},
		"everything": {instance(everything), params()},
		"emulated": {instance(func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.TerminationGracePeriodSeconds = new(int64(0))
			vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "default", Bridge: &v1.InterfaceBridge{}}}
		}), func() Params { p := params(); p.KVM = false; return p }()},
		"multus": {instance(func(vmi *v1.VirtualMachineInstance) {
			vmi.Annotations = map[string]string{
				"k8s.v1.cni.cncf.io/networks":                         `[{"name":"attachnet1","namespace":"mec-nets","ips":["10.9.0.5"]}]`,
				"k8s.v1.cni.cncf.io/network-status":                   "the user's",
				"attachnet1.mec-nets.ovn.kubernetes.io/default_route": "true",
			}
			vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "a", Bridge: &v1.InterfaceBridge{}}, {Name: "b", Bridge: &v1.InterfaceBridge{}, MacAddress: "02:00:00:00:00:09"}}
			vmi.Spec.Networks = []v1.Network{
				{Name: "a", Multus: &v1.MultusNetwork{NetworkName: "mec-nets/attachnet1"}},
				{Name: "b", Multus: &v1.MultusNetwork{NetworkName: "lan"}},
			}
		}), params()},
		"resources": {instance(func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Domain.Resources = &v1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")},
				Limits: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("256Mi"),
				},
			}
		}), params()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := c.vmi.DeepCopy()
			pod, err := Render(c.vmi, c.p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, c.vmi); diff != "" {
				t.Errorf("Render changed its input:\n%s", diff)
			}
			got, err := yaml.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("pod differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// Every pod passes Kubernetes' own check of the Pod Security standard "restricted".
func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	eval, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, vmi := range []*v1.VirtualMachineInstance{instance(), instance(everything)} {
		pod, err := Render(vmi, params())
		if err != nil {
			t.Fatal(err)
		}
		level := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
		for _, r := range eval.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !r.Allowed {
				t.Errorf("restricted: %s: %s", r.ForbiddenReason, r.ForbiddenDetail)
			}
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	const overhead = "64Mi"
	q := resource.MustParse
	for name, c := range map[string]struct {
		res            *v1.ResourceRequirements
		cpu            *v1.CPU
		wantCPU        string
		wantMem        string
		wantCPULimit   string
		wantMemLimit   string
		wantErrContain string
	}{
		"nothing given": {wantCPU: "100m", wantMem: "192Mi"},
		"four vCPUs":    {cpu: &v1.CPU{Sockets: 2, Cores: 2}, wantCPU: "400m", wantMem: "192Mi"},
		"request":       {res: &v1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": q("1500m"), "memory": q("1Gi")}}, wantCPU: "1500m", wantMem: "1088Mi"},
		"limit only": {res: &v1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": q("3"), "memory": q("1Gi")}},
			wantCPU: "3", wantMem: "1088Mi", wantCPULimit: "3", wantMemLimit: "1088Mi"},
		"overcommit spares the request, never the limit": {
			res: &v1.ResourceRequirements{OvercommitGuestOverhead: new(true),
				Requests: corev1.ResourceList{"memory": q("512Mi")}, Limits: corev1.ResourceList{"memory": q("1Gi")}},
			wantCPU: "100m", wantMem: "512Mi", wantMemLimit: "1088Mi"},
		"mad topology": {cpu: &v1.CPU{Sockets: 1 << 40}, wantErrContain: "spec.domain.cpu.sockets: 1099511627776"},
		"negative":     {cpu: &v1.CPU{Threads: -1}, wantErrContain: "spec.domain.cpu.threads: -1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := params()
			p.MemoryOverhead = q(overhead)
			got, err := resources(instance(func(vmi *v1.VirtualMachineInstance) {
				vmi.Spec.Domain.Resources, vmi.Spec.Domain.CPU = c.res, c.cpu
			}), p)
			if c.wantErrContain != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErrContain) {
					t.Fatalf("error %v, want one with %q", err, c.wantErrContain)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check := func(what, want string, l corev1.ResourceList, name corev1.ResourceName) {
				have, ok := l[name]
				if (want != "") != ok || ok && have.Cmp(q(want)) != 0 {
					t.Errorf("%s: %s, want %q", what, have.String(), want)
				}
			}
			check("cpu request", c.wantCPU, got.Requests, "cpu")
			check("memory request", c.wantMem, got.Requests, "memory")
			check("cpu limit", c.wantCPULimit, got.Limits, "cpu")
			check("memory limit", c.wantMemLimit, got.Limits, "memory")
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mutate func(*v1.VirtualMachineInstance)
		want   string
	}{
		"no UID":    {func(vmi *v1.VirtualMachineInstance) { vmi.UID = "" }, "UID"},
		"no memory": {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Domain.Memory = nil }, "spec.domain.memory.guest: required"},
		"unknown volume": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Volumes = []v1.Volume{{Name: "x", HostDisk: &v1.HostDisk{}}}
		}, "spec.volumes[0]: volume \"x\" has no source"},
		"bad volume name": {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Volumes = []v1.Volume{{Name: "../x"}} }, "spec.volumes[0].name"},
		"same name twice": {func(vmi *v1.VirtualMachineInstance) {
			d := &v1.EmptyDiskSource{}
			vmi.Spec.Volumes = []v1.Volume{{Name: "x", EmptyDisk: d}, {Name: "x", EmptyDisk: d}}
		}, "spec.volumes[1].name: \"x\" is the name of spec.volumes[0]"},
		"empty image": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Volumes = []v1.Volume{{Name: "x", ContainerDisk: &v1.ContainerDiskSource{}}}
		}, "spec.volumes[0].containerDisk.image"},
		"probe":           {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.ReadinessProbe = &v1.Probe{} }, "spec.readinessProbe"},
		"no network type": {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Networks = []v1.Network{{Name: "x"}} }, "spec.networks[0]"},
		"multus default": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Networks = []v1.Network{{Name: "x", Multus: &v1.MultusNetwork{NetworkName: "n", Default: new(true)}}}
		}, "spec.networks[0].multus.default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Render(instance(c.mutate), params()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 192)
	a, b := PodName(long, "uid-1"), PodName(long, "uid-2")
	if len(a) > 253 || a == b || PodName(long, "uid-1") != a {
		t.Errorf("pod names %q and %q", a, b)
	}
	if got := Hostname(long, ""); got != strings.Repeat("a", 60) {
		t.Errorf("host name %q", got)
	}
	if got := Hostname("x.y", "z"); got != "z" {
		t.Errorf("host name %q", got)
	}
	// printf %s aaaa…(64) | sha1sum: 0098ba824b5c16427bd7a1122a5a442a25ec644d
	if got, want := IDLabel(strings.Repeat("a", 64)), strings.Repeat("a", 54)+"-0098ba82"; got != want {
		t.Errorf("id label %q, want %q", got, want)
	}
	v := strings.Repeat("v", 63)
	if u, n := UserDataVolume(v), NetworkDataVolume(v); len(u) > 63 || len(n) > 63 || u == n || u == UserDataVolume(v[:62]+"w") {
		t.Errorf("volume names %q and %q", u, n)
	}
	if got := UserDataVolume("seed"); got != "seed-udata" {
		t.Errorf("volume name %q", got)
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec      *int64
		grace, in int64
	}{{nil, 30, 60}, {new(int64(0)), 0, 1}, {new(int64(1)), 1, 2}, {new(int64(2)), 2, 32}, {new(int64(-5)), 0, 1}} {
		vmi := instance(func(vmi *v1.VirtualMachineInstance) { vmi.Spec.TerminationGracePeriodSeconds = c.spec })
		if g, in := Grace(vmi), PodGrace(vmi); g != c.grace || in != c.in {
			t.Errorf("grace %d in a pod's %d, want %d in %d", g, in, c.grace, c.in)
		}
	}
}
