// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package renew

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/node"
	"github.com/skerry-dev/skerry/test/witness"
)

const tinyKernelImage = "skerry.dev/test/tiny-kernel:latest"

func ptr[T any](v T) *T { return &v }

// namespace makes one that is deleted at the end.
func namespace(t *testing.T, name string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := box.Client.Create(t.Context(), ns); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range [][]string{{"get", "events", "--sort-by=.lastTimestamp"}, {"get", "vmi", "-o", "yaml"}, {"logs", "--tail=40", "-l", "kubevirt.io=virt-launcher"}} {
				out, _ := box.Kubectl(context.Background(), append([]string{"-n", name}, args...)...)
				fmt.Fprintf(os.Stderr, "--- kubectl -n %s %s\n%s\n", name, strings.Join(args, " "), out)
			}
		}
		if err := box.Client.Delete(context.Background(), ns); err != nil {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	})
	waitFor(t, "the default ServiceAccount", func() (bool, string) {
		err := box.Client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, fmt.Sprint(err)
	})
	return name
}

// guest is a machine with a disk, a network behind masquerade and cloud-init,
// whose script starts the witness.
type guest struct {
	namespace, name string
	ip              string
	vmi             *v1.VirtualMachineInstance
	pod             *corev1.Pod
	process         process
	report          witness.Report
}

// process is what must not change when QEMU is replaced.
type process struct {
	PID, Started string
	// RAM is the file that is the guest's memory.
	RAM uint64
}

func newGuest(t *testing.T, namespace, name string, change func(*v1.VirtualMachineInstanceSpec)) *guest {
	t.Helper()
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	vm.Spec.RunStrategy = ptr(v1.RunStrategyOnce)
	vm.Spec.Template.Spec = v1.VirtualMachineInstanceSpec{
		TerminationGracePeriodSeconds: ptr(int64(0)),
		Domain: v1.DomainSpec{
			Memory: &v1.Memory{Guest: ptr(resource.MustParse("128Mi"))},
			Firmware: &v1.Firmware{KernelBoot: &v1.KernelBoot{
				KernelArgs: "console=ttyS0 quiet cryptomgr.notests no_timer_check skerry.heartbeat=off",
				Container: &v1.KernelBootContainer{
					Image: tinyKernelImage, KernelPath: "/boot/vmlinux", InitrdPath: "/boot/initrd",
					ImagePullPolicy: corev1.PullIfNotPresent,
				},
			}},
			Devices: v1.Devices{
				Disks:      []v1.Disk{{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}}},
				Interfaces: []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}},
			},
		},
		Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}},
		Volumes:  []v1.Volume{{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#!/bin/sh\nwitness start\n"}}},
	}
	spec := &vm.Spec.Template.Spec
	witness.AddDisk(spec)
	if change != nil {
		change(spec)
	}
	if err := box.Client.Create(t.Context(), vm); err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return &guest{namespace: namespace, name: name}
}

func (g *guest) get(t *testing.T) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := box.Client.Get(t.Context(), client.ObjectKey{Namespace: g.namespace, Name: g.name}, vmi); err != nil {
		t.Fatalf("get %s: %v", g.name, err)
	}
	return vmi
}

// when waits until the instance is as wanted.
func (g *guest) when(t *testing.T, what string, ok func(*v1.VirtualMachineInstance) bool) *v1.VirtualMachineInstance {
	t.Helper()
	var vmi *v1.VirtualMachineInstance
	waitFor(t, g.name+" to be "+what, func() (bool, string) {
		vmi = &v1.VirtualMachineInstance{}
		if err := box.Client.Get(t.Context(), client.ObjectKey{Namespace: g.namespace, Name: g.name}, vmi); err != nil {
			return false, err.Error()
		}
		return ok(vmi), fmt.Sprintf("phase %q, QEMU %+v, conditions %+v", vmi.Status.Phase, vmi.Status.QEMU, vmi.Status.Conditions)
	})
	return vmi
}

// renewableWhen waits for a reason of the condition Renewable.
func (g *guest) renewableWhen(t *testing.T, reason string) *v1.VirtualMachineInstance {
	t.Helper()
	return g.when(t, "Renewable: "+reason, func(vmi *v1.VirtualMachineInstance) bool {
		c := vmi.Status.Condition(v1.VMIRenewable)
		return c != nil && c.Reason == reason
	})
}

// awake waits until the witness answers and remembers how all stands.
func (g *guest) awake(t *testing.T) {
	t.Helper()
	g.vmi = g.when(t, "running with an address", func(vmi *v1.VirtualMachineInstance) bool {
		return vmi.Status.Phase == v1.Running && len(vmi.Status.Interfaces) > 0 && vmi.Status.Interfaces[0].IPAddress != ""
	})
	g.ip = g.vmi.Status.Interfaces[0].IPAddress
	waitFor(t, "the witness in "+g.name, func() (bool, string) {
		r, err := g.ask(t, "reset")
		g.report = r
		return err == nil && r.Disk != "none" && r.Acked > 0, fmt.Sprint(r, err)
	})
	pods := &corev1.PodList{}
	if err := box.Client.List(t.Context(), pods, client.InNamespace(g.namespace), client.MatchingLabels{v1.CreatedByLabel: string(g.vmi.UID)}); err != nil || len(pods.Items) != 1 {
		t.Fatalf("pods of %s: %d, %v", g.name, len(pods.Items), err)
	}
	g.pod = &pods.Items[0]
	g.process = g.look(t)
}

func (g *guest) ask(t *testing.T, command string) (witness.Report, error) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	text, err := witness.Ask(ctx, g.ip, command)
	if err != nil {
		return witness.Report{}, err
	}
	return witness.ParseReport(text)
}

// pid is QEMU's: the pod's only process beside its sandbox's.
func (g *guest) pid(t *testing.T) string {
	t.Helper()
	var all []string
	for _, pid := range node.PodPIDs(string(g.pod.UID)) {
		if b, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil && strings.TrimSpace(string(b)) != "pause" {
			all = append(all, pid)
		}
	}
	if len(all) != 1 {
		t.Fatalf("pod of %s has processes %v, want QEMU alone", g.name, all)
	}
	return all[0]
}

func (g *guest) look(t *testing.T) process {
	t.Helper()
	p := process{PID: g.pid(t)}
	b, err := os.ReadFile("/proc/" + p.PID + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > 19 {
		p.Started = f[19] // field 22 of proc(5)
	}
	p.RAM, _ = g.memory(t, p.PID)
	return p
}

// memory finds the file that is the guest's memory: its inode and its size on the
// memory file system in bytes.
func (g *guest) memory(t *testing.T, pid string) (inode uint64, size int64) {
	t.Helper()
	fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]int64{}
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(to, "/memfd:") {
			continue
		}
		st, err := os.Stat(fd)
		if err != nil {
			continue
		}
		if s := st.Sys().(*syscall.Stat_t); s.Size == 128<<20 {
			found[s.Ino] = s.Blocks * 512
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has memory files %v, want one of 128 MiB", g.name, found)
	}
	for inode, size = range found {
	}
	return inode, size
}

// ranOn fails the test unless the guest has run on: in the same process, with the
// same memory, and with all on its disk that it had called acknowledged.
func (g *guest) ranOn(t *testing.T) {
	t.Helper()
	if now := g.look(t); now != g.process {
		t.Errorf("%s: process and memory %+v, before %+v", g.name, now, g.process)
	}
	now, err := g.ask(t, "report")
	if err == nil {
		err = now.Since(g.report)
	}
	if err != nil {
		t.Errorf("%s: %v", g.name, err)
		return
	}
	g.report = now
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	text, err := witness.Ask(ctx, g.ip, "verify")
	if err == nil {
		var v witness.Verify
		if v, err = witness.ParseVerify(text); err == nil {
			err = v.Check(now.Acked)
		}
	}
	if err != nil {
		t.Errorf("disk of %s: %v", g.name, err)
	}
	pod := &corev1.Pod{}
	if err := box.Client.Get(t.Context(), client.ObjectKeyFromObject(g.pod), pod); err != nil {
		t.Fatal(err)
	}
	if pod.UID != g.pod.UID || len(pod.Status.ContainerStatuses) != 1 || pod.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("%s: pod %s with %+v, before %s", g.name, pod.UID, pod.Status.ContainerStatuses, g.pod.UID)
	}
}

// program is the QEMU that runs, as its own maps name it.
func (g *guest) program(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + g.process.PID + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) == 6 && strings.HasSuffix(f[5], "/qemu-system-x86_64") {
			return f[5]
		}
	}
	t.Fatalf("%s: process %s has no QEMU in its maps", g.name, g.process.PID)
	return ""
}
