// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/dhcp"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/podnet"
	"github.com/skerry-dev/skerry/internal/qmp/qmptest"
)

const (
	testNode = "edge-1"
	testPod  = "0d2c5a54-1c0e-4b7e-9d0e-3a9a3c1f5e11"
	testUID  = "7d6e5f40-0000-4000-8000-3a9a3c1f5e22"
)

// world is everything around an agent: the API server, the node and its pods.
// Agents come and go in it.
type world struct {
	t      *testing.T
	root   string
	client client.Client
	events *recorder
	net    *fakeNetwork
	// attach and definitions are for machines on networks beside the pods' own.
	attach      *fakeAttacher
	definitions fakeDefinitions

	mu    sync.Mutex
	pods  map[string]*pod
	agent *agent
	stop  func()
	// patches counts the writes of instances.
	patches int
	// images is where agents find a newer QEMU.
	images   imageSource
	renewals chan struct{}
	// tune changes the agents' times.
	tune func(*times)
	// fail is the agents' failpoint.
	fail func(step string) error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := kruntime.NewScheme()
	must(t, v1.AddToScheme(scheme))
	must(t, clientgoscheme.AddToScheme(scheme))
	// Short, for the sockets in it.
	root, err := os.MkdirTemp("", "sk")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	w := &world{t: t, root: root, events: &recorder{}, net: &fakeNetwork{}, pods: map[string]*pod{}}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&corev1.Node{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if _, ok := obj.(*v1.VirtualMachineInstance); ok {
					w.mu.Lock()
					w.patches++
					w.mu.Unlock()
				}
				return c.Patch(ctx, obj, patch, opts...)
			},
		}).Build()
	t.Cleanup(w.crash)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a new agent.
func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{
		node: testNode, kubeletRoot: w.root, accel: machine.TCG, arch: "amd64",
		log: slog.New(slog.DiscardHandler), events: w.events, network: w.net, now: time.Now,
		owner: podfs.Owner{UID: -1, GID: -1, Mode: 0o440}, times: defaultTimes(),
		guests: map[types.UID]*guest{}, ctx: ctx, images: w.images, renewals: w.renewals,
		failpoint: func(step string) error {
			w.mu.Lock()
			fail := w.fail
			w.mu.Unlock()
			if fail == nil {
				return nil
			}
			return fail(step)
		},
	}
	a.dial = w.dial
	a.definitions = w.definitions
	if w.attach != nil {
		a.attach = w.attach
	}
	a.times.look = [2]time.Duration{time.Millisecond, 10 * time.Millisecond}
	a.times.retry = [2]time.Duration{time.Millisecond, 20 * time.Millisecond}
	a.times.quietStatus = time.Millisecond
	a.times.resume = [2]time.Duration{20 * time.Millisecond, 50 * time.Millisecond}
	a.times.askAgain = []time.Duration{5 * time.Millisecond}
	a.cgroupRoot = filepath.Join(w.root, "cgroup")
	a.times.resize = resizeTimes{
		look: [2]time.Duration{time.Millisecond, 5 * time.Millisecond}, soon: 5 * time.Millisecond, online: time.Millisecond,
		ask: 5 * time.Millisecond, driver: 50 * time.Millisecond, boot: 50 * time.Millisecond,
		take: 100 * time.Millisecond, give: 50 * time.Millisecond, giveAgain: 50 * time.Millisecond,
	}
	if w.tune != nil {
		w.tune(&a.times)
	}
	// A host allows few of them; without one the agent polls.
	notify, err := podfs.NewNotifier()
	if err == nil {
		a.notify = notify
	}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](time.Millisecond, 20*time.Millisecond))
	a.enqueue = queue.Add
	r := &reconciler{agent: a, client: w.client}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			name, quit := queue.Get()
			if quit {
				return
			}
			res, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: name})
			switch {
			case err != nil:
				queue.AddRateLimited(name)
			case res.RequeueAfter > 0:
				queue.AddAfter(name, res.RequeueAfter)
			default:
				queue.Forget(name)
			}
			queue.Done(name)
		}
	}()
	list := &v1.VirtualMachineInstanceList{}
	must(w.t, w.client.List(ctx, list))
	for i := range list.Items {
		queue.Add(client.ObjectKeyFromObject(&list.Items[i]))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agent = a
	w.stop = func() {
		cancel()
		queue.ShutDown()
		<-done
		a.close()
		if notify != nil {
			notify.Close()
		}
	}
}

// crash ends the agent; nothing of it is left but what it did to the world.
func (w *world) crash() {
	w.mu.Lock()
	stop := w.stop
	w.stop = nil
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (w *world) kick() { w.agent.enqueue(types.NamespacedName{Namespace: "default", Name: "vm1"}) }

func (w *world) vmi() *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{}
	err := w.client.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: "vm1"}, vmi)
	must(w.t, err)
	return vmi
}

// change changes the instance as another writer would, and lets the agent see it.
func (w *world) change(f func(*v1.VirtualMachineInstance)) {
	w.t.Helper()
	for {
		vmi := w.vmi()
		f(vmi)
		err := w.client.Update(context.Background(), vmi)
		if err == nil {
			break
		}
		if client.IgnoreNotFound(err) == nil {
			w.t.Fatal(err)
		}
	}
	w.kick()
}

// until waits for the instance to be as wanted.
func (w *world) until(what string, ok func(*v1.VirtualMachineInstance) bool) *v1.VirtualMachineInstance {
	w.t.Helper()
	var last *v1.VirtualMachineInstance
	w.poll(func() bool { last = w.vmi(); return ok(last) }, func() string {
		b, _ := json.MarshalIndent(last.Status, "", "  ")
		return what + " did not come to be; status:\n" + string(b)
	})
	return last
}

func (w *world) poll(ok func() bool, describe func() string) {
	w.t.Helper()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-limit:
			w.t.Fatal(describe())
		case <-time.After(time.Millisecond):
		}
	}
}

func running(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Running }

func has(t v1.VirtualMachineInstanceConditionType) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Condition(t) != nil }
}

func hasNot(t v1.VirtualMachineInstanceConditionType) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Condition(t) == nil }
}

var testRef = nodeapi.VMIRef{Namespace: "default", Name: "vm1", UID: testUID}

// testVMI is an instance that was scheduled to the agent's node.
func testVMI() *v1.VirtualMachineInstance {
	guest := resource.MustParse("128Mi")
	return &v1.VirtualMachineInstance{
		TypeMeta: metav1.TypeMeta{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "vm1", UID: testUID, Labels: map[string]string{v1.NodeNameLabel: testNode},
			Finalizers: []string{v1.VMIFinalizer},
		},
		Spec: v1.VirtualMachineInstanceSpec{
			Domain: v1.DomainSpec{
				Memory: &v1.Memory{Guest: &guest},
				Devices: v1.Devices{
					Disks: []v1.Disk{
						{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}},
						{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}},
					},
					Interfaces: []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}},
				},
			},
			Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}},
			Volumes: []v1.Volume{
				{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: "registry.example/debian:12"}},
				{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#cloud-config\n"}},
			},
		},
		Status: v1.VirtualMachineInstanceStatus{
			Phase: v1.Scheduled, NodeName: testNode, ActivePods: map[string]string{testPod: testNode},
		},
	}
}

// fakeNetwork connects nothing.
type fakeNetwork struct {
	mu     sync.Mutex
	setups []podnet.Config
	// dhcp are the servers that run: one that ends may outlive the start of its successor.
	dhcp map[*dhcp.Config]bool
	err  error
}

func (n *fakeNetwork) Setup(_ context.Context, _ *os.File, c podnet.Config) ([]podnet.Attached, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return nil, n.err
	}
	n.setups = append(n.setups, c)
	var out []podnet.Attached
	for i, nic := range c.NICs {
		mac := nic.MAC
		if mac == nil {
			mac = net.HardwareAddr{2, 0x5a, 0, 0, 0, byte(i + 1)}
		}
		out = append(out, podnet.Attached{
			Name: nic.Name, Binding: nic.Binding, Tap: fmt.Sprintf("tap%d", i), Bridge: fmt.Sprintf("br%d", i),
			PodInterface: "eth0", MAC: mac, MTU: 1500,
			PodIPs:     []netip.Addr{netip.MustParseAddr("10.42.0.7"), netip.MustParseAddr("fd42::7")},
			Addresses:  []netip.Prefix{netip.MustParsePrefix("10.0.2.2/24")},
			Routes:     []podnet.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.2.1")}},
			DHCPServer: netip.MustParseAddr("10.0.2.1"),
		})
	}
	return out, nil
}

func (n *fakeNetwork) ServeDHCP(ctx context.Context, _ *os.File, c dhcp.Config) error {
	n.mu.Lock()
	if n.dhcp == nil {
		n.dhcp = map[*dhcp.Config]bool{}
	}
	n.dhcp[&c] = true
	n.mu.Unlock()
	<-ctx.Done()
	n.mu.Lock()
	delete(n.dhcp, &c)
	n.mu.Unlock()
	return nil
}

func (n *fakeNetwork) set(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *fakeNetwork) servers() map[string]dhcp.Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]dhcp.Config{}
	for c := range n.dhcp {
		out[c.Interface] = *c
	}
	return out
}

// recorder keeps Events.
type recorder struct {
	mu   sync.Mutex
	list []string
}

func (r *recorder) Eventf(_, _ kruntime.Object, kind, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// reasons are the Events without their texts.
func (r *recorder) reasons() []string {
	var out []string
	for _, e := range r.all() {
		var kind, reason string
		_, _ = fmt.Sscan(e, &kind, &reason)
		out = append(out, kind+" "+reason)
	}
	return out
}

func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	w.poll(func() bool { return cmp.Equal(want, w.events.reasons()) }, func() string {
		return "events: " + cmp.Diff(want, w.events.reasons()) + fmt.Sprint(w.events.all())
	})
}

// pod is a machine's pod on the node, with its launcher and QEMU.
type pod struct {
	t    *testing.T
	dir  string
	qemu *qmptest.Server
	// exited is closed when its process has ended.
	exited  chan struct{}
	once    sync.Once
	program atomic.Value // string: what its process runs, when not the image's QEMU
	out     *os.File     // the container's log, to read
	stdout  *os.File
	machine contract.Machine

	launcher net.Listener
	// refuse is what the launcher answers instead of starting.
	refuse string
	hello  string
}

func (w *world) addPod(uid string) *pod {
	w.t.Helper()
	base := filepath.Join(w.root, "pods", uid, "volumes")
	for _, v := range []string{contract.RunVolume, contract.MachineVolume, contract.LogVolume, contract.DiskVolume} {
		must(w.t, os.MkdirAll(filepath.Join(base, "kubernetes.io~empty-dir", v), 0o777))
	}
	must(w.t, os.MkdirAll(filepath.Join(base, "kubernetes.io~secret"), 0o755))
	r, out, err := os.Pipe()
	must(w.t, err)
	p := &pod{t: w.t, dir: base, qemu: qmptest.New(), exited: make(chan struct{}), out: r, stdout: out}
	hello, err := json.Marshal(contract.Hello{Contract: 1, Launcher: "test", Image: contract.ImageInfo{QEMUVersion: "11.1.3"}})
	must(w.t, err)
	p.hello = string(hello)
	w.mu.Lock()
	w.pods[uid] = p
	w.mu.Unlock()
	w.t.Cleanup(func() { p.exit(); r.Close(); out.Close() })
	return p
}

func (p *pod) path(volume, name string) string {
	return filepath.Join(p.dir, "kubernetes.io~empty-dir", volume, name)
}

// listen makes a socket in the pod, however long its path.
func (p *pod) listen(name string) net.Listener {
	f, err := os.Open(p.path(contract.RunVolume, ""))
	must(p.t, err)
	defer f.Close()
	ln, err := net.Listen("unix", "/proc/self/fd/"+strconv.Itoa(int(f.Fd()))+"/"+name)
	must(p.t, err)
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	return ln
}

// boot starts the launcher.
func (p *pod) boot() {
	p.launcher = p.listen(contract.LauncherSocket)
	go func() {
		for {
			conn, err := p.launcher.Accept()
			if err != nil {
				return
			}
			if p.serve(conn) {
				return
			}
		}
	}()
}

// serve talks to an agent and tells whether the launcher is done.
func (p *pod) serve(conn net.Conn) bool {
	defer conn.Close()
	if _, err := io.WriteString(conn, p.hello+"\n"); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	var start contract.Start
	if err != nil || json.Unmarshal(line, &start) != nil || !start.Start {
		return false
	}
	b, err := os.ReadFile(p.path(contract.MachineVolume, contract.MachineFile))
	if err != nil || json.Unmarshal(b, &p.machine) != nil {
		p.t.Errorf("machine.json: %v", err)
		return false
	}
	result, _ := json.Marshal(contract.Result{Error: p.refuse})
	_, _ = conn.Write(append(result, '\n'))
	if p.refuse != "" {
		p.exit()
		return true
	}
	p.launcher.Close()
	_ = os.Remove(p.path(contract.RunVolume, contract.LauncherSocket))
	p.becomeQEMU()
	return true
}

// becomeQEMU opens QEMU's sockets.
func (p *pod) becomeQEMU() {
	f, err := os.OpenFile(p.path(contract.LogVolume, contract.ConsoleLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(p.t, err)
	f.Close()
	p.qemu.ServeListener(p.listen(contract.QMPSocket))
	go func() {
		<-p.qemu.Exited()
		p.exit()
	}()
}

// print is the guest's output on its console.
func (p *pod) print(s string) {
	f, err := os.OpenFile(p.path(contract.LogVolume, contract.ConsoleLog), os.O_APPEND|os.O_WRONLY, 0)
	must(p.t, err)
	defer f.Close()
	_, err = f.WriteString(s)
	must(p.t, err)
}

// exit is the end of the pod's process.
func (p *pod) exit() {
	p.once.Do(func() {
		if p.launcher != nil {
			p.launcher.Close()
		}
		p.qemu.Shutdown()
		close(p.exited)
	})
}

func (w *world) dial(ctx context.Context, dir *podfs.Dir, socket, podUID string) (net.Conn, process, error) {
	w.mu.Lock()
	p := w.pods[podUID]
	w.mu.Unlock()
	if p == nil {
		return nil, nil, os.ErrNotExist
	}
	conn, err := dir.DialUnix(ctx, socket)
	if err != nil {
		return nil, nil, err
	}
	return conn, fakeProcess{p}, nil
}

// fakeProcess is the pod's process.
type fakeProcess struct{ *pod }

func (p fakeProcess) PID() int                 { return 4242 }
func (p fakeProcess) Done() <-chan struct{}    { return p.exited }
func (p fakeProcess) NetNS() (*os.File, error) { return os.Open("/proc/self/ns/net") }
func (p fakeProcess) Close() error             { return nil }

func (p fakeProcess) Stdout() (console.Output, error) {
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(p.stdout.Fd())), os.O_WRONLY, 0)
}

func (p fakeProcess) ReadInRoot(path string, _ int64) ([]byte, error) {
	if strings.HasSuffix(path, contract.ImageInfoFile) {
		return p.imageInfo(strings.TrimSuffix(path, contract.ImageInfoFile))
	}
	return []byte("search default.svc.cluster.local\nnameserver 10.96.0.10\n"), nil
}

func (p fakeProcess) HasDevice(string) (bool, error) { return false, nil }

// DeviceSize is of a file beside the pod's volumes.
func (p fakeProcess) DeviceSize(path string) (int64, error) {
	st, err := os.Stat(filepath.Join(p.dir, filepath.Base(path)+".device"))
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (p fakeProcess) OwnDevice(path string, uid, gid int) error {
	if uid != 107 || gid != 107 {
		return fmt.Errorf("given to %d:%d", uid, gid)
	}
	return os.WriteFile(filepath.Join(p.dir, filepath.Base(path)+".owned"), nil, 0o600)
}

func (p fakeProcess) Exe() (string, error) {
	if s, ok := p.program.Load().(string); ok {
		return s, nil
	}
	return contract.QEMU, nil
}
func (p fakeProcess) Cgroups() ([]byte, error) {
	return []byte("0::/kubepods/pod" + testPod + "/c\n"), nil
}
