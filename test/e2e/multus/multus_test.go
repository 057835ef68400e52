// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package multus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	cniv1 "github.com/skerry-dev/skerry/api/cni/v1"
	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podtemplate"
	"github.com/skerry-dev/skerry/test/witness"
)

const (
	nodeAddress = "10.77.0.1"
	bothAddress = "10.77.0.51"
	onlyAddress = "10.77.0.50"
	// beyond is an address of the node that the network's routes alone lead to.
	beyond = "198.51.100.1"
	port   = "8099"
	bridge = "br-attach1"
)

// network is a bridge with host-local addresses and a gateway. What it says of the
// leases' directory counts for nothing.
const network = `{"cniVersion":"1.0.0","name":"attachnet1","type":"bridge","bridge":"` + bridge + `","isGateway":true,
"ipam":{"type":"host-local","dataDir":"/var/tmp/not-here","ranges":[[{"subnet":"10.77.0.0/24","gateway":"` + nodeAddress + `"}]],
"routes":[{"dst":"0.0.0.0/0"}]}}`

// A machine on the pod network and on another, and one on the other alone, which
// has its default route there: as in the reference manifest.
func TestAttachedNetworks(t *testing.T) {
	serve(t)
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mec-nets"}})
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "wq-test"}})
	create(t, &cniv1.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: "mec-nets", Name: "attachnet1"},
		Spec:       cniv1.NetworkAttachmentDefinitionSpec{Config: network},
	})
	waitFor(t, "the default ServiceAccount", func() (bool, string) {
		err := box.Client.Get(t.Context(), client.ObjectKey{Namespace: "wq-test", Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, fmt.Sprint(err)
	})
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range [][]string{{"get", "events", "--sort-by=.lastTimestamp"}, {"get", "vmi,pods", "-o", "yaml"}, {"logs", "--tail=60", "-l", "kubevirt.io=virt-launcher"}} {
				out, _ := box.Kubectl(context.Background(), append([]string{"-n", "wq-test"}, args...)...)
				fmt.Fprintf(os.Stderr, "--- kubectl %s\n%s\n", strings.Join(args, " "), out)
			}
		}
	})

	only := machine("only", "eth0", "http://"+beyond+":"+port+"/")
	only.Spec.Template.Spec.Networks = only.Spec.Template.Spec.Networks[1:]
	only.Spec.Template.Spec.Domain.Devices.Interfaces = only.Spec.Template.Spec.Domain.Devices.Interfaces[1:]
	only.Spec.Template.Spec.DNSPolicy = corev1.DNSNone
	only.Spec.Template.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"114.114.114.114"}}
	only.Spec.Template.ObjectMeta.Annotations = map[string]string{
		"k8s.v1.cni.cncf.io/networks":                          `[{"name":"attachnet1","namespace":"mec-nets","ips":["` + onlyAddress + `"]}]`,
		"attachnet1.mec-nets.ovn.kubernetes.io/default_route":  "true",
		"attachnet1.mec-nets.ovn.kubernetes.io/logical_switch": "subnet-ipv4",
		"ovn.kubernetes.io/allow_live_migration":               "true",
	}
	both := machine("both", "eth1", "http://"+onlyAddress+"/cgi-bin/index.cgi")
	both.Spec.Template.ObjectMeta.Annotations = map[string]string{
		"k8s.v1.cni.cncf.io/networks": `[{"name":"attachnet1","namespace":"mec-nets","ips":["` + bothAddress + `"]}]`,
	}
	create(t, only)
	create(t, both)

	// The guests' own words.
	text := console(t, only, `(?s)NETWORK-END`)
	expect(t, text, `default via 10\.77\.0\.1 dev eth0`, `10\.77\.0\.0/24 dev eth0 .*src 10\.77\.0\.50`, `nameserver 114\.114\.114\.114`, `ANSWER client 10\.77\.0\.50`)
	if strings.Contains(section(text), "eth1") {
		t.Errorf("the machine has a second card:\n%s", section(text))
	}
	text = console(t, both, `(?s)NETWORK-END`)
	expect(t, text, `default via 10\.0\.2\.1 dev eth0`, `10\.77\.0\.0/24 dev eth1 .*src 10\.77\.0\.51`, `ANSWER client \S*10\.77\.0\.51`)
	if n := strings.Count(section(text), "default via"); n != 1 {
		t.Errorf("%d default routes:\n%s", n, section(text))
	}
	ask(t, onlyAddress)
	ask(t, bothAddress)

	reported(t, only, both)

	// The agent ends at once and comes back: the guests keep all.
	restart(t)
	ask(t, onlyAddress)
	ask(t, bothAddress)
	mac := instance(t, both).Status.Interfaces[1].MAC

	// A machine that goes gives back all; the next one of the name has its MAC.
	if err := box.Client.Delete(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(box.DataDir, "cni", "attached")
	waitFor(t, "the lease, the record and the port of the machine to be gone", func() (bool, string) {
		pods, _ := os.ReadDir(filepath.Join(state, "pods"))
		pins, _ := os.ReadDir(filepath.Join(state, "netns"))
		leases, _ := filepath.Glob(filepath.Join(state, "leases", "attachnet1", "10.*"))
		// Not from /sys, which may be another network namespace's.
		out, err := exec.CommandContext(t.Context(), "ip", "-o", "link", "show", "master", bridge).Output()
		ports := strings.Count(string(out), "\n")
		ok := err == nil && len(pods) == 1 && len(pins) == 1 && ports == 1 &&
			slices.Equal(leases, []string{filepath.Join(state, "leases", "attachnet1", onlyAddress)})
		return ok, fmt.Sprintf("%d records, %d namespaces, leases %v, %d ports, %v", len(pods), len(pins), leases, ports, err)
	})
	if _, err := os.Stat("/var/tmp/not-here"); err == nil {
		t.Error("a NetworkAttachmentDefinition chose where leases are written")
	}
	ask(t, onlyAddress)
	waitFor(t, "the machine to be gone", func() (bool, string) {
		err := box.Client.Get(t.Context(), client.ObjectKeyFromObject(both), &v1.VirtualMachineInstance{})
		return client.IgnoreNotFound(err) == nil && err != nil, fmt.Sprint(err)
	})
	both.ResourceVersion = ""
	both.UID = ""
	waitFor(t, "the name to be free", func() (bool, string) {
		err := box.Client.Create(t.Context(), both)
		return err == nil, fmt.Sprint(err)
	})
	waitFor(t, "its interfaces", func() (bool, string) {
		got := instance(t, both).Status.Interfaces
		return len(got) == 2 && got[1].IPAddress == bothAddress, fmt.Sprintf("%+v", got)
	})
	if got := instance(t, both).Status.Interfaces[1].MAC; got != mac {
		t.Errorf("the machine had the MAC %s and has %s", mac, got)
	}

	// One that nobody can start says so.
	lost := machine("lost", "eth1", "http://"+beyond+"/")
	lost.Spec.Template.Spec.Networks[1].Multus.NetworkName = "mec-nets/nowhere"
	create(t, lost)
	waitFor(t, "the condition to name what is missing", func() (bool, string) {
		c := instance(t, lost).Status.Condition(v1.VMISynchronized)
		return c != nil && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, "NetworkAttachmentDefinition nowhere in namespace mec-nets"), fmt.Sprintf("%+v", c)
	})
}

// machine has the pod network and attachnet1; its script says how the guest is
// connected and asks the URL once dev has an address.
func machine(name, dev, url string) *v1.VirtualMachine {
	vm := witness.VM("wq-test", name)
	s := &vm.Spec.Template.Spec
	s.TerminationGracePeriodSeconds = new(int64(0))
	s.Networks = append(s.Networks, v1.Network{Name: "attachnet1", Multus: &v1.MultusNetwork{NetworkName: "mec-nets/attachnet1"}})
	s.Domain.Devices.Interfaces = append(s.Domain.Devices.Interfaces, v1.Interface{Name: "attachnet1", Bridge: &v1.InterfaceBridge{}})
	s.Domain.Devices.Disks = append(s.Domain.Devices.Disks, v1.Disk{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}})
	s.Volumes = append(s.Volumes, v1.Volume{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: `#!/bin/sh
until [ -e /run/net.` + dev + ` ]; do usleep 100000; done
until wget -q -O /run/answer ` + url + `; do sleep 1; done
echo NETWORK-BEGIN
ip -o link
ip route
cat /etc/resolv.conf
while read -r line; do echo "ANSWER $line"; done </run/answer
echo NETWORK-END
`}})
	return vm
}

func create(t *testing.T, o client.Object) {
	t.Helper()
	if err := box.Client.Create(t.Context(), o); err != nil {
		t.Fatalf("create %s: %v", o.GetName(), err)
	}
}

func instance(t *testing.T, vm *v1.VirtualMachine) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := box.Client.Get(t.Context(), client.ObjectKeyFromObject(vm), vmi); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return vmi
}

// console waits for the pattern on the machine's console and returns what is there.
func console(t *testing.T, vm *v1.VirtualMachine, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var text string
	waitFor(t, vm.Name+"'s console to show "+pattern, func() (bool, string) {
		vmi := instance(t, vm)
		if vmi.UID == "" {
			return false, "no instance"
		}
		text, _ = box.Kubectl(t.Context(), "-n", vm.Namespace, "logs", podtemplate.PodName(vmi.Name, vmi.UID))
		return re.MatchString(text), text[max(0, len(text)-2000):] + fmt.Sprintf("%+v", vmi.Status.Conditions)
	})
	return strings.ReplaceAll(text, "\r", "")
}

// section is what the script printed.
func section(text string) string {
	_, text, _ = strings.Cut(text, "NETWORK-BEGIN")
	text, _, _ = strings.Cut(text, "NETWORK-END")
	return text
}

func expect(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(section(text)) {
			t.Errorf("the guest does not say %q:\n%s", p, section(text))
		}
	}
}

// serve answers on every address of the node with the client's address.
func serve(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("ip", "addr", "add", beyond+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "client %s\n", netip.MustParseAddrPort(r.RemoteAddr).Addr().Unmap())
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		_ = exec.Command("ip", "addr", "del", beyond+"/32", "dev", "lo").Run()
	})
}

// ask has the node ask a guest's web server.
func ask(t *testing.T, ip string) {
	t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	waitFor(t, "an answer of the guest at "+ip, func() (bool, string) {
		resp, err := c.Get("http://" + ip + "/cgi-bin/index.cgi")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return err == nil && strings.Contains(string(b), nodeAddress), fmt.Sprintf("%q, %v", b, err)
	})
}

// reported looks at what the API shows of the networks.
func reported(t *testing.T, only, both *v1.VirtualMachine) {
	t.Helper()
	link := netattach.InterfaceName("attachnet1")
	got := instance(t, only).Status.Interfaces
	if len(got) != 1 || got[0].Name != "attachnet1" || got[0].IPAddress != onlyAddress || got[0].PodInterfaceName != link || !strings.Contains(got[0].InfoSource, "multus-status") {
		t.Errorf("status.interfaces of the machine on one network: %+v", got)
	}
	out, err := box.Kubectl(t.Context(), "-n", "wq-test", "get", "vmi", "only")
	if err != nil || !strings.Contains(out, onlyAddress) {
		t.Errorf("kubectl get vmi: %v\n%s", err, out)
	}
	vmi := instance(t, both)
	if got := vmi.Status.Interfaces; len(got) != 2 || got[0].Name != "default" || got[1].Name != "attachnet1" || got[1].IPAddress != bothAddress {
		t.Errorf("status.interfaces of the machine on two networks: %+v", got)
	}
	type entry struct {
		Name, Interface, MAC string
		IPs                  []string
		Default              bool
	}
	pod := &corev1.Pod{}
	var list []entry
	waitFor(t, "the pod's network-status", func() (bool, string) {
		if err := box.Client.Get(t.Context(), client.ObjectKey{Namespace: "wq-test", Name: podtemplate.PodName(vmi.Name, vmi.UID)}, pod); err != nil {
			return false, err.Error()
		}
		text := pod.Annotations["k8s.v1.cni.cncf.io/network-status"]
		return json.Unmarshal([]byte(text), &list) == nil, text
	})
	if len(list) != 2 || !list[0].Default || list[0].Interface != "eth0" || list[1].Name != "mec-nets/attachnet1" || list[1].Interface != link ||
		!slices.Equal(list[1].IPs, []string{bothAddress}) || list[1].MAC != vmi.Status.Interfaces[1].MAC {
		t.Errorf("network-status: %+v", list)
	}
	var networks []map[string]any
	if text := pod.Annotations["k8s.v1.cni.cncf.io/networks"]; json.Unmarshal([]byte(text), &networks) != nil || len(networks) != 1 || networks[0]["interface"] != link {
		t.Errorf("networks: %s", text)
	}
}

// restart kills the skerry process and starts it again.
func restart(t *testing.T) {
	t.Helper()
	text, err := box.PID()
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(text, &pid); err != nil {
		t.Fatalf("PID %q: %v", text, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill skerry: %v", err)
	}
	waitFor(t, "the skerry process to be gone", func() (bool, string) {
		_, err := os.Stat("/proc/" + text + "/exe")
		return err != nil, fmt.Sprint(err)
	})
	if err := up(); err != nil {
		t.Fatal(err)
	}
}
