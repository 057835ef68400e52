// SPDX-License-Identifier: Apache-2.0

package status

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestOldText(t *testing.T) {
	t.Parallel()
	const current, old = "skerry.dev/launcher:v2", "skerry.dev/launcher:v1"
	m := func(phase v1.VirtualMachineInstancePhase, image, reason string) (m v1.VirtualMachineInstance) {
		m.Status.Phase, m.Status.LauncherContainerImageVersion = phase, image
		if reason != "" {
			m.Status.Conditions = []v1.VirtualMachineInstanceCondition{{Type: v1.VMIRenewable, Status: corev1.ConditionTrue, Reason: reason}}
		}
		return m
	}
	for name, c := range map[string]struct {
		machines []v1.VirtualMachineInstance
		current  string
		want     string
	}{
		"none":    {nil, current, ""},
		"all new": {[]v1.VirtualMachineInstance{m(v1.Running, current, v1.RenewableUpToDate), m(v1.Pending, "", "")}, current, ""},
		"unknown": {[]v1.VirtualMachineInstance{m(v1.Running, old, "")}, "", ""},
		"ended":   {[]v1.VirtualMachineInstance{m(v1.Failed, old, v1.RenewableOutdated)}, current, ""},
		"old launcher": {[]v1.VirtualMachineInstance{m(v1.Running, old, v1.RenewablePodContract), m(v1.Scheduled, current, "")}, current,
			"1 of 2 VMs have an older launcher (v1; new ones get v2), until they are started anew"},
		"both": {[]v1.VirtualMachineInstance{m(v1.Running, old, v1.RenewableOutdated), m(v1.Running, old, v1.RenewableUpToDate)}, current,
			"1 of 2 VMs run on an older QEMU: `skerry vm renew --all -A` replaces it while they run; " +
				"2 of 2 VMs have an older launcher (v1; new ones get v2), until they are started anew"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := oldText(c.machines, c.current); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"":                           "",
		"skerry.dev/launcher:v0.1.0": "v0.1.0",
		"registry:5000/launcher:v1@sha256:0123456789abcdef": "v1",
		"registry:5000/launcher@sha256:0123456789abcdef":    "sha256:0123456789ab",
		"registry:5000/launcher":                            "",
	} {
		if got := tag(image); got != want {
			t.Errorf("tag(%q) = %q, want %q", image, got, want)
		}
	}
}

func TestResizeText(t *testing.T) {
	t.Parallel()
	for p, want := range map[v1.ResizePolicy]string{
		"":                        "InPlace: CPUs and memory of a running VM change in place",
		v1.ResizeInPlace:          "InPlace: CPUs and memory of a running VM change in place",
		v1.ResizeInPlaceOrMigrate: "InPlaceOrMigrate: CPUs and memory of a running VM change in place",
		v1.ResizeRestartOnly:      "RestartOnly: CPUs and memory of a running VM change at its next restart",
	} {
		s := Status{ResizePolicy: p}
		var out strings.Builder
		s.Print(&out, time.Now())
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q: no %q in\n%s", p, want, out.String())
		}
	}
}
