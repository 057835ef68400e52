// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/cniplugin"
	"github.com/skerry-dev/skerry/internal/netattach"
)

// fakeAttacher attaches to nothing.
type fakeAttacher struct {
	mu       sync.Mutex
	err      error
	foreign  bool
	attached []string // pod and interface
	configs  []string
	detached []string
	pods     []string
}

func (f *fakeAttacher) Attach(ctx context.Context, pod cniplugin.Pod, _ *os.File, wanted []cniplugin.Wanted) ([]*netattach.Attachment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	var out []*netattach.Attachment
	for _, w := range wanted {
		f.attached = append(f.attached, pod.UID+" "+pod.Name+" "+w.Interface+" "+w.Definition)
		if f.foreign {
			out = append(out, nil)
			continue
		}
		c, err := w.Config(ctx)
		if err != nil {
			return nil, err
		}
		f.configs = append(f.configs, string(c.List))
		out = append(out, &netattach.Attachment{IPs: []netattach.IP{{Address: netip.MustParsePrefix("10.9.0.5/24"), Gateway: netip.MustParseAddr("10.9.0.1")}}})
	}
	return out, nil
}

func (f *fakeAttacher) Detach(_ context.Context, podUID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.detached = append(f.detached, podUID)
	return nil
}

func (f *fakeAttacher) Pods() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pods), nil
}

func (f *fakeAttacher) all() (attached, detached []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.attached), slices.Clone(f.detached)
}

type fakeDefinitions map[types.NamespacedName]string

func (f fakeDefinitions) Config(_ context.Context, name types.NamespacedName) (string, error) {
	if text, ok := f[name]; ok {
		return text, nil
	}
	return "", errors.New("there is no NetworkAttachmentDefinition " + name.String())
}

// onLAN is a machine on the pod network and on x/lan, whose default route it has.
func onLAN() *v1.VirtualMachineInstance {
	vmi := testVMI()
	vmi.Annotations = map[string]string{"lan.x.ovn.kubernetes.io/default_route": "true"}
	vmi.Spec.Networks = append(vmi.Spec.Networks, v1.Network{Name: "data", Multus: &v1.MultusNetwork{NetworkName: "x/lan"}})
	vmi.Spec.Domain.Devices.Interfaces = append(vmi.Spec.Domain.Devices.Interfaces, v1.Interface{Name: "data", Bridge: &v1.InterfaceBridge{}})
	return vmi
}

func TestAttachedMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onLAN())
	w.attach = &fakeAttacher{err: errors.New("no such master")}
	w.definitions = fakeDefinitions{{Namespace: "x", Name: "lan"}: `{"name":"lan","type":"macvlan"}`}
	w.start()
	p := w.addPod(testPod)
	p.boot()
	w.until("the network's problem", func(vmi *v1.VirtualMachineInstance) bool {
		c := vmi.Status.Condition(v1.VMISynchronized)
		return c != nil && c.Reason == problemNetwork && strings.Contains(c.Message, "no such master")
	})
	w.attach.mu.Lock()
	w.attach.err = nil
	w.attach.mu.Unlock()
	w.until("phase Running", running)
	vmi := w.vmi()
	link := netattach.InterfaceName("data")
	attached, _ := w.attach.all()
	if len(attached) != 1 || !strings.HasPrefix(attached[0], testPod+" virt-launcher-vm1-") || !strings.HasSuffix(attached[0], " "+link+" x/lan") {
		t.Errorf("attached: %v", attached)
	}
	// A MAC that is the same at every start is asked for.
	if got := w.attach.configs[0]; !strings.Contains(got, `"args":{"cni":{"mac":"02:`) {
		t.Errorf("configuration %s", got)
	}
	if st := vmi.Status; len(st.NetworkStatus) != 2 || st.NetworkStatus[1].Name != "x/lan" || len(st.Interfaces) != 2 || st.Interfaces[1].InfoSource != "domain, multus-status" {
		t.Errorf("status: %+v, %+v", st.NetworkStatus, st.Interfaces)
	}
	var routers []bool
	for _, tap := range []string{"tap0", "tap1"} {
		routers = append(routers, len(w.net.servers()[tap].Routes) > 0)
	}
	if diff := cmp.Diff([]bool{false, true}, routers); diff != "" {
		t.Errorf("which server tells of a default route (-want +got):\n%s", diff)
	}
	p.exit()
	w.poll(func() bool { _, detached := w.attach.all(); return slices.Contains(detached, testPod) }, func() string { return "the pod is still attached" })
}

// Multus attached the pod: what it did is used, and nothing is reported in its place.
func TestAttachedByOthers(t *testing.T) {
	t.Parallel()
	vmi := onLAN()
	vmi.Annotations = nil
	w := newWorld(t, vmi)
	w.attach = &fakeAttacher{foreign: true}
	w.start()
	w.addPod(testPod).boot()
	w.until("phase Running", running)
	if st := w.vmi().Status; st.NetworkStatus != nil || len(st.Interfaces) != 2 {
		t.Errorf("status: %+v, %+v", st.NetworkStatus, st.Interfaces)
	}
}

func TestSweepNetworks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f := &fakeAttacher{pods: []string{"gone", "there"}}
	a := &agent{kubeletRoot: root, attach: f}
	if err := a.sweepOnce(t.Context()); err == nil || len(f.detached) > 0 {
		t.Errorf("without the kubelet's directory: %v, %v", err, f.detached)
	}
	must(t, os.MkdirAll(filepath.Join(root, "pods", "there"), 0o755))
	must(t, a.sweepOnce(t.Context()))
	if diff := cmp.Diff([]string{"gone"}, f.detached); diff != "" {
		t.Errorf("detached (-want +got):\n%s", diff)
	}
}
