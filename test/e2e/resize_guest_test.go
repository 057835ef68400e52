// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podcgroup"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/resize"
)

const mib = 1 << 20

// resizable is a running guest that can have 16 vCPUs and 1 GiB, with the witness
// in it as a load.
type resizable struct {
	*witnessed
	pid int
	// helps: the guest takes CPUs online that failed at first.
	helps bool
}

// startResizable boots a guest of 1 vCPU and 256 MiB with limits.
func startResizable(t *testing.T, name string, change func(*v1.VirtualMachine)) *resizable {
	t.Helper()
	ns := namespace(t)
	vm := witnessVM(ns, name)
	d := &vm.Spec.Template.Spec.Domain
	// Under emulation each plug of a vCPU in QEMU's life takes a place.
	d.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1, MaxSockets: 24}
	d.Memory = &v1.Memory{Guest: ptr(resource.MustParse("256Mi")), MaxGuest: ptr(resource.MustParse("1Gi"))}
	if change != nil {
		change(vm)
	}
	create(t, vm)
	r := &resizable{witnessed: startWitness(t, ns, name), helps: true}
	r.pid = r.qemu()
	return r
}

// withLimits gives a machine limits, which follow its size.
func withLimits(vm *v1.VirtualMachine) {
	vm.Spec.Template.Spec.Domain.Resources = &v1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("50m"), "memory": resource.MustParse("64Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("256Mi")},
	}
}

// qemu is the PID of the pod's one process.
func (r *resizable) qemu() int {
	r.t.Helper()
	procs := podProcesses(r.t, string(podOf(r.t, r.vmi).UID))
	if len(procs) != 1 {
		r.t.Fatalf("the pod of %s has %d processes, want QEMU alone", r.name, len(procs))
	}
	n, err := strconv.Atoi(procs[0]["Pid"])
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// patch changes the VirtualMachine by kubectl.
func (r *resizable) patch(vcpus int64, memory string) {
	r.t.Helper()
	p := fmt.Sprintf(`{"spec":{"template":{"spec":{"domain":{"cpu":{"sockets":%d},"memory":{"guest":%q}}}}}}`, vcpus, memory)
	if out, err := shared.Kubectl(r.t.Context(), "-n", r.namespace, "patch", "vm", r.name, "--type=merge", "-p", p); err != nil {
		r.t.Fatalf("patch %s: %v %s", r.name, err, out)
	}
}

// sees is what the guest's own figures are printed behind: it tells of CPUs that
// come up on the same console.
var sees = regexp.MustCompile(`SEES (\d+) (\d+)`)

// guestSees are the guest's own figures.
func (r *resizable) guestSees() (vcpus int64, memory int64) {
	r.t.Helper()
	waitFor(r.t, "the guest's own figures", func() (bool, string) {
		out := r.con.run(`echo SEES $(grep -c ^processor /proc/cpuinfo) $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)`)
		f := sees.FindStringSubmatch(out)
		if f == nil {
			return false, out
		}
		n, err1 := strconv.ParseInt(f[1], 10, 64)
		kib, err2 := strconv.ParseInt(f[2], 10, 64)
		vcpus, memory = n, kib<<10
		return err1 == nil && err2 == nil, out
	})
	return vcpus, memory
}

// until waits for the guest to have a size: plugged memory counts whole, what the
// kernel took at its start is in boot, the guest's figure at 256 MiB.
func (r *resizable) until(vcpus, memory, boot int64) {
	r.t.Helper()
	waitFor(r.t, fmt.Sprintf("the guest to have %d vCPUs and %d MiB", vcpus, memory/mib), func() (bool, string) {
		n, m := r.guestSees()
		if n < vcpus && r.helps {
			// On a busy host an emulated CPU may not come up within the ten seconds
			// that the guest's kernel waits; it can be tried again.
			r.con.run("for c in /sys/devices/system/cpu/cpu*/online; do read -r on <$c; [ $on = 1 ] || echo 1 2>/dev/null >$c; done")
		}
		return n == vcpus && m-boot == memory-256*mib, fmt.Sprintf("%d vCPUs, %d MiB more than at boot; %s", n, (m-boot)/mib, r.status())
	})
	// The status says the same, and the pod follows.
	vmiWhen(r.t, r.namespace, r.name, "resized", func(vmi *v1.VirtualMachineInstance) bool {
		s := vmi.Status
		cpu, mem := resize.PodPart(vmi, resize.CPU), resize.PodPart(vmi, resize.Memory)
		return s.CurrentCPUTopology != nil && s.CurrentCPUTopology.Sockets == vcpus && s.Memory.GuestCurrent.Value() == memory &&
			(cpu == nil || cpu.Step == v1.PodResizeDone) && (mem == nil || mem.Step == v1.PodResizeDone)
	})
}

func (r *resizable) status() string {
	out, _ := shared.Kubectl(r.t.Context(), "-n", r.namespace, "get", "vmi", r.name, "-o", "jsonpath={.status.resize} {.status.currentCPUTopology} {.status.memory}")
	return out
}

// limits are what the kernel applies to the pod.
func (r *resizable) limits() (podcgroup.Limits, *podcgroup.Group) {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", r.pid))
	if err != nil {
		r.t.Fatal(err)
	}
	uid := string(podOf(r.t, r.vmi).UID)
	g, err := podcgroup.Open(podcgroup.Root, b, func(name string) bool { return podfs.NamesPod(name, uid) })
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := g.Limits()
	if err != nil {
		r.t.Fatal(err)
	}
	return l, g
}

// unbroken fails the test unless it is still the same QEMU in the same container,
// and the same boot of the guest.
func (r *resizable) unbroken() {
	r.t.Helper()
	if pid := r.qemu(); pid != r.pid {
		r.t.Errorf("QEMU is process %d, was %d", pid, r.pid)
	}
	for _, s := range podOf(r.t, r.vmi).Status.ContainerStatuses {
		if s.RestartCount != 0 {
			r.t.Errorf("container %s was restarted %d times", s.Name, s.RestartCount)
		}
	}
	r.ranOn(r.first)
}

// campaign tells whether long runs are wanted. vCPUs are unplugged in those alone:
// under emulation QEMU has been seen to die of the next plug (docs/roadmap.md).
func campaign() bool { return os.Getenv("SKERRY_CAMPAIGN") != "" }

// One edit changes CPU and memory of a guest that works: the guest sees it, the
// kernel's limits follow, and what the guest gives back the host has again.
func TestResizeGuest(t *testing.T) {
	t.Parallel()
	r := startResizable(t, "resized", withLimits)
	_, boot := r.guestSees()
	before, _ := r.limits()

	r.patch(4, "1Gi")
	r.until(4, 1024*mib, boot)
	grown, group := r.limits()
	if grown.Memory-before.Memory < 768*mib || grown.CPU != 4*before.CPU {
		t.Errorf("the pod's limits were %+v and are %+v", before, grown)
	}
	waitFor(t, "/proc/stat to have 4 CPUs", func() (bool, string) {
		n := r.con.run("grep -c '^cpu[0-9]' /proc/stat")
		return n == "4", n
	})
	// Memory that was touched, and is free again.
	r.con.run("mkdir -p /mnt/ram; grep -q ' /mnt/ram ' /proc/mounts || mount -t tmpfs -o size=128m ram /mnt/ram; dd if=/dev/zero of=/mnt/ram/f bs=1M count=64 2>/dev/null; rm /mnt/ram/f; umount /mnt/ram")
	touched, err := group.MemoryUsage()
	if err != nil {
		t.Fatal(err)
	}

	fewer := int64(4)
	if campaign() {
		fewer = 2
	}
	r.patch(fewer, "512Mi")
	r.until(fewer, 512*mib, boot)
	cut, _ := r.limits()
	if cut.Memory >= grown.Memory || cut.CPU != fewer*before.CPU {
		t.Errorf("the pod's limits are %+v after the guest gave back; they were %+v", cut, grown)
	}
	left, err := group.MemoryUsage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the pod was charged with %d MiB at 1 GiB, and is with %d at 512 MiB", touched/mib, left/mib)
	if left > cut.Memory {
		t.Errorf("the pod is charged with %d MiB, more than its limit of %d", left/mib, cut.Memory/mib)
	}
	r.unbroken()

	if !campaign() {
		return
	}
	for range 15 {
		r.patch(1, "256Mi")
		r.until(1, 256*mib, boot)
		r.patch(2, "512Mi")
		r.until(2, 512*mib, boot)
	}
	r.unbroken()
}

// obstacle waits for what stands in a change's way.
func (r *resizable) obstacle(res resize.Resource, reason string) string {
	r.t.Helper()
	text := ""
	vmiWhen(r.t, r.namespace, r.name, "resized only as far as the guest lets it: "+reason, func(vmi *v1.VirtualMachineInstance) bool {
		g := resize.GuestPart(vmi, res)
		if g == nil || g.Reason != reason {
			return false
		}
		text = g.Message
		return true
	})
	return text
}

// A guest that takes nothing into use, one that stands still, and one that keeps
// what it has in use: each is told in the status, never taken for done, and each
// change goes on when the guest does.
func TestResizeGuestRefuses(t *testing.T) {
	t.Parallel()
	r := startResizable(t, "stubborn", nil)
	_, boot := r.guestSees()
	r.con.run("kill $(cat /run/guestd.pid); echo offline >/sys/devices/system/memory/auto_online_blocks")

	r.patch(2, "512Mi")
	if text := r.obstacle(resize.Memory, "GuestDoesNotUseMemory"); !strings.Contains(text, "memhp_default_state=online_movable") {
		t.Errorf("memory: %s", text)
	}
	if text := r.obstacle(resize.CPU, "GuestDoesNotStartVCPU"); !strings.Contains(text, "qemu-guest-agent") {
		t.Errorf("CPU: %s", text)
	}
	vmi := running(t, r.namespace, r.name)
	if n, m := vmi.Status.CurrentCPUTopology.Sockets, vmi.Status.Memory.GuestCurrent.Value(); n != 1 || m != 256*mib {
		t.Errorf("the guest is said to have %d vCPUs and %d MiB", n, m/mib)
	}
	r.con.run("for f in /sys/devices/system/memory/memory*/state; do grep -q online $f || echo online_movable >$f; done; echo 1 >/sys/devices/system/cpu/cpu1/online")
	r.until(2, 512*mib, boot)

	vcpus := int64(2)
	if campaign() {
		// It stands still.
		if out, err := shared.CLI(t.Context(), "pause", "vm", "-n", r.namespace, r.name); err != nil {
			t.Fatalf("pause: %v %s", err, out)
		}
		r.patch(1, "512Mi")
		if text := r.obstacle(resize.CPU, "GuestPaused"); !strings.Contains(text, "stands still") {
			t.Errorf("paused: %s", text)
		}
		if out, err := shared.CLI(t.Context(), "unpause", "vm", "-n", r.namespace, r.name); err != nil {
			t.Fatalf("unpause: %v %s", err, out)
		}
		r.until(1, 512*mib, boot)
		vcpus = 1
	}

	// What is in use it keeps.
	r.con.run("mkdir -p /mnt/ram; grep -q ' /mnt/ram ' /proc/mounts || mount -t tmpfs -o size=300m ram /mnt/ram; dd if=/dev/zero of=/mnt/ram/f bs=1M count=200 2>/dev/null")
	r.patch(vcpus, "256Mi")
	if text := r.obstacle(resize.Memory, "GuestKeepsMemory"); !strings.Contains(text, "keeps what is in use") {
		t.Errorf("kept: %s", text)
	}
	if vmi = running(t, r.namespace, r.name); vmi.Status.Memory.GuestCurrent.Value() <= 256*mib {
		t.Errorf("the guest is said to have %s", vmi.Status.Memory.GuestCurrent)
	}
	r.con.run("umount /mnt/ram")
	r.patch(vcpus, "258Mi") // a newer wish supersedes the one that is stuck
	r.until(vcpus, 258*mib, boot)
	r.unbroken()
}
