// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestParseTargetsAndPorts(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]target{
		"a":                        {"", "a", ""},
		"vm/a":                     {vms, "a", ""},
		"VMI/a.b/ns":               {vmis, "a.b", "ns"},
		"virtualmachines/a/ns":     {vms, "a", "ns"},
		"virtualmachineinstance/a": {vmis, "a", ""},
	} {
		if got, err := parseTarget(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for in, want := range map[string]forward{
		"80":          {"tcp", 80, 80},
		"8080:80":     {"tcp", 8080, 80},
		"0:80":        {"tcp", 0, 80},
		"udp/53":      {"udp", 53, 53},
		"TCP/5000:50": {"tcp", 5000, 50},
	} {
		if got, err := parseForward(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for in, want := range map[string]place{
		"file":                {path: "file"},
		"./a:b":               {path: "./a:b"},
		"/a:b":                {path: "/a:b"},
		"vm1:/tmp":            {remote: true, target: target{name: "vm1"}, path: "/tmp"},
		"me@vmi/vm1/ns:a b:c": {remote: true, user: "me", target: target{vmis, "vm1", "ns"}, path: "a b:c"},
		"root@vm/vm1:":        {remote: true, user: "root", target: target{resource: vms, name: "vm1"}},
	} {
		if got, err := parseCopy(in); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
}

func FuzzArguments(f *testing.F) {
	for _, s := range []string{"vm/a/ns", "udp/1:2", "me@vm1:/x", "", "-oProxyCommand=x", "a/b/c/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseTarget(s); err == nil && (strings.ContainsAny(got.name+got.namespace, "/ -") && strings.HasPrefix(got.name, "-")) {
			t.Fatalf("%q: %+v", s, got)
		}
		if got, err := parseForward(s); err == nil && (got.remote < 1 || got.remote > 65535 || got.local < 0 || got.local > 65535) {
			t.Fatalf("%q: %+v", s, got)
		}
		if got, err := parseCopy(s); err == nil && got.remote && strings.HasPrefix(got.argument(), "-") && got.user == "" {
			t.Fatalf("%q: %+v", s, got)
		}
		_, _ = port(s, true)
		if strings.ContainsAny(printable(s), "\x1b\n\x00") {
			t.Fatalf("%q", printable(s))
		}
		_ = newAPIError(500, []byte(s)).Error()
	})
}

// ssh's own rules: it expands %, then a shell reads the words.
func TestProxyCommandQuoting(t *testing.T) {
	t.Parallel()
	words := []string{"printf", `%s\n`, "it's $HOME", "100%", "a b"}
	command := strings.ReplaceAll(proxyCommand(words), "%%", "%")
	out, err := exec.CommandContext(t.Context(), "sh", "-c", command).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "it's $HOME\n100%\na b\n"; string(out) != want {
		t.Fatalf("%q", out)
	}
}

// The local client is run with these arguments; the fake one prints them.
func TestSSH(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ssh", "scp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nprintf '[%s]' \"$@\"\nexit 3\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmObj: object(kubevirtv1.VirtualMachine{}), "GET " + vmiObj: refusal(404, "not found", "vm1")})
	proxy := func(kind, port string) string {
		return "[-o][ProxyCommand='" + self + "' 'port-forward' '--stdio=true' '--kubeconfig=" + a.kubeconfig + "' '" + kind + "/vm1/ns' '" + port + "']"
	}
	for _, c := range []struct{ args, want string }{
		{"ssh debian@vm1", proxy("vm", "22") + "[-l][debian][--][vm.vm1.ns]"},
		{"ssh vmi/vm1/ns -l me -i key -p 2222 --known-hosts=/dev/null", proxy("vmi", "2222") + "[-o][UserKnownHostsFile=/dev/null][-i][key][-l][me][--][vmi.vm1.ns]"},
		{"ssh vm/vm1 -c uptime --local-ssh-opts=-oStrictHostKeyChecking=no", proxy("vm", "22") + "[-oStrictHostKeyChecking=no][--][vm.vm1.ns][uptime]"},
		{"ssh vm/vm1 -- ls -l", proxy("vm", "22") + "[--][vm.vm1.ns][ls][-l]"},
		{"scp -r file debian@vm1:/tmp", proxy("vm", "22") + "[-r][--][file][debian@vm.vm1.ns:/tmp]"},
		{"scp -l me --preserve vmi/vm1:x .", proxy("vmi", "22") + "[-p][--][me@vmi.vm1.ns:x][.]"},
	} {
		out, _, err := a.run(t, nil, strings.Fields(c.args)...)
		if ExitCode(err) != 3 || out != c.want {
			t.Errorf("%s: exit %d (%v)\n got %s\nwant %s", c.args, ExitCode(err), err, out, c.want)
		}
	}
	missing := newAPI(t, map[string]http.HandlerFunc{"GET " + vmObj: refusal(404, "not found", "vm1"), "GET " + vmiObj: refusal(404, "not found", "vm1")})
	if _, _, err := missing.run(t, nil, "ssh", "vm1"); err == nil || !strings.Contains(err.Error(), `no VirtualMachine is called "vm1"`) {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, _, err := a.run(t, nil, "ssh", "vm1"); err == nil || !strings.Contains(err.Error(), "openssh-client") {
		t.Error(err)
	}
}

func TestExpose(t *testing.T) {
	t.Parallel()
	vm := kubevirtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Name: "vm1", Namespace: "ns", UID: "u"}}
	vm.Spec.Template.Spec.Networks = []kubevirtv1.Network{{Name: "default", Pod: &kubevirtv1.PodNetwork{}}}
	vm.Spec.Template.Spec.Domain.Devices.Interfaces = []kubevirtv1.Interface{{Name: "default", Ports: []kubevirtv1.Port{{Port: 80, Name: "web"}, {Port: 53, Protocol: "UDP"}}}}
	owner := metav1.OwnerReference{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachine", Name: "vm1", UID: "u"}
	base := corev1.Service{
		TypeMeta:   metav1.TypeMeta{Kind: "Service", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", OwnerReferences: []metav1.OwnerReference{owner}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"vmi.kubevirt.io/id": "vm1"}, Type: "ClusterIP"},
	}
	for _, c := range []struct {
		name string
		o    exposeOptions
		want func(*corev1.ServiceSpec)
		err  string
	}{
		{"one port", exposeOptions{name: "s", port: "22", protocol: "tcp", serviceType: "clusterip"}, func(s *corev1.ServiceSpec) {
			s.Ports = []corev1.ServicePort{{Protocol: "TCP", Port: 22, TargetPort: intstr.FromInt32(22)}}
		}, ""},
		{"node port", exposeOptions{name: "s", port: "22", targetPort: "2222", portName: "ssh", protocol: "TCP", serviceType: "NodePort", externalIP: "1.2.3.4", ipFamily: "IPv4,IPv6", ipFamilyPolicy: "PreferDualStack"}, func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalIPs = "NodePort", []string{"1.2.3.4"}
			s.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"}
			s.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
			s.Ports = []corev1.ServicePort{{Name: "ssh", Protocol: "TCP", Port: 22, TargetPort: intstr.FromInt32(2222)}}
		}, ""},
		{"the interface's ports", exposeOptions{name: "s", protocol: "TCP", serviceType: "ClusterIP"}, func(s *corev1.ServiceSpec) {
			s.Ports = []corev1.ServicePort{
				{Name: "web", Protocol: "TCP", Port: 80, TargetPort: intstr.FromInt32(80)},
				{Name: "port-2", Protocol: "UDP", Port: 53, TargetPort: intstr.FromInt32(53)}}
		}, ""},
		{"no name", exposeOptions{port: "22", protocol: "TCP", serviceType: "ClusterIP"}, nil, "--name is required"},
		{"bad type", exposeOptions{name: "s", port: "22", protocol: "TCP", serviceType: "Headless"}, nil, "--type"},
		{"bad protocol", exposeOptions{name: "s", port: "22", protocol: "SCTP", serviceType: "ClusterIP"}, nil, "--protocol"},
		{"bad port", exposeOptions{name: "s", port: "x", protocol: "TCP", serviceType: "ClusterIP"}, nil, "--port"},
		{"bad target", exposeOptions{name: "s", port: "1", targetPort: "99999", protocol: "TCP", serviceType: "ClusterIP"}, nil, "--target-port"},
		{"target alone", exposeOptions{name: "s", targetPort: "1", protocol: "TCP", serviceType: "ClusterIP"}, nil, "--target-port needs --port"},
		{"bad family", exposeOptions{name: "s", port: "1", ipFamily: "IPv5", protocol: "TCP", serviceType: "ClusterIP"}, nil, "--ip-family"},
	} {
		got, err := c.o.service("vm1", "ns", vm.Spec.Template.Spec, owner)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := base.DeepCopy()
		c.want(&want.Spec)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmObj: object(vm), "POST /api/v1/namespaces/ns/services": answer(201, `{"metadata":{"name":"s"}}`)})
	out, _, err := a.run(t, nil, "expose", "vm", "vm1", "--name=s", "--port=22")
	if err != nil || out != "Service s successfully created for virtualmachine vm1\n" {
		t.Fatalf("%q %v", out, err)
	}
}
