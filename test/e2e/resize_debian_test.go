// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// A distribution that takes neither plugged CPUs nor memory online by itself does
// with its guest agent: /proc/cpuinfo and MemTotal, over ssh, are the evidence.
func TestResizeDebian(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	pub, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	vm := tinyVM(ns, "grown")
	spec := &vm.Spec.Template.Spec
	spec.Domain.Firmware = nil
	spec.Domain.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1, MaxSockets: 8}
	spec.Domain.Memory = &v1.Memory{Guest: ptr(resource.MustParse("512Mi")), MaxGuest: ptr(resource.MustParse("1Gi"))}
	spec.Domain.Devices.Disks = []v1.Disk{
		{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}},
		{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}},
	}
	// The test's image has rules for both; a stock one has not.
	spec.Volumes = []v1.Volume{
		{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: debianImage, ImagePullPolicy: corev1.PullIfNotPresent}},
		{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: fmt.Sprintf(`#cloud-config
ssh_authorized_keys: [%q]
bootcmd:
  - [sh, -c, "echo offline >/sys/devices/system/memory/auto_online_blocks"]
  - [sh, -c, "rm -f /etc/udev/rules.d/40-hotplug.rules && udevadm control --reload"]
`, strings.TrimSpace(string(pub)))}},
	}
	create(t, vm)
	vmiWhen(t, ns, "grown", "with its guest agent", func(vmi *v1.VirtualMachineInstance) bool {
		return vmi.Status.Condition(v1.VMIAgentConnected) != nil
	})
	see := func(what string, ok func(cpus, kib, boot int64) bool, boot int64) int64 {
		t.Helper()
		var kib int64
		waitFor(t, what, func() (bool, string) {
			out, err := shared.CLI(t.Context(), "ssh", "-n", ns, "-i", key, "-l", "debian",
				"--local-ssh-opts", "-oStrictHostKeyChecking=no", "--local-ssh-opts", "-oUserKnownHostsFile=/dev/null",
				"--local-ssh-opts", "-oBatchMode=yes", "--local-ssh-opts", "-oConnectTimeout=10", "--local-ssh-opts", "-oLogLevel=ERROR",
				"grown", "--command", `echo SEES $(grep -c ^processor /proc/cpuinfo) $(grep MemTotal /proc/meminfo) $(cat /sys/devices/system/memory/auto_online_blocks)`)
			_, rest, found := strings.Cut(out, "SEES ")
			var cpus int64
			if n, _ := fmt.Sscanf(rest, "%d MemTotal: %d kB offline", &cpus, &kib); err != nil || !found || n != 2 {
				return false, out
			}
			return ok(cpus, kib, boot), rest
		})
		return kib
	}
	boot := see("the guest at its start", func(cpus, _, _ int64) bool { return cpus == 1 }, 0)
	r := &resizable{witnessed: &witnessed{t: t, namespace: ns, name: "grown"}}
	r.patch(2, "768Mi")
	see("the guest to use 2 CPUs and 256 MiB more", func(cpus, kib, boot int64) bool { return cpus == 2 && kib-boot == 256<<10 }, boot)
	vmiWhen(t, ns, "grown", "resized", func(vmi *v1.VirtualMachineInstance) bool {
		return vmi.Status.CurrentCPUTopology.Sockets == 2 && vmi.Status.Memory.GuestCurrent.Value() == 768*mib
	})
}
