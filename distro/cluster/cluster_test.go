// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/distro/pki"
	"github.com/skerry-dev/skerry/internal/hostinfo"
)

func complete(t *testing.T, c Config) *Config {
	t.Helper()
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n"})
	got := map[string]string{
		"data": c.DataDir, "run": c.RunDir, "bridge": c.Bridge, "cgroup": c.CgroupRoot, "node": c.NodeAddress().String(),
		"api": c.APIServiceAddress().String(), "dns": c.DNSServiceAddress().String(), "server": c.server(),
	}
	want := map[string]string{
		"data": "/var/lib/skerry", "run": "/run/skerry-host", "bridge": "skerry0", "cgroup": "/skerry", "node": "10.42.0.1",
		"api": "10.96.0.1", "dns": "10.96.0.10", "server": "https://127.0.0.1:6443",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	bound := complete(t, Config{NodeName: "n", BindAddress: "192.0.2.7"})
	if bound.NodeAddress().String() != "192.0.2.7" || bound.BridgeAddress().String() != "10.42.0.1" {
		t.Errorf("with a bind address: node %s, bridge %s", bound.NodeAddress(), bound.BridgeAddress())
	}
	other := complete(t, Config{NodeName: "n", DataDir: "/tmp/x"})
	if other.CgroupRoot == "/" || !strings.HasPrefix(other.CgroupRoot, "/skerry") {
		t.Errorf("a second cluster's cgroup: %s", other.CgroupRoot)
	}
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	ports := DefaultPorts()
	ports.DNS = ports.API
	low := DefaultPorts()
	low.Kubelet = -1
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"relative data dir", Config{DataDir: "x"}, `data dir "x": must be an absolute path`},
		{"long run dir", Config{RunDir: "/" + strings.Repeat("x", 80)}, "at most 60 bytes"},
		{"node name", Config{NodeName: "Upper_Case"}, `node name "Upper_Case"`},
		{"bridge", Config{Bridge: "this-is-too-long"}, "1 to 15 letters"},
		{"bridge like an option", Config{Bridge: "-x"}, "1 to 15 letters"},
		{"pod CIDR", Config{PodCIDR: "10.0.0.0/8"}, `pod CIDR "10.0.0.0/8"`},
		{"IPv6 pods", Config{PodCIDR: "fd00::/64"}, "IPv4 network"},
		{"overlap", Config{PodCIDR: "10.96.4.0/24"}, "apart from the pod CIDR"},
		{"bind address", Config{BindAddress: "0.0.0.0"}, "an IPv4 address of one of this machine's interfaces"},
		{"resize policy", Config{ResizePolicy: "Live"}, `resize policy "Live": must be InPlace, InPlaceOrMigrate or RestartOnly`},
		{"accelerator", Config{Accel: "xen"}, "auto, kvm or tcg"},
		{"one port twice", Config{Ports: ports}, "another than the API port"},
		{"port", Config{Ports: low}, `kubelet port "-1": must be 1 to 65535`},
	} {
		if err := c.cfg.Complete(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

// What up was given once holds until it is given something else.
func TestRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i, c := range []struct {
		renew        string
		policy       v1.ResizePolicy
		wantRenew    string
		wantedPolicy v1.ResizePolicy
	}{
		{"", "", "manual", v1.ResizeInPlace},
		{"", v1.ResizeRestartOnly, "manual", v1.ResizeRestartOnly},
		{"auto", "", "auto", v1.ResizeRestartOnly},
		{"", v1.ResizeInPlaceOrMigrate, "auto", v1.ResizeInPlaceOrMigrate},
		{"", "", "auto", v1.ResizeInPlaceOrMigrate},
		{"manual", v1.ResizeInPlace, "manual", v1.ResizeInPlace},
	} {
		got := complete(t, Config{NodeName: "n", DataDir: dir, Renew: c.renew, ResizePolicy: c.policy})
		if got.Renew != c.wantRenew || got.ResizePolicy != c.wantedPolicy {
			t.Errorf("start %d: renew %s, resize policy %s; want %s and %s", i, got.Renew, got.ResizePolicy, c.wantRenew, c.wantedPolicy)
		}
		if err := got.save(); err != nil {
			t.Fatal(err)
		}
		// What status and reset find.
		if later, err := Load(Config{DataDir: dir, RunDir: DefaultRunDir}); err != nil || later.ResizePolicy != c.wantedPolicy {
			t.Errorf("start %d: later commands find %+v, %v", i, later, err)
		}
	}
}

func TestClusterKeepsWhatItWasMadeWith(t *testing.T) {
	t.Parallel()
	old := complete(t, Config{NodeName: "n"})
	now := *old
	now.Accel, now.BindAddress = "tcg", "192.0.2.7"
	if err := now.unchanged(old); err != nil {
		t.Error(err)
	}
	now.PodCIDR = "10.43.0.0/24"
	if err := now.unchanged(old); err == nil || !strings.Contains(err.Error(), `pod CIDR "10.43.0.0/24": must stay "10.42.0.0/24"`) {
		t.Errorf("got %v", err)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n1", BindAddress: "192.0.2.7", DataDir: t.TempDir()})
	dir := pki.Dir(c.PKIDir())
	if _, err := dir.Ensure(c.certificates(), time.Now()); err != nil {
		t.Fatal(err)
	}
	type id struct {
		CN  string
		Org []string
		IPs []string
	}
	got := map[string]id{}
	for _, l := range c.certificates().Leaves {
		var ips []string
		for _, ip := range l.IPs {
			ips = append(ips, ip.String())
		}
		got[l.Name] = id{l.CommonName, l.Organization, ips}
	}
	node := []string{"192.0.2.7"}
	want := map[string]id{
		"apiserver":                 {CN: "kube-apiserver", IPs: []string{"127.0.0.1", "10.96.0.1", "192.0.2.7", "10.42.0.1"}},
		"apiserver-kubelet-client":  {CN: "kube-apiserver-kubelet-client", Org: []string{"system:masters"}},
		"front-proxy-client":        {CN: "front-proxy-client"},
		"admin":                     {CN: "skerry-admin", Org: []string{"system:masters"}},
		"kube-controller-manager":   {CN: "system:kube-controller-manager"},
		"kube-scheduler":            {CN: "system:kube-scheduler"},
		"kube-proxy":                {CN: "system:kube-proxy"},
		"kubelet":                   {CN: "system:node:n1", Org: []string{"system:nodes"}, IPs: node},
		"dns":                       {CN: "skerry:dns"},
		"skerry-controller":         {CN: "skerry-controller", Org: []string{"skerry:controllers"}},
		"skerry-controller-serving": {CN: "skerry-controller.skerry-system.svc", IPs: node},
		"skerry-node":               {CN: "skerry-node:n1", Org: []string{"skerry:nodes"}},
		"skerry-node-serving":       {CN: "n1.skerry-node", IPs: node},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := c.writeKubeconfigs(dir); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(c.Kubeconfig())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, mode %v", err, st.Mode())
	}
	b, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "https://192.0.2.7:6443") || strings.Contains(string(b), c.DataDir) {
		t.Errorf("the administrator's kubeconfig cannot be taken elsewhere:\n%s", b)
	}
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
	path, err := c.ensureEncryption()
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Resources []struct {
			Resources []string
			Providers []map[string]struct{ Keys []struct{ Secret string } }
		}
	}
	if err := yaml.UnmarshalStrict(first, &struct {
		Kind, APIVersion string
		Resources        any
	}{}); err != nil {
		t.Error(err)
	}
	if err := yaml.Unmarshal(first, &parsed); err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(parsed.Resources[0].Providers[0]["secretbox"].Keys[0].Secret)
	if err != nil || len(key) != 32 {
		t.Errorf("key of %d bytes, %v", len(key), err)
	}
	if _, err := c.ensureEncryption(); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); string(again) != string(first) {
		t.Error("the key changed with the second start")
	}
}

func TestMergedListener(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := listen(), listen()
	m := merge(a, b)
	if m.Addr() != a.Addr() {
		t.Errorf("address %s, want the first's", m.Addr())
	}
	for _, l := range []net.Listener{a, b, b, a} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := m.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if server.LocalAddr().String() != l.Addr().String() {
			t.Errorf("accepted on %s, dialled %s", server.LocalAddr(), l.Addr())
		}
		server.Close()
		client.Close()
	}
	waits := make(chan error)
	go func() { _, err := m.Accept(); waits <- err }()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; err == nil {
		t.Error("Accept after Close succeeded")
	}
	if _, err := net.Dial("tcp", b.Addr().String()); err == nil {
		t.Error("the second part still listens")
	}
	if err := m.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
	if pid, err := c.RunningPID(); pid != 0 || err != nil {
		t.Errorf("before: %d, %v", pid, err)
	}
	f, err := lock(c.LockFile())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(c.LockFile()); err == nil || !strings.Contains(err.Error(), "already running (PID ") {
		t.Errorf("second lock: %v", err)
	}
	if pid, err := c.RunningPID(); pid != os.Getpid() || err != nil {
		t.Errorf("while it runs: %d, %v", pid, err)
	}
	f.Close()
	if pid, err := c.RunningPID(); pid != 0 || err != nil {
		t.Errorf("after: %d, %v", pid, err)
	}
}

// A process that was killed and still has the lock does not count as running.
func TestEnding(t *testing.T) {
	t.Parallel()
	const stat = "7 (a) b) %s 1 7 7 0 -1 %d 0 0"
	const status = "Name:\ta) b\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\tffffffffffffffff\n"
	for name, c := range map[string]struct {
		state     string
		flags     int
		own, proc uint64
		want      bool
	}{
		"runs":                    {"S", 0x400000, 0, 0, false},
		"other signals wait":      {"S", 0x400000, 1 << 14, 1 << 14, false},
		"zombie":                  {"Z", 0x400000, 0, 0, true},
		"on its way":              {"R", 0x400004, 0, 0, true},
		"killed, has not run yet": {"S", 0x400000, 1 << 8, 0, true},
		"killed as a whole":       {"D", 0x400000, 0, 1 << 8, true},
	} {
		if got := ending(fmt.Sprintf(stat, c.state, c.flags), fmt.Sprintf(status, c.own, c.proc)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if ending("nonsense", "") {
		t.Error("nonsense counts as ending")
	}
	if dying(os.Getpid()) {
		t.Error("this process counts as dying")
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !dying(child.Process.Pid) { // killed: it is in one of the states above from now on
		time.Sleep(secondLook)
		if !dying(child.Process.Pid) {
			t.Error("a killed process does not count as dying")
		}
	}
	_ = child.Wait()
	if !dying(child.Process.Pid) {
		t.Error("a process that is gone does not count as dying")
	}
}

func TestMountOf(t *testing.T) {
	t.Parallel()
	const info = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /run rw shared:5 - tmpfs tmpfs rw
31 22 0:27 / /var/lib rw shared:7 master:1 - ext4 /dev/vdb rw
32 22 0:28 / /mnt/a\040b rw master:2 - tmpfs tmpfs rw
`
	for dir, want := range map[string]struct {
		point  string
		shared bool
	}{
		"/srv": {"/", false}, "/run/x": {"/run", true}, "/runner": {"/", false}, "/var/lib/skerry/kubelet": {"/var/lib", true}, "/mnt/a b/c": {"/mnt/a b", false},
	} {
		if p, s := mountOf(info, dir); p != want.point || s != want.shared {
			t.Errorf("%s: got %s, %v, want %s, %v", dir, p, s, want.point, want.shared)
		}
	}
}

func TestHasCapability(t *testing.T) {
	t.Parallel()
	const all, without = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n", "CapEff:\t000001fffeffffff\n"
	if !hostinfo.HasCapability(all, 24) || hostinfo.HasCapability(without, 24) || hostinfo.HasCapability("", 24) || hostinfo.HasCapability("CapEff:\tx\n", 24) {
		t.Error("CAP_SYS_RESOURCE is bit 24")
	}
}

func TestMaxPods(t *testing.T) {
	t.Parallel()
	for bits, want := range map[int]int32{16: 240, 24: 240, 26: 50, 28: 2} {
		if got := maxPods(bits); got != want {
			t.Errorf("/%d: got %d, want %d", bits, got, want)
		}
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 0, 0, 10, 500, time.UTC)
	node := func(status corev1.ConditionStatus, beat time.Time, taints ...string) *corev1.Node {
		n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: status, Reason: "R", Message: "M", LastHeartbeatTime: metav1.NewTime(beat)},
		}}}
		for _, key := range taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key})
		}
		return n
	}
	for _, c := range []struct {
		name string
		node *corev1.Node
		want string
	}{
		{"new", &corev1.Node{}, "its kubelet has not reported yet"},
		{"of an earlier start", node(corev1.ConditionTrue, since.Add(-time.Minute)), "its kubelet has not reported yet"},
		{"in the same second", node(corev1.ConditionTrue, since.Truncate(time.Second)), ""},
		{"not ready", node(corev1.ConditionFalse, since), "R: M"},
		{"tainted", node(corev1.ConditionTrue, since, corev1.TaintNodeNotReady), "taint node.kubernetes.io/not-ready is still there"},
		{"another taint", node(corev1.ConditionTrue, since, "example.org/x"), ""},
	} {
		if got := notReady(c.node, since); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNotServing(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 0, 0, 10, 0, time.UTC)
	n := &corev1.Node{}
	if got := notServing(n, since); !strings.Contains(got, "agent") {
		t.Errorf("no agent: %q", got)
	}
	n.Annotations = map[string]string{v1.HeartbeatAnnotation: since.Add(-time.Second).Format(time.RFC3339)}
	if got := notServing(n, since); !strings.Contains(got, "agent") {
		t.Errorf("an earlier agent: %q", got)
	}
	n.Annotations[v1.HeartbeatAnnotation] = since.Format(time.RFC3339)
	n.Status.Allocatable = corev1.ResourceList{v1.TunResource: resource.MustParse("10")}
	if got := notServing(n, since); got != "" {
		t.Errorf("all there: %q", got)
	}
}

func TestConstantMappings(t *testing.T) {
	t.Parallel()
	const maps = `00400000-00401000 r-xp 00000000 fe:00 1 /opt/skerry
00401000-00402000 r--p 00001000 fe:00 1 /opt/skerry
00402000-00403000 rw-p 00002000 fe:00 1 /opt/skerry
00403000-00404000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r--p 00000000 fe:00 2 /opt/other
`
	want := []mapping{{0x400000, 0x401000}, {0x401000, 0x402000}}
	if diff := cmp.Diff(want, constantMappings(strings.NewReader(maps), "/opt/skerry"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestArchivesMustBeThere(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", ImagesDir: t.TempDir()})
	if _, _, _, err := c.archives(); err == nil || !strings.Contains(err.Error(), filepath.Join(c.ImagesDir, "pause.tar")) {
		t.Errorf("got %v", err)
	}
}
