// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/hotplug/hotplugtest"
	"github.com/skerry-dev/skerry/internal/resize"
)

const gib = 1 << 30

// resizeWorld is a world with a running machine of 1 vCPU and 128 MiB that can
// have 4 and 1 GiB, and a pod in a cgroup without limits.
func resizeWorld(t *testing.T) (*world, *pod, *hotplugtest.Machine) {
	t.Helper()
	w := newWorld(t, testVMI())
	p := w.addPod(testPod)
	m := hotplugtest.New(p.qemu, 4, 1, 1, 128*mib, 896*mib)
	w.cgroup("memory.max", "max")
	w.cgroup("memory.current", "200000000")
	w.cgroup("memory.reclaim", "")
	w.cgroup("cpu.max", "max 100000")
	w.start()
	p.boot()
	w.until("sizes", func(vmi *v1.VirtualMachineInstance) bool { return resize.GuestPart(vmi, resize.Memory) != nil })
	return w, p, m
}

// cgroup writes a file in the pod's cgroup and its container's.
func (w *world) cgroup(file, content string) {
	for _, dir := range []string{"kubepods/pod" + testPod, "kubepods/pod" + testPod + "/c"} {
		must(w.t, os.MkdirAll(filepath.Join(w.root, "cgroup", dir), 0o755))
		must(w.t, os.WriteFile(filepath.Join(w.root, "cgroup", dir, file), []byte(content), 0o644))
	}
}

// ask has the spec ask for a size, as the VM's controller does; 0 leaves it.
func (w *world) ask(vcpus, memory int64) {
	w.t.Helper()
	w.change(func(vmi *v1.VirtualMachineInstance) {
		if vcpus > 0 {
			vmi.Spec.Domain.CPU = &v1.CPU{Sockets: vcpus, Cores: 1, Threads: 1, MaxSockets: 4}
		}
		if memory > 0 {
			vmi.Spec.Domain.Memory.Guest = bytesQuantity(memory)
		}
	})
}

// say publishes the controller's part.
func (w *world) say(r resize.Resource, step v1.PodResizeStep, target, limit int64) {
	w.t.Helper()
	w.change(func(vmi *v1.VirtualMachineInstance) {
		resize.SetPodPart(&vmi.Status, r, &v1.PodResourceResize{Step: step, Target: resize.Size(r, target), Limit: resize.Quantity(r, limit)})
	})
}

func isAnnounced(r resize.Resource, n int64) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool {
		g := resize.GuestPart(vmi, r)
		return g != nil && g.Target != nil && g.Target.Value() == n
	}
}

// has tells whether the status says that guest and machine have that size.
func hasSize(r resize.Resource, n int64) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool {
		g := resize.GuestPart(vmi, r)
		used := resize.Used(vmi, r)
		if r == resize.CPU && vmi.Status.CurrentCPUTopology != nil {
			used = vmi.Status.CurrentCPUTopology.Sockets
		}
		return g != nil && g.Machine != nil && g.Machine.Value() == n && used == n
	}
}

func obstacleIs(r resize.Resource, reason string) func(*v1.VirtualMachineInstance) bool {
	return func(vmi *v1.VirtualMachineInstance) bool {
		g := resize.GuestPart(vmi, r)
		return g != nil && g.Reason == reason
	}
}

// A pod first, then QEMU: nothing is plugged before the controller has said that
// the kubelet has granted this very size.
func TestResizeWaitsForThePod(t *testing.T) {
	t.Parallel()
	w, p, m := resizeWorld(t)
	w.ask(3, gib)
	w.say(resize.CPU, v1.PodResizeAsked, 3, 0)
	w.say(resize.Memory, v1.PodResizeGranted, gib/2, 0) // an older wish
	w.settle(p)
	if n := m.VCPUs(); n != 1 {
		t.Errorf("%d vCPUs before the pod has room", n)
	}
	if _, asked := m.Plugged(); asked != 0 {
		t.Errorf("%d bytes were asked for before the pod has room", asked)
	}
	w.say(resize.CPU, v1.PodResizeGranted, 3, 0)
	w.say(resize.Memory, v1.PodResizeGranted, gib, 0)
	w.until("3 vCPUs", hasSize(resize.CPU, 3))
	w.until("1 GiB", hasSize(resize.Memory, gib))
	vmi := w.until("done", func(vmi *v1.VirtualMachineInstance) bool {
		return doneAt(vmi, resize.Memory) && doneAt(vmi, resize.CPU)
	})
	g := resize.GuestPart(vmi, resize.Memory)
	if g.Mechanism != v1.MechanismVirtioMem || g.Reason != "" || vmi.Status.Memory.GuestRequested.Value() != gib || vmi.Status.Memory.GuestAtBoot.Value() != 128*mib {
		t.Errorf("%+v, %+v", g, vmi.Status.Memory)
	}
	// Down again: the guest first, without a word of the controller's.
	w.ask(1, 256*mib)
	w.until("1 vCPU", hasSize(resize.CPU, 1))
	w.until("256 MiB", hasSize(resize.Memory, 256*mib))
}

func doneAt(vmi *v1.VirtualMachineInstance, r resize.Resource) bool {
	g := resize.GuestPart(vmi, r)
	return g != nil && len(g.Times) > 0 && g.Times[len(g.Times)-1].Step == v1.GuestResizeDone
}

// settle lets the agent look a few times more.
func (w *world) settle(p *pod) {
	w.t.Helper()
	seen := p.qemu.Count("query-memory-devices")
	w.poll(func() bool { return p.qemu.Count("query-memory-devices") > seen+5 }, func() string { return "the agent does not look any more" })
}

// The cgroup tells earlier than the controller.
func TestResizeByCgroup(t *testing.T) {
	t.Parallel()
	w, p, m := resizeWorld(t)
	w.cgroup("memory.max", "400000000")
	w.ask(0, gib)
	w.say(resize.Memory, v1.PodResizeAsked, gib, 1300000000)
	w.settle(p)
	if _, asked := m.Plugged(); asked != 0 {
		t.Errorf("%d bytes were asked for in a cgroup of 400 MB", asked)
	}
	w.cgroup("memory.max", "1300000000")
	w.until("1 GiB", hasSize(resize.Memory, gib))
}

// A guest that takes memory and does not use it, and vCPUs that it does not start,
// are not reported as its own.
func TestResizeGuestDoesNotUse(t *testing.T) {
	t.Parallel()
	w, _, m := resizeWorld(t)
	m.Change(func(m *hotplugtest.Machine) { m.NotOnline, m.Deaf = true, true })
	w.say(resize.CPU, v1.PodResizeGranted, 2, 0)
	w.say(resize.Memory, v1.PodResizeGranted, gib, 0)
	w.ask(2, gib)
	vmi := w.until("obstacle", obstacleIs(resize.Memory, obstacleNotOnline))
	if n := vmi.Status.Memory.GuestCurrent.Value(); n != 128*mib {
		t.Errorf("the guest is said to have %d MiB", n/mib)
	}
	vmi = w.until("obstacle", obstacleIs(resize.CPU, obstacleNotStarted))
	if n := vmi.Status.CurrentCPUTopology.Sockets; n != 1 {
		t.Errorf("the guest is said to have %d vCPUs", n)
	}
	for r, want := range map[resize.Resource]string{resize.Memory: "online_movable", resize.CPU: "qemu-guest-agent"} {
		if g := resize.GuestPart(w.vmi(), r); !strings.Contains(g.Message, want) {
			t.Errorf("%s: %q does not speak of %s", r, g.Message, want)
		}
	}
	m.Change(func(m *hotplugtest.Machine) { m.NotOnline, m.Deaf = false, false })
	w.until("2 vCPUs", hasSize(resize.CPU, 2))
	w.until("1 GiB", hasSize(resize.Memory, gib))
	w.until("no obstacle", obstacleIs(resize.Memory, ""))
}

// A guest that gives back a part is left the rest, and asked again later.
func TestResizeGuestKeeps(t *testing.T) {
	t.Parallel()
	w, _, m := resizeWorld(t)
	w.say(resize.Memory, v1.PodResizeGranted, gib, 0)
	w.ask(0, gib)
	w.until("1 GiB", hasSize(resize.Memory, gib))
	m.Change(func(m *hotplugtest.Machine) { m.Busy = 300 * mib })
	w.ask(0, 256*mib)
	vmi := w.until("obstacle", obstacleIs(resize.Memory, obstacleKeepsMemory))
	if n := vmi.Status.Memory.GuestCurrent.Value(); n != 428*mib {
		t.Errorf("the guest is said to have %d MiB, want 428", n/mib)
	}
	if g := resize.GuestPart(vmi, resize.Memory); g.Machine.Value() < 428*mib || !strings.Contains(g.Message, "428 MiB") {
		t.Errorf("%+v", g)
	}
	m.Change(func(m *hotplugtest.Machine) { m.Busy = 0 })
	w.until("256 MiB", hasSize(resize.Memory, 256*mib))
	w.until("no obstacle", obstacleIs(resize.Memory, ""))
}

// Without a driver for virtio-mem memory comes as DIMMs, and goes in whole ones.
func TestResizeByDIMM(t *testing.T) {
	t.Parallel()
	w, _, m := resizeWorld(t)
	m.Change(func(m *hotplugtest.Machine) { m.NoDriver = true })
	for _, n := range []int64{512 * mib, 768 * mib} {
		w.say(resize.Memory, v1.PodResizeGranted, n+128*mib, 0)
		w.ask(0, n+128*mib)
		w.until("grown", hasSize(resize.Memory, n+128*mib))
	}
	if g := resize.GuestPart(w.vmi(), resize.Memory); g.Mechanism != v1.MechanismPCDIMM {
		t.Errorf("mechanism %s", g.Mechanism)
	}
	if _, asked := m.Plugged(); asked != 0 {
		t.Errorf("%d bytes are still asked of the device", asked)
	}
	w.ask(0, 640*mib)
	w.until("the second DIMM is gone", hasSize(resize.Memory, 640*mib))
	w.ask(0, 256*mib)
	vmi := w.until("obstacle", obstacleIs(resize.Memory, obstacleDIMMStep))
	if n := vmi.Status.Memory.GuestCurrent.Value(); n != 640*mib {
		t.Errorf("%d MiB", n/mib)
	}
}

// A later wish replaces an earlier one, in both directions and at any point.
func TestResizeSuperseded(t *testing.T) {
	t.Parallel()
	w, _, m := resizeWorld(t)
	m.Change(func(m *hotplugtest.Machine) { m.NoDriver = true }) // it hangs in the middle
	w.say(resize.Memory, v1.PodResizeGranted, gib, 0)
	w.ask(0, gib)
	w.poll(func() bool { _, asked := m.Plugged(); return asked == 896*mib }, func() string { return "not asked for" })
	m.Change(func(m *hotplugtest.Machine) { m.NoDriver = false; m.Busy = 2 * gib })
	w.ask(0, 256*mib)
	w.poll(func() bool { _, asked := m.Plugged(); return asked == 128*mib }, func() string { return "not taken back" })
	w.say(resize.Memory, v1.PodResizeGranted, 512*mib, 0)
	m.Change(func(m *hotplugtest.Machine) { m.Busy = 0 })
	w.ask(0, 512*mib)
	w.until("512 MiB", hasSize(resize.Memory, 512*mib))
}

// Killed before or after any step, the next agent finishes the change, and QEMU
// is asked for no more than was wanted.
func TestResizeKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, step := range []string{
		"agent.resize.before-plug-cpu", "agent.resize.after-plug-cpu", "agent.resize.before-unplug-cpu", "agent.resize.after-unplug-cpu",
		"agent.resize.before-plug-memory", "agent.resize.after-plug-memory", "agent.resize.before-unplug-memory", "agent.resize.after-unplug-memory",
		"agent.status.before-write", "agent.status.after-write",
	} {
		for _, crash := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s crash=%v", step, crash), func(t *testing.T) {
				t.Parallel()
				w, _, m := resizeWorld(t)
				hit := make(chan struct{})
				armed := true
				w.mu.Lock()
				w.fail = func(s string) error {
					w.mu.Lock()
					defer w.mu.Unlock()
					if s != step || !armed {
						return nil
					}
					armed = false
					close(hit)
					return errors.New("boom at " + s)
				}
				w.mu.Unlock()
				w.say(resize.CPU, v1.PodResizeGranted, 3, 0)
				w.say(resize.Memory, v1.PodResizeGranted, gib, 0)
				w.ask(3, gib)
				if !strings.Contains(step, "unplug") {
					<-hit
					if crash {
						w.crash()
						w.start()
					}
				}
				w.until("3 vCPUs", hasSize(resize.CPU, 3))
				w.until("1 GiB", hasSize(resize.Memory, gib))
				w.ask(1, 256*mib)
				if strings.Contains(step, "unplug") {
					<-hit
					if crash {
						w.crash()
						w.start()
					}
				}
				w.until("1 vCPU", hasSize(resize.CPU, 1))
				w.until("256 MiB", hasSize(resize.Memory, 256*mib))
				w.until("done", func(vmi *v1.VirtualMachineInstance) bool {
					return doneAt(vmi, resize.Memory) && doneAt(vmi, resize.CPU)
				})
				if plugged, asked := m.Plugged(); plugged != 128*mib || asked != 128*mib || m.VCPUs() != 1 {
					t.Errorf("plugged %d, asked for %d, %d vCPUs", plugged, asked, m.VCPUs())
				}
			})
		}
	}
}

// Page cache goes before the limit is cut, and the controller learns what is left.
func TestResizeReclaims(t *testing.T) {
	t.Parallel()
	w, _, _ := resizeWorld(t)
	w.say(resize.Memory, v1.PodResizeReclaim, 128*mib, 190000000)
	w.until("an answer", func(vmi *v1.VirtualMachineInstance) bool {
		g := resize.GuestPart(vmi, resize.Memory)
		return g.PodUsage != nil && g.PodUsage.Value() == 200000000
	})
	file := filepath.Join(w.root, "cgroup/kubepods/pod"+testPod+"/memory.reclaim")
	if b, err := os.ReadFile(file); err != nil || string(b) != fmt.Sprint(10000000+reclaimMargin) {
		t.Errorf("reclaimed %q, %v", b, err)
	}
	w.cgroup("memory.current", "180000000")
	w.until("less", func(vmi *v1.VirtualMachineInstance) bool {
		return resize.GuestPart(vmi, resize.Memory).PodUsage.Value() == 180000000
	})
	w.say(resize.Memory, v1.PodResizeDone, 128*mib, 0)
	w.until("no answer any more", func(vmi *v1.VirtualMachineInstance) bool { return resize.GuestPart(vmi, resize.Memory).PodUsage == nil })
}

// vCPUs cost QEMU memory: where the pod's limit was not raised for that, none is
// plugged, whatever was granted of CPU time; and it goes on once the limit is there.
func TestResizeVCPUsNeedMemory(t *testing.T) {
	t.Parallel()
	for _, stage := range []v1.PodResizeStep{v1.PodResizeRefused, v1.PodResizeInfeasible, v1.PodResizeDeferred} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			w, p, m := resizeWorld(t)
			w.cgroup("memory.max", "400000000")
			w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Domain.Memory.Guest = bytesQuantity(128 * mib) })
			w.say(resize.Memory, stage, 128*mib, 409000000)
			w.say(resize.CPU, v1.PodResizeGranted, 3, 0)
			w.ask(3, 0)
			vmi := w.until("obstacle", obstacleIs(resize.CPU, obstaclePodMemory))
			if g := resize.GuestPart(vmi, resize.CPU); !strings.Contains(g.Message, "381 MiB does not cover the 391 MiB") || !strings.Contains(g.Message, "HotMemoryChange") {
				t.Errorf("%q", g.Message)
			}
			w.settle(p)
			if n := m.VCPUs(); n != 1 || p.qemu.Count("device_add") != 0 {
				t.Errorf("%d vCPUs in a pod without memory for them", n)
			}
			w.cgroup("memory.max", "409000000")
			w.say(resize.Memory, v1.PodResizeDone, 128*mib, 0)
			w.until("3 vCPUs", hasSize(resize.CPU, 3))
			w.until("no obstacle", obstacleIs(resize.CPU, ""))
		})
	}
}

// While the memory is only on its way nothing is called an obstacle.
func TestResizeVCPUsAwaitMemory(t *testing.T) {
	t.Parallel()
	w, p, m := resizeWorld(t)
	w.cgroup("memory.max", "400000000")
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Domain.Memory.Guest = bytesQuantity(128 * mib) })
	w.say(resize.Memory, v1.PodResizeAsked, 128*mib, 409000000)
	w.say(resize.CPU, v1.PodResizeGranted, 3, 0)
	w.ask(3, 0)
	w.settle(p)
	if g := resize.GuestPart(w.vmi(), resize.CPU); m.VCPUs() != 1 || g.Reason != "" {
		t.Errorf("%d vCPUs, %+v", m.VCPUs(), g)
	}
	w.cgroup("memory.max", "409000000") // the kernel knows before the controller does
	w.until("3 vCPUs", hasSize(resize.CPU, 3))
}

// Software emulation can plug only so many vCPUs in QEMU's life: the next one
// would abort it, so it is refused with the way out.
func TestResizePlugLimit(t *testing.T) {
	t.Parallel()
	w, p, m := resizeWorld(t)
	w.say(resize.CPU, v1.PodResizeGranted, 4, 0)
	w.ask(4, 0)
	w.until("4 vCPUs", hasSize(resize.CPU, 4))
	w.ask(1, 0)
	w.until("1 vCPU", hasSize(resize.CPU, 1))
	w.say(resize.CPU, v1.PodResizeGranted, 2, 0)
	before := p.qemu.Count("device_add")
	w.ask(2, 0)
	vmi := w.until("obstacle", obstacleIs(resize.CPU, obstaclePlugLimit))
	if g := resize.GuestPart(vmi, resize.CPU); !strings.Contains(g.Message, "skerry vm renew") {
		t.Errorf("%q", g.Message)
	}
	if p.qemu.Count("device_add") != before || m.VCPUs() != 1 {
		t.Error("a vCPU was plugged")
	}
}

// A monitor that refuses is an obstacle with its text; the change goes on after.
func TestResizeQEMURefuses(t *testing.T) {
	t.Parallel()
	w, _, m := resizeWorld(t)
	m.Change(func(m *hotplugtest.Machine) { m.DeviceMax = 256 * mib }) // less than was read at first
	w.say(resize.Memory, v1.PodResizeGranted, gib, 0)
	w.ask(0, gib)
	vmi := w.until("obstacle", obstacleIs(resize.Memory, obstacleNoRoom))
	if g := resize.GuestPart(vmi, resize.Memory); !strings.Contains(g.Message, "after a restart") {
		t.Errorf("%q", g.Message)
	}
	w.ask(0, 384*mib)
	w.say(resize.Memory, v1.PodResizeGranted, 384*mib, 0)
	w.until("384 MiB", hasSize(resize.Memory, 384*mib))
}
