// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/rand"
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

// A stock distribution: cloud-init puts a key and a nonce into a Debian guest,
// and a command over `skerry ssh` brings the nonce back.
func TestDebianOverSSH(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v %s", err, out)
	}
	pub, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	nonce := rand.Text()
	vm := tinyVM(ns, "debian")
	spec := &vm.Spec.Template.Spec
	spec.Domain.Firmware = nil
	spec.Domain.Memory.Guest = ptr(resource.MustParse("512Mi"))
	spec.Domain.Devices.Disks = []v1.Disk{
		{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}},
		{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}},
	}
	spec.Volumes = []v1.Volume{
		{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: debianImage, ImagePullPolicy: corev1.PullIfNotPresent}},
		{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: fmt.Sprintf(`#cloud-config
ssh_authorized_keys: [%q]
write_files: [{path: /etc/nonce, content: %q}]
`, strings.TrimSpace(string(pub)), nonce)}},
	}
	create(t, vm)
	running(t, ns, "debian")
	waitFor(t, "a command over ssh", func() (bool, string) {
		out, err := shared.CLI(t.Context(), "ssh", "-n", ns, "-i", key, "-l", "debian",
			"--local-ssh-opts", "-oStrictHostKeyChecking=no", "--local-ssh-opts", "-oUserKnownHostsFile=/dev/null",
			"--local-ssh-opts", "-oBatchMode=yes", "--local-ssh-opts", "-oConnectTimeout=10",
			"debian", "--command", "cat /etc/nonce && hostname && systemctl is-active qemu-guest-agent")
		return err == nil && strings.Contains(out, nonce) && strings.Contains(out, "debian"), out
	})
	vmi := vmiWhen(t, ns, "debian", "known by its guest agent", func(v *v1.VirtualMachineInstance) bool {
		return v.Status.GuestOSInfo != nil && v.Status.GuestOSInfo.ID == "debian"
	})
	t.Logf("guest agent: %+v", *vmi.Status.GuestOSInfo)
}
