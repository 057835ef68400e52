// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// A user with KubeVirt's edit role in the namespace opens the console; another is
// refused, with the status that virtctl expects.
func TestConsoleNeedsRBAC(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	rb := &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "kubevirt.io:edit"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}
	rb.Namespace, rb.Name = ns, "alice"
	create(t, rb, tinyVM(ns, "mine"))
	running(t, ns, "mine")
	as := func(user string) *rest.Config {
		c := rest.CopyConfig(shared.REST)
		c.Impersonate.UserName = user
		return c
	}
	waitFor(t, "alice to open the console", func() (bool, string) {
		conn, resp, err := stream(t.Context(), as("alice"), ns, "mine", "console")
		if err != nil {
			return false, fmt.Sprint(err, status(resp))
		}
		conn.Close()
		return true, ""
	})
	for _, sub := range []string{"console", "vnc"} {
		conn, resp, err := stream(t.Context(), as("mallory"), ns, "mine", sub)
		if err == nil {
			conn.Close()
			t.Errorf("mallory opened the %s", sub)
			continue
		}
		// The API server refuses by itself (403) what no role of the user's
		// covers; what it lets through, our server checks again (401).
		if resp == nil || resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s for mallory: %v %s, want 403 or 401", sub, err, status(resp))
		}
	}
}

func status(r *http.Response) string {
	if r == nil {
		return "no response"
	}
	b, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
	return fmt.Sprintf("%s: %s", r.Status, b)
}

// The screen that VNC shows has the guest's text on it: a blank screen has one
// colour. The picture is kept for a person to look at.
func TestVNCScreen(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := tinyVM(ns, "screen")
	// A kernel that firmware and boot loader started knows the screen's text mode.
	spec := &vm.Spec.Template.Spec
	spec.Domain.Firmware = nil
	spec.Domain.Devices.Disks = []v1.Disk{{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}}}
	spec.Volumes = []v1.Volume{{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: tinyImage, ImagePullPolicy: corev1.PullIfNotPresent}}}
	create(t, vm)
	vmi := running(t, ns, "screen")
	logContains(t, vmi, `SKERRY-GUEST READY`)
	file := filepath.Join(os.Getenv("SKERRY_E2E_ARTEFACTS"), "vnc-screen.png")
	if file == "vnc-screen.png" {
		file = filepath.Join(t.TempDir(), file)
	}
	waitFor(t, "text on the screen", func() (bool, string) {
		if out, err := shared.CLI(t.Context(), "vnc", "-n", ns, "screenshot", "screen", "--file", file); err != nil {
			return false, out
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return false, err.Error()
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			return false, err.Error()
		}
		lit, r := 0, img.Bounds()
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				if red, green, blue, _ := img.At(x, y).RGBA(); red+green+blue > 0x8000 {
					lit++
				}
			}
		}
		return lit > 1000, fmt.Sprintf("%v, %d lit pixels", r, lit)
	})
	// And the stream speaks RFB.
	conn, resp, err := stream(t.Context(), shared.REST, ns, "screen", "vnc")
	if err != nil {
		t.Fatalf("vnc: %v %s", err, status(resp))
	}
	defer conn.Close()
	_, b, err := conn.ReadMessage()
	if err != nil || !strings.HasPrefix(string(b), "RFB 003.") {
		t.Errorf("the VNC stream begins with %q, %v", b, err)
	}
}

// The API server refuses what a user got wrong, naming the field.
func TestRefusals(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for name, c := range map[string]struct{ manifest, want string }{
		"unknown field": {`
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: bad}
spec:
  runStrategy: Always
  template: {spec: {domain: {devices: {}, memry: {guest: 1Gi}}}}`, `unknown field "spec.template.spec.domain.memry"`},
		"both running and runStrategy": {`
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: bad}
spec:
  running: true
  runStrategy: Always
  template: {spec: {domain: {devices: {}, memory: {guest: 128Mi}}}}`, `spec.running`},
		"not implemented": {`
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: bad}
spec:
  runStrategy: Always
  template:
    spec:
      domain: {devices: {gpus: [{name: g, deviceName: nvidia.com/x}]}, memory: {guest: 128Mi}}`, `spec.template.spec.domain.devices.gpus`},
	} {
		t.Run(name, func(t *testing.T) {
			f := filepath.Join(t.TempDir(), "bad.yaml")
			if err := os.WriteFile(f, []byte(c.manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := shared.Kubectl(t.Context(), "-n", ns, "create", "-f", f)
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("kubectl create: %v\n%s\nwant a refusal that names %q", err, out, c.want)
			}
			t.Log(out)
		})
	}
}
