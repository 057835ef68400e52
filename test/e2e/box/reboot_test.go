// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package box

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/node"
)

// bootID is where the kernel tells this boot from others; the kubelet reads it.
const bootID = "/proc/sys/kernel/random/boot_id"

// cut ends all processes of the node at once, without a word, as when the power
// goes. It does not ask Skerry's own code for any of that, which is what is under
// test.
func cut(t *testing.T) {
	t.Helper()
	cgroup := cgroupRoot(t)
	killAll(t, cgroup)
	forget(t, cgroup)
}

// forget takes away what only the kernel's memory holds.
func forget(t *testing.T, cgroup string) {
	t.Helper()
	unmountBelow(t, box.DataDir, box.RunDir)
	// The network namespace is the tests' own: all that is in it is the node's.
	for _, l := range linkNames(t) {
		if l != "lo" {
			_ = exec.Command("ip", "link", "del", l).Run() // the other end of a veth is gone already
		}
	}
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("nft flush ruleset: %v: %s", err, out)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the cgroups to be gone", func() (bool, string) {
		left := removeCgroups(cgroup)
		return len(left) == 0, strings.Join(left, " ")
	})
}

// killAll kills first those that would react to the end of the others.
func killAll(t *testing.T, cgroup string) {
	t.Helper()
	waitFor(t, "the node's processes to be gone", func() (bool, string) {
		var first, rest []int
		var names []string
		for pid, name := range nodeProcesses(t, cgroup) {
			names = append(names, name)
			if name == "skerry" || name == "containerd" {
				first = append(first, pid)
			} else {
				rest = append(rest, pid)
			}
		}
		for _, pid := range append(first, rest...) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatalf("kill %d: %v", pid, err)
			}
		}
		return len(names) == 0, strings.Join(names, " ")
	})
}

// nodeProcesses are the programs of the node: those that run from its directory of
// binaries in our network namespace, and those in its pods' cgroups.
func nodeProcesses(t *testing.T, cgroup string) map[int]string {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		exe, err := os.Readlink(d + "/exe")
		if err != nil {
			continue // a kernel thread, or gone, or a zombie
		}
		ns, _ := os.Readlink(d + "/ns/net")
		groups, _ := os.ReadFile(d + "/cgroup")
		mine := ns == own && filepath.Dir(strings.TrimSuffix(exe, " (deleted)")) == box.Bin
		for l := range strings.Lines(string(groups)) {
			if f := strings.SplitN(strings.TrimSpace(l), ":", 3); len(f) == 3 && strings.HasPrefix(f[2], cgroup+"/") {
				mine = true
			}
		}
		if mine && pid != os.Getpid() {
			found[pid] = filepath.Base(exe)
		}
	}
	return found
}

// cgroupRoot is where the node keeps its pods' cgroups.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	var saved struct{ Config struct{ CgroupRoot string } }
	b, err := os.ReadFile(filepath.Join(box.DataDir, "cluster.json"))
	if errors.Is(err, os.ErrNotExist) {
		return "/skerry-was-never-started" // the power was cut before there were any
	}
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil || len(saved.Config.CgroupRoot) < 2 {
		t.Fatalf("cgroup root %q: %v", saved.Config.CgroupRoot, err)
	}
	return saved.Config.CgroupRoot
}

func removeCgroups(root string) (left []string) {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*" + root)
	tops = append(tops, "/sys/fs/cgroup"+root)
	for _, top := range tops {
		var dirs []string
		_ = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
				left = append(left, d)
			}
		}
	}
	return left
}

func unmountBelow(t *testing.T, dirs ...string) {
	t.Helper()
	for _, m := range slices.Backward(mountPoints(t)) {
		for _, d := range dirs {
			if strings.HasPrefix(m, d+"/") {
				if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
					t.Errorf("unmount %s: %v", m, err)
				}
			}
		}
	}
}

// mountPoints are those of this mount namespace, in the order of mounting.
func mountPoints(t *testing.T) (points []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 4 {
			points = append(points, f[4])
		}
	}
	return points
}

func linkNames(t *testing.T) (names []string) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}

// reboot is cut, an empty run directory and another boot ID. What the kernel holds
// (mounts, network namespaces, links, nftables, cgroups) is gone, too.
func reboot(t *testing.T) {
	t.Helper()
	cut(t)
	if err := os.RemoveAll(box.RunDir); err != nil {
		t.Fatal(err)
	}
	newBootID(t)
}

// newBootID lasts until the test ends.
func newBootID(t *testing.T) {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, bootID, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("another boot ID: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bootID, unix.MNT_DETACH); err != nil {
			t.Errorf("the boot ID of this machine: %v", err)
		}
	})
}

const tinyKernelImage = "skerry.dev/test/tiny-kernel:latest"

// machine is the smallest VM: a kernel and an initramfs, one NIC.
func machine(namespace, name string, strategy v1.VirtualMachineRunStrategy) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{}
	vm.Namespace, vm.Name = namespace, name
	vm.Spec.RunStrategy = &strategy
	t := &vm.Spec.Template
	t.ObjectMeta = metav1.ObjectMeta{Labels: map[string]string{"app": name}}
	t.Spec = v1.VirtualMachineInstanceSpec{
		TerminationGracePeriodSeconds: new(int64(10)),
		Domain: v1.DomainSpec{
			Memory: &v1.Memory{Guest: new(resource.MustParse("128Mi"))},
			Firmware: &v1.Firmware{KernelBoot: &v1.KernelBoot{
				KernelArgs: "console=ttyS0 quiet cryptomgr.notests skerry.heartbeat=off",
				Container: &v1.KernelBootContainer{
					Image: tinyKernelImage, KernelPath: "/boot/vmlinux", InitrdPath: "/boot/initrd", ImagePullPolicy: corev1.PullIfNotPresent,
				},
			}},
			Devices: v1.Devices{Interfaces: []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}}},
		},
		Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}},
	}
	return vm
}

// withScript has the guest run a shell script when its network is up.
func withScript(vm *v1.VirtualMachine, script string) *v1.VirtualMachine {
	t := &vm.Spec.Template.Spec
	t.Domain.Devices.Disks = append(t.Domain.Devices.Disks, v1.Disk{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}})
	t.Volumes = append(t.Volumes, v1.Volume{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#!/bin/sh\n" + script}})
	return vm
}

func create(t *testing.T, objs ...client.Object) {
	t.Helper()
	for _, o := range objs {
		if err := box.Client.Create(t.Context(), o); err != nil {
			t.Fatalf("create %T %s: %v", o, o.GetName(), err)
		}
	}
}

// instance reads a machine's instance, nil if there is none.
func instance(t *testing.T, name string) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := box.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, vmi); err != nil {
		if client.IgnoreNotFound(err) != nil {
			t.Logf("get instance %s: %v", name, err) // the API may be on its way up
		}
		return nil
	}
	return vmi
}

// ready waits until a machine's guest has booted, by the guest's own word in its
// log, and returns its instance and log. An instance with the UID not is an old one.
func ready(t *testing.T, name string, not *v1.VirtualMachineInstance) (*v1.VirtualMachineInstance, string) {
	t.Helper()
	return logged(t, name, "SKERRY-GUEST READY", not)
}

func logged(t *testing.T, name, text string, not *v1.VirtualMachineInstance) (vmi *v1.VirtualMachineInstance, log string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("machine %s to say %q", name, text), func() (bool, string) {
		vmi = instance(t, name)
		switch {
		case vmi == nil:
			return false, "no instance"
		case not != nil && vmi.UID == not.UID:
			return false, "the old instance, " + string(vmi.Status.Phase)
		case vmi.Status.Phase != v1.Running:
			return false, fmt.Sprintf("phase %q, %+v", vmi.Status.Phase, vmi.Status.Conditions)
		}
		log = podLog(t, vmi)
		return strings.Contains(log, text), "log: " + log
	})
	return vmi, log
}

// podLog is the guest's console as `kubectl logs` shows it, "" if it cannot be had.
func podLog(t *testing.T, vmi *v1.VirtualMachineInstance) string {
	t.Helper()
	pods := &corev1.PodList{}
	if err := box.Client.List(t.Context(), pods, client.InNamespace(vmi.Namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)}); err != nil || len(pods.Items) == 0 {
		return ""
	}
	c, err := kubernetes.NewForConfig(box.REST)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := c.CoreV1().Pods(vmi.Namespace).GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	return string(b)
}

func mac(vmi *v1.VirtualMachineInstance) string {
	for _, i := range vmi.Status.Interfaces {
		return i.MAC
	}
	return ""
}

// After a reboot of the box every machine is what its run strategy makes of a
// machine that was cut off, with the same MAC address and the same address inside
// the guest; what ran for the old boot is gone.
func TestReboot(t *testing.T) {
	fresh(t)
	ns := "default"
	guest := "ip -o -4 addr show eth0 | sed 's/.*inet /SKERRY-ADDRESS /'; echo SKERRY-MAC $(cat /sys/class/net/eth0/address)"
	create(t,
		withScript(machine(ns, "always", v1.RunStrategyAlways), guest),
		machine(ns, "rerun", v1.RunStrategyRerunOnFailure),
		machine(ns, "manual", v1.RunStrategyManual),
		machine(ns, "once", v1.RunStrategyOnce),
		machine(ns, "halted", v1.RunStrategyHalted),
	)
	if out, err := box.CLI(t.Context(), "start", "manual"); err != nil {
		t.Fatalf("start manual: %v\n%s", err, out)
	}
	before := map[string]*v1.VirtualMachineInstance{}
	logs := map[string]string{}
	for _, name := range []string{"always", "rerun", "manual", "once"} {
		text := "SKERRY-GUEST READY"
		if name == "always" {
			text = "SKERRY-MAC"
		}
		before[name], logs[name] = logged(t, name, text, nil)
	}
	ips := podAddresses(t)

	reboot(t)
	t.Logf("up after the reboot:\n%s", up(t))

	always, log := logged(t, "always", "SKERRY-MAC", before["always"])
	if was, is := guestLines(logs["always"]), guestLines(log); was == "" || was != is {
		t.Errorf("the guest had before the reboot: %q, after it: %q", was, is)
	}
	if mac(always) != mac(before["always"]) {
		t.Errorf("MAC %s before the reboot, %s after it", mac(before["always"]), mac(always))
	}
	ready(t, "rerun", before["rerun"])
	for _, name := range []string{"manual", "once"} {
		waitFor(t, name+" to stay failed", func() (bool, string) {
			vmi := instance(t, name)
			if vmi == nil {
				return false, "no instance"
			}
			return vmi.UID == before[name].UID && vmi.Status.Phase == v1.Failed, fmt.Sprintf("%s %+v", vmi.Status.Phase, vmi.Status.Conditions)
		})
	}
	if vmi := instance(t, "halted"); vmi != nil {
		t.Errorf("the halted machine has an instance: %s", vmi.Status.Phase)
	}
	// A manual machine is started again by hand.
	if out, err := box.CLI(t.Context(), "start", "manual"); err != nil {
		t.Errorf("start manual after the reboot: %v\n%s", err, out)
	} else {
		ready(t, "manual", before["manual"])
	}
	// Addresses of pods that ended with the old boot are given back.
	waitFor(t, "the old pods' addresses to be free", func() (bool, string) {
		now := podAddresses(t)
		return len(now) <= len(ips), fmt.Sprintf("reserved before %v, now %v", ips, now)
	})
	// Only the machines that run now have a QEMU.
	for pid, name := range nodeProcesses(t, cgroupRoot(t)) {
		if strings.HasPrefix(name, "qemu") && !runs(t, pid) {
			t.Errorf("QEMU %d belongs to no running machine", pid)
		}
	}
}

// guestLines is what the guest's script printed.
func guestLines(log string) string {
	var out []string
	for l := range strings.Lines(log) {
		if strings.HasPrefix(l, "SKERRY-ADDRESS") || strings.HasPrefix(l, "SKERRY-MAC") {
			out = append(out, strings.Join(strings.Fields(l), " "))
		}
	}
	return strings.Join(out, "; ")
}

// podAddresses are the addresses that the CNI plugin has given out.
func podAddresses(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(box.DataDir, "cni", "networks", "*", "[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// runs tells whether a process belongs to a running instance's pod.
func runs(t *testing.T, pid int) bool {
	t.Helper()
	list := &v1.VirtualMachineInstanceList{}
	if err := box.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Status.Phase != v1.Running {
			continue
		}
		for uid := range list.Items[i].Status.ActivePods {
			if slices.Contains(node.PodPIDs(uid), strconv.Itoa(pid)) {
				return true
			}
		}
	}
	return false
}
