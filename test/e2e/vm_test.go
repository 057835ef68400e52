// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/node"
)

// A machine boots, its console is in `kubectl logs`, and its pod is QEMU and
// nothing else.
func TestVMBoots(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	create(t, tinyVM(ns, "first"))
	vmi := running(t, ns, "first")
	logContains(t, vmi, `SKERRY-GUEST READY`)

	pod := podOf(t, vmi)
	procs := podProcesses(t, string(pod.UID))
	if len(procs) != 1 {
		t.Fatalf("the pod has %d processes, want QEMU alone: %+v", len(procs), procs)
	}
	p := procs[0]
	if !strings.Contains(p["exe"], "qemu-system") {
		t.Errorf("the pod's process is %q, want QEMU", p["exe"])
	}
	for field, want := range map[string]string{
		"Uid": "107\t107\t107\t107", "Gid": "107\t107\t107\t107",
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2",
	} {
		if p[field] != want {
			t.Errorf("QEMU's %s is %q, want %q", field, p[field], want)
		}
	}
	if !strings.HasSuffix(strings.TrimSpace(p["NSpid"]), "\t1") {
		t.Errorf("QEMU's NSpid is %q: it is not PID 1 of its pod", p["NSpid"])
	}
	if got := len(pod.Spec.Containers) + len(pod.Spec.InitContainers); got != 1 {
		t.Errorf("the pod has %d containers, want 1", got)
	}
	if ptr := pod.Spec.AutomountServiceAccountToken; ptr == nil || *ptr {
		t.Error("the pod gets an API token")
	}

	vmi = vmiWhen(t, ns, "first", "complete in its status", func(v *v1.VirtualMachineInstance) bool {
		return len(stages(v)) >= 6 && len(v.Status.Interfaces) == 1 && v.Status.Interfaces[0].IPAddress != ""
	})
	seen := stages(vmi)
	for _, s := range []v1.Stage{v1.StageAdmitted, v1.StageScheduled, v1.StageImageReady, v1.StageNetwork, v1.StageQEMU, v1.StageFirstOutput} {
		if seen[s] == "" {
			t.Errorf("status.stages has no %s: %v", s, seen)
		}
	}
	if vmi.Status.Memory == nil || vmi.Status.Memory.MemoryOverhead == nil || vmi.Status.Memory.MemoryOverhead.IsZero() {
		t.Error("status.memory.memoryOverhead is not shown")
	}
	waitFor(t, "the VM to be Running and ready", func() (bool, string) {
		vm := &v1.VirtualMachine{}
		if err := shared.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "first"}, vm); err != nil {
			return false, err.Error()
		}
		return vm.Status.PrintableStatus == v1.StatusRunning && vm.Status.Ready != nil && *vm.Status.Ready, fmt.Sprintf("%+v", vm.Status)
	})
	for _, args := range [][]string{{"get", "vm"}, {"get", "vmi", "-o", "wide"}} {
		out, err := shared.Kubectl(t.Context(), append([]string{"-n", ns}, args...)...)
		if err != nil || !strings.Contains(out, "Running") {
			t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

func stages(vmi *v1.VirtualMachineInstance) map[v1.Stage]string {
	m := map[v1.Stage]string{}
	for _, s := range vmi.Status.Stages {
		m[s.Stage] = s.Time.String()
	}
	return m
}

// podProcesses reads /proc for every process in the pod's cgroup, without the
// sandbox's pause container.
func podProcesses(t *testing.T, podUID string) []map[string]string {
	t.Helper()
	var all []map[string]string
	for _, pid := range node.PodPIDs(podUID) {
		d := "/proc/" + pid
		status, err := os.ReadFile(d + "/status")
		if err != nil {
			continue
		}
		p := map[string]string{}
		for _, l := range strings.Split(string(status), "\n") {
			if k, v, ok := strings.Cut(l, ":"); ok {
				p[k] = strings.TrimSpace(v)
			}
		}
		p["exe"], _ = os.Readlink(d + "/exe")
		if p["Name"] == "pause" {
			continue
		}
		all = append(all, p)
	}
	return all
}

// A containerDisk boots through firmware and a boot loader, what the guest writes
// goes to an overlay, an emptyDisk is there, and cloud-init's data reaches it.
func TestContainerDisk(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := tinyVM(ns, "disk")
	spec := &vm.Spec.Template.Spec
	spec.Domain.Firmware = nil
	spec.Domain.Devices.Disks = []v1.Disk{
		{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}},
		{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}},
		{Name: "scratch", Disk: &v1.DiskTarget{Bus: "virtio"}, Serial: "SCRATCH1"},
	}
	spec.Volumes = []v1.Volume{
		{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: tinyImage, ImagePullPolicy: corev1.PullIfNotPresent}},
		{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{SecretRef: &corev1.LocalObjectReference{Name: "seed"}}},
		{Name: "scratch", EmptyDisk: &v1.EmptyDiskSource{Capacity: resource.MustParse("64Mi")}},
	}
	secret := &corev1.Secret{StringData: map[string]string{"userdata": "#!/bin/sh\necho cloud-init-ran > /tmp/proof\n"}}
	secret.Namespace, secret.Name = ns, "seed"
	create(t, secret, vm)
	running(t, ns, "disk")
	c := openConsole(t, ns, "disk")
	waitFor(t, "the seed's script to have run", func() (bool, string) {
		got := c.run("cat /tmp/proof")
		return got == "cloud-init-ran", got
	})
	if got := c.run("cat /sys/block/vdc/size"); got != "131072" {
		t.Errorf("the empty disk has %s sectors, want 131072", got)
	}
	if got := c.run("cat /sys/block/vdc/serial"); got != "SCRATCH1" {
		t.Errorf("the empty disk's serial is %q", got)
	}
	if got := c.run("dd if=/dev/urandom of=/dev/vdc bs=1M count=8 2>/dev/null && sync && md5sum < /dev/vdc | wc -c"); got == "" {
		t.Error("could not write to the empty disk")
	}
}

// The same disk boots by UEFI.
func TestUEFI(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := tinyVM(ns, "uefi")
	spec := &vm.Spec.Template.Spec
	spec.Domain.Memory.Guest = ptr(resource.MustParse("256Mi"))
	spec.Domain.Firmware = &v1.Firmware{Bootloader: &v1.Bootloader{EFI: &v1.EFI{SecureBoot: ptr(false)}}}
	spec.Domain.Devices.Disks = []v1.Disk{{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}}}
	spec.Volumes = []v1.Volume{{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: tinyImage, ImagePullPolicy: corev1.PullIfNotPresent}}}
	create(t, vm)
	running(t, ns, "uefi")
	if got := openConsole(t, ns, "uefi").run("ls /sys/firmware"); !strings.Contains(got, "efi") {
		t.Errorf("the guest was not booted by UEFI: /sys/firmware has %q", got)
	}
}

// The guest reaches a pod by its Service's name and a pod reaches the guest by
// its own, on both bindings.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for name, bind := range map[string]v1.Interface{
		"masquerade": {Name: "default", Masquerade: &v1.InterfaceMasquerade{}},
		"bridge":     {Name: "default", Bridge: &v1.InterfaceBridge{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			vm := tinyVM(ns, "guest")
			vm.Spec.Template.Spec.Domain.Devices.Interfaces = []v1.Interface{bind}
			create(t, toolsPod(ns, "web"), service(ns, "web", 8080), service(ns, "guest", 80), vm)
			running(t, ns, "guest")
			c := openConsole(t, ns, "guest")
			waitFor(t, "the guest to fetch the pod's page by Service name", func() (bool, string) {
				got := c.run("wget -qO- http://web." + ns + ".svc.cluster.local:8080/ 2>&1; wget -qO- http://web:8080/ 2>&1")
				return strings.Count(got, "pod-web") == 2, got
			})
			waitFor(t, "the pod to fetch the guest's page by Service name", func() (bool, string) {
				out, err := podExec(t, ns, "web", "wget", "-qO-", "http://guest/")
				return err == nil && strings.Contains(out, "guest"), fmt.Sprint(out, err)
			})
			vmi := vmiWhen(t, ns, "guest", "showing its address", func(v *v1.VirtualMachineInstance) bool {
				return len(v.Status.Interfaces) > 0 && v.Status.Interfaces[0].IPAddress != ""
			})
			pod := podOf(t, vmi)
			if got := vmi.Status.Interfaces[0].IPAddress; got != pod.Status.PodIP {
				t.Errorf("status shows %s, the pod has %s", got, pod.Status.PodIP)
			}
			want := pod.Status.PodIP
			if name == "masquerade" {
				want = "10.0.2.2"
			}
			if got := c.run("ip -4 -o addr show dev eth0"); !strings.Contains(got, want+"/") {
				t.Errorf("the guest has %q, want %s", got, want)
			}
			mac := strings.ToLower(vmi.Status.Interfaces[0].MAC)
			if got := c.run("cat /sys/class/net/eth0/address"); got != mac || mac == "" {
				t.Errorf("the guest's MAC is %q, status says %q", got, mac)
			}
		})
	}
}

// Deleting a machine asks the guest to power off first.
func TestGracefulDelete(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := tinyVM(ns, "graceful")
	create(t, vm)
	vmi := running(t, ns, "graceful")
	logContains(t, vmi, `SKERRY-GUEST READY`)
	c := openConsole(t, ns, "graceful")
	c.run("true")
	if err := shared.Client.Delete(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the objects to go", func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vmi), &v1.VirtualMachineInstance{})
		err2 := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vm), &v1.VirtualMachine{})
		return client.IgnoreNotFound(err) == nil && err != nil && client.IgnoreNotFound(err2) == nil && err2 != nil, fmt.Sprint(err, err2)
	})
	// The guest itself said that it went down in order.
	text, _ := c.text()
	if !regexp.MustCompile(`SKERRY-GUEST POWER-BUTTON`).MatchString(text) {
		t.Errorf("the guest never saw the power button; its console ends with:\n%s", tail(text, 600))
	}
}

// What ends a guest is told apart: it powered off, it panicked, QEMU was killed.
func TestHowItEnded(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for name, c := range map[string]struct {
		end  func(t *testing.T, vmi *v1.VirtualMachineInstance, c *console)
		want v1.VirtualMachineInstancePhase
	}{
		"poweroff": {func(t *testing.T, _ *v1.VirtualMachineInstance, c *console) { c.send("\npoweroff -f\n") }, v1.Succeeded},
		"panic": {func(t *testing.T, _ *v1.VirtualMachineInstance, c *console) {
			c.send("\necho c > /proc/sysrq-trigger\n")
		}, v1.Failed},
		"crash": {func(t *testing.T, vmi *v1.VirtualMachineInstance, _ *console) {
			killQEMU(t, vmi)
		}, v1.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := tinyVM(ns, name)
			vm.Spec.RunStrategy = ptr(v1.RunStrategyOnce)
			create(t, vm)
			vmi := running(t, ns, name)
			con := openConsole(t, ns, name)
			con.run("true")
			c.end(t, vmi, con)
			vmi = vmiWhen(t, ns, name, string(c.want), func(v *v1.VirtualMachineInstance) bool { return v.Status.Phase.IsFinal() })
			if vmi.Status.Phase != c.want {
				t.Errorf("phase %s, want %s", vmi.Status.Phase, c.want)
			}
		})
	}
}

func killQEMU(t *testing.T, vmi *v1.VirtualMachineInstance) {
	t.Helper()
	procs := podProcesses(t, string(podOf(t, vmi).UID))
	if len(procs) != 1 {
		t.Fatalf("want one process, have %+v", procs)
	}
	if err := kill(procs[0]["Pid"]); err != nil {
		t.Fatal(err)
	}
}

// start, stop, restart, pause and unpause through the CLI, on strategies Always,
// Halted and Manual.
func TestPowerVerbs(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := tinyVM(ns, "power")
	vm.Spec.RunStrategy = ptr(v1.RunStrategyHalted)
	create(t, vm)
	cli := func(args ...string) {
		t.Helper()
		if out, err := shared.CLI(t.Context(), args[0], append([]string{"-n", ns}, args[1:]...)...); err != nil {
			t.Fatalf("%v", err)
		} else {
			t.Logf("%s: %s", strings.Join(args, " "), out)
		}
	}
	status := func(want v1.VirtualMachinePrintableStatus) {
		t.Helper()
		waitFor(t, "the VM to be "+string(want), func() (bool, string) {
			got := &v1.VirtualMachine{}
			if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(vm), got); err != nil {
				return false, err.Error()
			}
			return got.Status.PrintableStatus == want, string(got.Status.PrintableStatus)
		})
	}
	dir, as := t.TempDir(), map[string]string{}
	status(v1.StatusStopped)
	cli("start", "power")
	first := running(t, ns, "power")
	c := openConsole(t, ns, "power")
	up := c.uptime()

	// The same binary under the peers' clients' names, with their arguments.
	for name, verb := range map[string]string{"virtctl": "pause", "kubectl-virt": "unpause"} {
		if err := os.Symlink(filepath.Join(shared.Bin, "skerry"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		as[verb] = filepath.Join(dir, name)
	}
	virtctl := func(verb string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), as[verb], verb, "vm", "power", "-n", ns, "--kubeconfig", shared.Kubeconfig()).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", as[verb], verb, err, out)
		}
	}
	virtctl("pause")
	status(v1.StatusPaused)
	virtctl("unpause")
	status(v1.StatusRunning)
	if again := c.uptime(); again < up {
		t.Errorf("uptime went from %v to %v over a pause", up, again)
	}

	cli("restart", "power")
	second := vmiWhen(t, ns, "power", "another one, running", func(v *v1.VirtualMachineInstance) bool {
		return v.UID != first.UID && v.Status.Phase == v1.Running
	})
	openConsole(t, ns, "power").run("true")

	cli("stop", "power")
	status(v1.StatusStopped)
	waitFor(t, "the instance to go", func() (bool, string) {
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(second), &v1.VirtualMachineInstance{})
		return err != nil && client.IgnoreNotFound(err) == nil, fmt.Sprint(err)
	})
	if out, err := shared.CLI(t.Context(), "stop", "-n", ns, "power"); err == nil {
		t.Errorf("a second stop was accepted: %s", out)
	}
}

// A guest that crashes under run strategy Always comes back.
func TestAlwaysComesBack(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	create(t, tinyVM(ns, "always"))
	first := running(t, ns, "always")
	openConsole(t, ns, "always").run("true")
	killQEMU(t, first)
	vmiWhen(t, ns, "always", "another one, running", func(v *v1.VirtualMachineInstance) bool {
		return v.UID != first.UID && v.Status.Phase == v1.Running
	})
	openConsole(t, ns, "always").run("true")
}
