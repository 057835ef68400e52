// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/qmp/qmptest"
)

// claimVMI is testVMI with a claim with a file system and one without.
func claimVMI() *v1.VirtualMachineInstance {
	vmi := testVMI()
	for _, c := range []struct{ volume, mode string }{{"data", "Filesystem"}, {"raw", "Block"}} {
		vmi.Spec.Volumes = append(vmi.Spec.Volumes, v1.Volume{Name: c.volume, PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: c.volume}})
		vmi.Spec.Domain.Devices.Disks = append(vmi.Spec.Domain.Devices.Disks, v1.Disk{Name: c.volume, Disk: &v1.DiskTarget{Bus: "virtio"}})
		vmi.Status.VolumeStatus = append(vmi.Status.VolumeStatus, v1.VolumeStatus{Name: c.volume, PersistentVolumeClaimInfo: &v1.PersistentVolumeClaimInfo{
			ClaimName: c.volume, VolumeMode: c.mode, FilesystemOverhead: "0", Capacity: map[string]resource.Quantity{"storage": resource.MustParse("64Mi")},
		}})
	}
	return vmi
}

// disks is QEMU's side of block_resize.
type disks struct {
	mu    sync.Mutex
	sizes map[string]int64
	calls []string
	err   error
}

func (d *disks) serve(p *pod) {
	p.qemu.Handle("query-named-block-nodes", func(json.RawMessage) (any, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		list := []map[string]any{}
		for name, size := range d.sizes {
			list = append(list, map[string]any{"node-name": name, "drv": "raw", "image": map[string]any{"virtual-size": size}})
		}
		return list, nil
	})
	p.qemu.Handle("block_resize", func(args json.RawMessage) (any, error) {
		var a struct {
			Node string `json:"node-name"`
			Size int64  `json:"size"`
		}
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.err != nil {
			return nil, &qmptest.Error{Class: "GenericError", Desc: d.err.Error()}
		}
		if a.Size < d.sizes[a.Node] {
			return nil, fmt.Errorf("%s becomes smaller", a.Node)
		}
		d.sizes[a.Node] = a.Size
		d.calls = append(d.calls, fmt.Sprint(a.Node, " ", a.Size>>20))
		return map[string]any{}, nil
	})
}

func (d *disks) done() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

func (p *pod) device(name string, mib int64) {
	file := filepath.Join(p.dir, name+".device")
	must(p.t, os.WriteFile(file, nil, 0o600))
	must(p.t, os.Truncate(file, mib<<20))
}

// capacity is what a claim becomes.
func capacity(volume, size string) func(*v1.VirtualMachineInstance) {
	return func(vmi *v1.VirtualMachineInstance) {
		for i := range vmi.Status.VolumeStatus {
			if s := &vmi.Status.VolumeStatus[i]; s.Name == volume {
				s.PersistentVolumeClaimInfo.Capacity = map[string]resource.Quantity{"storage": resource.MustParse(size)}
			}
		}
	}
}

func shows(volume string, mib int64) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool {
		return slices.ContainsFunc(vmi.Status.VolumeStatus, func(s v1.VolumeStatus) bool { return s.Name == volume && s.Size == mib<<20 })
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, claimVMI())
	p := w.addPod(testPod)
	d := &disks{sizes: map[string]int64{"d-root": 1 << 20, "d-data": 64 << 20, "d-raw": 64 << 20}}
	d.serve(p)
	p.device("raw", 64)
	w.start()
	p.boot()
	w.until("sizes in the status", func(vmi *v1.VirtualMachineInstance) bool {
		return running(vmi) && shows("data", 64)(vmi) && shows("raw", 64)(vmi)
	})
	want := []contract.Claim{{Volume: "data", FD: contract.FirstClaimFD, Size: 64 << 20}, {Volume: "raw", FD: contract.FirstClaimFD + 1, Block: true}}
	if !slices.Equal(p.machine.Claims, want) || p.machine.Version != contract.ClaimsSince {
		t.Errorf("machine.json of version %d has claims %+v", p.machine.Version, p.machine.Claims)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "raw.owned")); err != nil {
		t.Errorf("the device was not given to QEMU's user: %v", err)
	}
	if got := w.vmi().Status.VolumeStatus; len(got) != 4 || got[0].Phase != "Ready" || got[0].PersistentVolumeClaimInfo == nil || got[0].Target != "vdc" {
		t.Errorf("volumes: %+v", got)
	}

	// The file follows at once, the device once the kernel has it larger.
	w.change(capacity("data", "96Mi"))
	w.until("the file to grow", shows("data", 96))
	w.change(capacity("raw", "96Mi"))
	p.device("raw", 96)
	w.until("the device to grow", shows("raw", 96))
	// A claim that shrinks, as none does, has no effect.
	w.change(capacity("data", "1Mi"))
	w.change(capacity("raw", "128Mi"))
	p.device("raw", 128)
	w.until("the device to grow again", shows("raw", 128))
	if got := d.done(); !slices.Equal(got, []string{"d-data 96", "d-raw 96", "d-raw 128"}) {
		t.Errorf("QEMU was told %v", got)
	}
}

// A controller that has not written of the claims yet is waited for.
func TestClaimsNotKnownYet(t *testing.T) {
	t.Parallel()
	vmi := claimVMI()
	status := vmi.Status.VolumeStatus
	vmi.Status.VolumeStatus = nil
	w := newWorld(t, vmi)
	p := w.addPod(testPod)
	(&disks{sizes: map[string]int64{}}).serve(p)
	p.device("raw", 64)
	w.start()
	p.boot()
	w.until("the condition", func(vmi *v1.VirtualMachineInstance) bool {
		c := vmi.Status.Condition(v1.VMISynchronized)
		return c != nil && c.Reason == problemVolume
	})
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Status.VolumeStatus = status })
	w.until("phase Running", func(vmi *v1.VirtualMachineInstance) bool {
		return running(vmi) && vmi.Status.Condition(v1.VMISynchronized) == nil
	})
}

// A disk that cannot grow is told of, and grows when it can; also under an agent
// that has died at the step.
func TestDiskCannotGrow(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"", "agent.claim.before-own", "agent.claim.before-grow", "agent.claim.after-grow"} {
		t.Run("fails at "+step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, claimVMI())
			var once sync.Once
			w.fail = func(s string) (err error) {
				if s == step {
					once.Do(func() { err = errors.New("fails here") })
				}
				return err
			}
			p := w.addPod(testPod)
			d := &disks{sizes: map[string]int64{"d-data": 32 << 20, "d-raw": 64 << 20}}
			if step == "" {
				d.err = errors.New("no space")
			}
			d.serve(p)
			p.device("raw", 64)
			w.start()
			p.boot()
			w.until("phase Running", running)
			if step == "" {
				w.poll(func() bool { return slices.Contains(w.events.reasons(), "Warning "+eventDiskNotGrown) }, func() string { return fmt.Sprint(w.events.all()) })
				d.mu.Lock()
				d.err = nil
				d.mu.Unlock()
			}
			w.until("the file to grow", shows("data", 64))
			w.crash()
			w.start()
			w.change(capacity("data", "128Mi"))
			w.until("the file to grow under the next agent", shows("data", 128))
			if got := d.done(); !slices.Equal(got, []string{"d-data 64", "d-data 128"}) {
				t.Errorf("QEMU was told %v", got)
			}
		})
	}
}
