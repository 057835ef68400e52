// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/launcherimage"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/renew"
)

// oldImage and newImage are what launcher images say of themselves.
var oldImage, newImage = contract.ImageInfo{QEMUVersion: "11.1.3", Packages: map[string]string{qemuPackage: "1:11.1.3-1"}},
	contract.ImageInfo{QEMUVersion: "11.1.3", Packages: map[string]string{qemuPackage: "1:11.1.3-2"}}

// imageInfo is what the pod's files say: the image's own, and one that was placed.
func (p *pod) imageInfo(root string) ([]byte, error) {
	info := oldImage
	if root != "" {
		info = newImage
	}
	return json.Marshal(info)
}

// fakeImages is a node with a newer launcher image that runs nothing.
type fakeImages struct {
	img *launcherimage.Image
	try error
}

func (f fakeImages) Newest() (string, contract.ImageInfo, error) {
	return f.img.Name(), f.img.Info, nil
}
func (f fakeImages) Open() (*launcherimage.Image, error) { return f.img, nil }
func (f fakeImages) Try(context.Context) (renew.Candidate, error) {
	return renew.Candidate{Version: f.img.Info.QEMUVersion}, f.try
}

// makeImage makes a launcher image of a few files.
func makeImage(t *testing.T, info contract.ImageInfo) *launcherimage.Image {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(info)
	must(t, err)
	for name, text := range map[string]string{contract.ImageInfoFile: string(b), contract.QEMU: "qemu", contract.Launcher: "launcher"} {
		must(t, os.MkdirAll(filepath.Dir(dir+name), 0o755))
		must(t, os.WriteFile(dir+name, []byte(text), 0o755))
	}
	img, err := launcherimage.FromDir(dir)
	must(t, err)
	return img
}

// How a fake QEMU takes the command to migrate.
type outcome string

const (
	becomesNew outcome = "the launcher becomes the new QEMU"
	staysOld   outcome = "the launcher becomes the old QEMU"
	failsEarly outcome = "QEMU cannot write its state"
)

// renewableWorld has a running machine that can be renewed, and a newer QEMU.
func renewableWorld(t *testing.T, how *outcome) (*world, *pod) {
	t.Helper()
	w := newWorld(t, testVMI())
	w.images = fakeImages{img: makeImage(t, newImage)}
	p := w.addPod(testPod)
	must(t, os.Mkdir(p.path(contract.NextVolume, ""), 0o777))
	answersForRenewal(p)
	var mu sync.Mutex
	var command []string
	p.qemu.Handle("migrate-set-parameters", func(args json.RawMessage) (any, error) {
		var a struct {
			Mode    string   `json:"mode"`
			Command []string `json:"cpr-exec-command"`
		}
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if a.Mode == "cpr-exec" {
			command = a.Command
		}
		return nil, nil
	})
	migration := "none"
	p.qemu.Handle("query-migrate", func(json.RawMessage) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		if migration == "none" {
			return map[string]any{}, nil
		}
		return map[string]any{"status": migration, "error-desc": "no space"}, nil
	})
	p.qemu.Handle("migrate", func(json.RawMessage) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		r, err := contract.ParseRenewal(command[1:])
		if err != nil {
			t.Errorf("the command: %v", err)
			return nil, err
		}
		// What QEMU executes must be there by now.
		next := contract.NextOf(r.New[0])
		if _, err := os.Stat(p.path(contract.NextVolume, next) + contract.Launcher); err != nil || command[0] != contract.NextRoot(next)+contract.Launcher {
			t.Errorf("the launcher %s: %v", command[0], err)
		}
		switch *how {
		case failsEarly:
			migration = "failed"
			return nil, nil
		case staysOld:
			b, err := json.Marshal(contract.Renewed{Error: "the new QEMU ended"})
			must(t, err)
			must(t, os.WriteFile(p.path(contract.RunVolume, contract.RenewResult), b, 0o600))
			p.program.Store(r.Old[0])
		case becomesNew:
			p.program.Store(r.New[0])
		}
		p.qemu.Drop()
		return nil, nil
	})
	w.start()
	p.boot()
	w.until("phase Running", running)
	w.served()
	return w, p
}

// served waits until the agent has the machine's monitor.
func (w *world) served() {
	w.t.Helper()
	w.poll(func() bool { g := w.agent.guestOf(testUID); return g != nil && g.monitor() != nil }, func() string { return "no monitor" })
}

// answersForRenewal has the fake QEMU be what its command line says.
func answersForRenewal(p *pod) {
	list := func(v ...any) func(json.RawMessage) (any, error) {
		return func(json.RawMessage) (any, error) { return append([]any{}, v...), nil }
	}
	type object = map[string]any
	p.qemu.Handle("query-migrate-capabilities", list())
	p.qemu.Handle("query-memdev", list(object{"id": "ram0", "share": true}))
	p.qemu.Handle("query-hotpluggable-cpus", list())
	p.qemu.Handle("query-memory-devices", list())
	named := func(option, key string) []any {
		out := []any{}
		b, err := os.ReadFile(p.path(contract.MachineVolume, contract.MachineFile))
		var m contract.Machine
		if err != nil || json.Unmarshal(b, &m) != nil {
			return out
		}
		for i, w := range m.Argv {
			var o object
			if w == option && json.Unmarshal([]byte(m.Argv[i+1]), &o) == nil {
				out = append(out, object{"name": o[key], "node-name": o[key], "type": "child<x>"})
			}
		}
		return out
	}
	p.qemu.Handle("query-named-block-nodes", func(json.RawMessage) (any, error) { return named("-blockdev", "node-name"), nil })
	p.qemu.Handle("qom-list", func(args json.RawMessage) (any, error) {
		if strings.Contains(string(args), "/machine/peripheral") {
			return named("-device", "id"), nil
		}
		return named("-object", "id"), nil
	})
}

func (w *world) renew() error {
	return backend{w.agent}.Renew(w.t.Context(), nodeapi.VMIRef{Namespace: "default", Name: "vm1", UID: testUID})
}

func hasReason(reason string) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool {
		c := vmi.Status.Condition(v1.VMIRenewable)
		return c != nil && c.Reason == reason
	}
}

// record is machine.json.
func (p *pod) record() contract.Machine {
	p.t.Helper()
	var m contract.Machine
	b, err := os.ReadFile(p.path(contract.MachineVolume, contract.MachineFile))
	must(p.t, err)
	must(p.t, json.Unmarshal(b, &m))
	return m
}

// placed are the images in the pod's volume.
func (p *pod) placed() []string {
	p.t.Helper()
	root, err := os.OpenRoot(p.path(contract.NextVolume, ""))
	must(p.t, err)
	defer root.Close()
	names, err := launcherimage.Placed(root)
	must(p.t, err)
	return names
}

func TestRenew(t *testing.T) {
	t.Parallel()
	how := becomesNew
	w, p := renewableWorld(t, &how)
	w.until("outdated", hasReason(v1.RenewableOutdated))
	before := p.record()
	must(t, w.renew())
	name, _, _ := w.images.Newest()
	vmi := w.until("up to date", hasReason(v1.RenewableUpToDate))
	if d := cmp.Diff(&v1.QEMUStatus{Version: "11.1.3", Package: "1:11.1.3-2", Renewed: name}, vmi.Status.QEMU); d != "" {
		t.Errorf("status.qemu (-want +got):\n%s", d)
	}
	want := before
	want.Version, want.Next = contract.Version, name
	if d := cmp.Diff(want, p.record()); d != "" {
		t.Errorf("machine.json (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{name}, p.placed()); d != "" {
		t.Error(d)
	}
	w.wantEvents("Normal Created", "Normal Started", "Normal Renewed")
	calls := p.qemu.Count("migrate")
	must(t, w.renew())
	if n := p.qemu.Count("migrate"); n != calls {
		t.Error("a machine that is up to date was renewed again")
	}
}

func TestRenewFails(t *testing.T) {
	t.Parallel()
	for how, says := range map[outcome]string{staysOld: "the new QEMU ended", failsEarly: "no space"} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			w, p := renewableWorld(t, &how)
			before := p.record()
			if err := w.renew(); err == nil || !strings.Contains(err.Error(), says) {
				t.Fatalf("error %v, want one with %q", err, says)
			}
			vmi := w.until("failed", hasReason(v1.RenewableFailed))
			if c := vmi.Status.Condition(v1.VMIRenewable); !strings.Contains(c.Message, says) {
				t.Errorf("condition: %s", c.Message)
			}
			if d := cmp.Diff(before, p.record()); d != "" {
				t.Errorf("machine.json changed:\n%s", d)
			}
			if left := p.placed(); len(left) > 0 {
				t.Errorf("left in the pod: %v", left)
			}
			w.wantEvents("Normal Created", "Normal Started", "Warning RenewFailed")
			// Whoever asks again gets another try.
			how = becomesNew
			must(t, w.renew())
			w.until("up to date", hasReason(v1.RenewableUpToDate))
		})
	}
}

// A new QEMU that cannot even tell its version never sees the machine.
func TestRenewTriesFirst(t *testing.T) {
	t.Parallel()
	how := becomesNew
	w, p := renewableWorld(t, &how)
	images := w.images.(fakeImages)
	images.try = errors.New("missing library")
	w.crash()
	w.images = images
	w.start()
	w.served()
	if err := w.renew(); err == nil || !strings.Contains(err.Error(), "missing library") {
		t.Errorf("error %v", err)
	}
	if n := p.qemu.Count("migrate"); n != 0 {
		t.Error("the machine was touched")
	}
}

// The agent dies between any two steps; the next one finishes or begins again.
func TestRenewCrashes(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"agent.renew.before-place", "agent.renew.before-migrate", "agent.renew.before-exec", "agent.renew.after-exec"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			how := becomesNew
			w, p := renewableWorld(t, &how)
			crashed := make(chan struct{})
			agent := w.agent.ctx // of the one that dies; start makes another
			w.mu.Lock()
			w.fail = func(s string) error {
				if s != step {
					return nil
				}
				close(crashed)
				<-agent.Done()
				return agent.Err()
			}
			w.mu.Unlock()
			go func() { _ = w.renew() }()
			<-crashed
			w.crash()
			w.mu.Lock()
			w.fail = nil
			w.mu.Unlock()
			w.start()
			name, _, _ := w.images.Newest()
			if step == "agent.renew.after-exec" {
				// Nobody has to do anything: the new agent sees what runs.
				w.until("up to date", hasReason(v1.RenewableUpToDate))
			} else {
				w.until("outdated", hasReason(v1.RenewableOutdated))
				w.poll(func() bool { return w.renew() == nil }, func() string { return fmt.Sprint(w.renew()) })
			}
			w.poll(func() bool { return p.record().Next == name }, func() string { return p.record().Next })
			if d := cmp.Diff([]string{name}, p.placed()); d != "" {
				t.Error(d)
			}
		})
	}
}

// Pods of the first contract have no volume for a newer QEMU.
func TestFirstContractIsNotRenewable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	w.images = fakeImages{img: makeImage(t, newImage)}
	p := w.addPod(testPod)
	w.start()
	p.boot()
	w.until("not renewable", hasReason(v1.RenewablePodContract))
	w.served()
	if err := w.renew(); err == nil || !strings.Contains(err.Error(), "PodContract") {
		t.Errorf("error %v", err)
	}
	if m := p.record(); m.Version != 1 {
		t.Errorf("machine.json of version %d for a launcher of contract 1", m.Version)
	}
}

func TestRenewByItself(t *testing.T) {
	t.Parallel()
	how := becomesNew
	w, _ := renewableWorld(t, &how)
	w.crash()
	w.renewals = make(chan struct{}, 1)
	w.start()
	a := w.agent
	done := make(chan struct{})
	go func() { a.renewAll(a.ctx); close(done) }()
	w.until("up to date", hasReason(v1.RenewableUpToDate))
	w.crash()
	<-done
}
