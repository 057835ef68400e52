// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// limited is a tiny machine with limits of half a CPU and its guest's memory.
func limited(ns, name string) *v1.VirtualMachine {
	vm := tinyVM(ns, name)
	vm.Spec.Template.Spec.Domain.Resources = &v1.ResourceRequirements{Limits: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
	}}
	return vm
}

// cgroupFile is a file of the cgroup (v2, or the controller's hierarchy of v1) that
// a process is in.
func cgroupFile(t *testing.T, pid, controller, v1Name, v2Name string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			if c == controller {
				return filepath.Join("/sys/fs/cgroup", controller, f[2], v1Name)
			}
		}
		if f[0] == "0" && f[1] == "" {
			if p := filepath.Join("/sys/fs/cgroup", f[2], v2Name); fileExists(p) {
				return p
			}
		}
	}
	t.Fatalf("no cgroup of controller %s in %q", controller, b)
	return ""
}

func fileExists(p string) bool { _, err := os.Stat(p); return err == nil }

func readNumber(t *testing.T, file string) int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return n
}

// residentMiB is the memory of the process that the agent is part of.
func residentMiB(t *testing.T) int64 {
	t.Helper()
	pid, err := shared.PID()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n >> 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// What the guest's root does all day. It fills its guest agent's channel with
// everything but answers and opens and closes it in between; its network's servers
// get requests and garbage, and its gateway is asked for neighbours that are not
// there; the serial port, with the shell on it, comes last.
const (
	channelFlood = `for p in /sys/class/virtio-ports/*; do read -r n <$p/name; case $n in *guest_agent*) port=/dev/${p##*/} ;; esac; done
while :; do
	for i in 1 2 3 4 5 6 7 8 9; do : >$port; done
	timeout 1 cat /dev/urandom >$port
	timeout 1 cat /dev/zero >$port
	yes '{"return": {"name": "x", "id": 1}}' | timeout 1 cat >$port
	yes '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[' | tr -d '\n' | timeout 1 cat >$port
	[ -c "$port" ] && echo round >>/tmp/rounds
done >/dev/null 2>&1 &`
	networkFlood = `gw=$(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p')
while :; do udhcpc -q -n -t 1 -T 1 -i eth0 -s /bin/true; done >/dev/null 2>&1 &
while :; do head -c 4000000 /dev/urandom | timeout 2 nc -u $gw 67; done >/dev/null 2>&1 &
while :; do for i in 3 4 5 6 7 8 9; do timeout 1 nc -u -w 1 10.0.2.$i$i 9 </etc/inittab & done; wait; done >/dev/null 2>&1 &`
	serialFlood = `while :; do cat /dev/urandom; done >/dev/ttyS0 2>/dev/null &`
)

// A guest whose root floods everything there is, and one that resets itself all day,
// have their limits. The agent's memory, its log and what it writes to the API have
// theirs, and the machine beside is served. By itself, as it measures the process
// that all share: no t.Parallel.
func TestHostileGuest(t *testing.T) {
	ns := namespace(t)
	resets := tinyVM(ns, "resets")
	resets.Spec.Template.Spec.Domain.Firmware.KernelBoot.KernelArgs = "quiet rdinit=/sbin/reboot -- -f"
	resets.Spec.Template.Spec.Domain.Resources = limited(ns, "").Spec.Template.Spec.Domain.Resources
	create(t, tinyVM(ns, "good"), limited(ns, "bad"), resets)
	running(t, ns, "good")
	bad, reset := running(t, ns, "bad"), running(t, ns, "resets")
	// A shell that is typed at before it is there may lose the beginning.
	for _, name := range []string{"good", "bad"} {
		logContains(t, running(t, ns, name), `SKERRY-GUEST READY`)
	}
	good, root := openConsole(t, ns, "good"), openConsole(t, ns, "bad")
	good.run("true")

	// First it takes all the memory that it has: the guest's kernel ends the taker.
	root.run("tail /dev/zero")
	pod := podOf(t, bad)
	qemu := podProcesses(t, string(pod.UID))[0]["Pid"]
	limit := readNumber(t, cgroupFile(t, qemu, "memory", "memory.limit_in_bytes", "memory.max"))
	want := pod.Spec.Containers[0].Resources.Limits.Memory().Value()
	if limit != want || want > 256<<20 {
		t.Errorf("the limit of memory is %d bytes, want the pod's %d", limit, want)
	}
	if used := readNumber(t, cgroupFile(t, qemu, "memory", "memory.usage_in_bytes", "memory.current")); used < 64<<20 {
		t.Errorf("the guest took all of its memory, and QEMU uses %d bytes", used)
	}

	before, logBefore := residentMiB(t), logSize(t)
	writes, writesOfReset := countWrites(t, bad), countWrites(t, reset)
	root.send("\n" + channelFlood + "\n")
	waitFor(t, "the flood on the guest agent's channel", func() (bool, string) {
		got := root.run("wc -l < /tmp/rounds")
		return got != "" && got != "0" && !strings.Contains(got, "can't open"), got
	})
	root.send("\n" + networkFlood + "\n" + serialFlood + "\n")
	waitFor(t, "the flood on the serial port", func() (bool, string) {
		all, _ := root.text()
		return strings.Count(all, "\xff")+strings.Count(all, "\xfe") > 200, fmt.Sprint(len(all))
	})
	// As long as the neighbour takes for some work of its own.
	for range 10 {
		if got := good.run("sleep 1; echo $((6 * 7))"); got != "42" {
			t.Errorf("the neighbour's console says %q", got)
		}
	}
	if throttled(t, qemu) == 0 {
		t.Error("QEMU was never held at its limit of CPU time")
	}
	// At once at most 10 writes, and then one each 30 seconds.
	for name, count := range map[string]func() (int, time.Duration){"bad": writes, "resets": writesOfReset} {
		n, since := count()
		t.Logf("%s was written %d times in %v", name, n, since)
		if n > 15+int(since.Seconds()/30) {
			t.Errorf("instance %s was written %d times in %v", name, n, since)
		}
	}
	after, logAfter := residentMiB(t), logSize(t)
	t.Logf("memory of the skerry process: %d MiB, then %d MiB; its log: %d bytes, then %d bytes", before, after, logBefore, logAfter)
	if after > before+150 {
		t.Errorf("the skerry process grew from %d MiB to %d MiB", before, after)
	}
	if logAfter > logBefore+256<<10 {
		t.Errorf("the log grew from %d bytes to %d", logBefore, logAfter)
	}
	// And it is still the same machine, which can be switched off.
	if now := podOf(t, running(t, ns, "bad")); now.UID != pod.UID || now.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the flooding machine was replaced")
	}
}

func logSize(t *testing.T) int64 {
	t.Helper()
	st, err := os.Stat(filepath.Join(shared.DataDir, "log", "skerry.log"))
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// throttled is how often a process's cgroup was held at its limit of CPU time.
func throttled(t *testing.T, pid string) int64 {
	t.Helper()
	b, err := os.ReadFile(cgroupFile(t, pid, "cpu", "cpu.stat", "cpu.stat"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "nr_throttled "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no nr_throttled in %q", b)
	return 0
}

// A machine that exceeds its limit of memory all the same (here the limit is lowered
// under it) ends, and its status says why and which field to change.
func TestOOMKilled(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := limited(ns, "hungry")
	vm.Spec.RunStrategy = ptr(v1.RunStrategyOnce)
	create(t, vm)
	vmi := running(t, ns, "hungry")
	logContains(t, vmi, `SKERRY-GUEST READY`)
	c := openConsole(t, ns, "hungry")
	c.run("true")
	qemu := podProcesses(t, string(podOf(t, vmi).UID))[0]["Pid"]
	limit := cgroupFile(t, qemu, "memory", "memory.limit_in_bytes", "memory.max")
	used := readNumber(t, cgroupFile(t, qemu, "memory", "memory.usage_in_bytes", "memory.current"))
	if err := os.WriteFile(limit, []byte(strconv.FormatInt(used+4<<20, 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.send("\ntail /dev/zero\n")
	vmi = vmiWhen(t, ns, "hungry", "Failed", func(v *v1.VirtualMachineInstance) bool { return v.Status.Phase.IsFinal() })
	if vmi.Status.Phase != v1.Failed || vmi.Status.Reason != "OOMKilled" {
		t.Errorf("phase %s, reason %q, want Failed and OOMKilled", vmi.Status.Phase, vmi.Status.Reason)
	}
	if out, err := shared.Kubectl(t.Context(), "-n", ns, "get", "events", "--field-selector", "reason=OOMKilled", "-o", "jsonpath={.items[*].message}"); err != nil || !strings.Contains(out, "spec.domain") {
		t.Errorf("no Event says which field to change: %v %q", err, out)
	}
}
