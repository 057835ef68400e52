// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// containerd does not know the exit code of what ended while it was dead. How a guest
// ended then is known all the same. By itself, as it takes the API away from the
// others: no t.Parallel.
func TestExitCodeLost(t *testing.T) {
	ns := namespace(t)
	type end struct {
		name, typed string
		phase       v1.VirtualMachineInstancePhase
		reason      string

		pod *corev1.Pod
		pid string
	}
	ends := []*end{
		{name: "off", typed: "\npoweroff -f\n", phase: v1.Succeeded},
		{name: "crash", typed: "\necho c > /proc/sysrq-trigger\n", phase: v1.Failed, reason: "GuestPanicked"},
		{name: "killed", phase: v1.Failed, reason: "QEMUFailed"},
	}
	for _, e := range ends {
		vm := tinyVM(ns, e.name)
		vm.Spec.RunStrategy = ptr(v1.RunStrategyOnce)
		create(t, vm)
	}
	for _, e := range ends {
		vmi := running(t, ns, e.name)
		logContains(t, vmi, `SKERRY-GUEST READY`)
		openConsole(t, ns, e.name).run("true")
		e.pod, e.pid = podOf(t, vmi), qemuPID(t, vmi)
	}
	strike(t, blow{syscall.SIGKILL, []string{"containerd", "skerry"}})
	for _, e := range ends {
		if e.typed != "" {
			typeAt(t, e.pod, e.typed, e.pid)
		} else if err := kill(e.pid); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the QEMU of "+e.name+" to end", func() (bool, string) { return dead(e.pid), "still there" })
	}
	if err := up(shared); err != nil {
		t.Fatal(err)
	}
	for _, e := range ends {
		vmi := vmiWhen(t, ns, e.name, string(e.phase), func(v *v1.VirtualMachineInstance) bool { return v.Status.Phase.IsFinal() })
		p := podOf(t, vmi)
		s := p.Status.ContainerStatuses[0].State.Terminated
		if s == nil || s.ExitCode != contract.ExitUnknown {
			t.Errorf("%s: the kubelet knows how it ended, which makes this test pointless: %+v", e.name, s)
		}
		if vmi.Status.Phase != e.phase || e.reason != "" && vmi.Status.Reason != e.reason {
			t.Errorf("%s: phase %s, reason %q, want %s %q; the container: %+v", e.name, vmi.Status.Phase, vmi.Status.Reason, e.phase, e.reason, s)
		}
	}
}

// typeAt types a text at a machine's serial port, whose agent is dead, until its QEMU
// has ended.
func typeAt(t *testing.T, pod *corev1.Pod, text, pid string) {
	t.Helper()
	dir, err := os.Open(filepath.Join(shared.DataDir, "kubelet", "pods", string(pod.UID), "volumes", "kubernetes.io~empty-dir", contract.RunVolume))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	// Through the directory's descriptor, as the path is too long for a socket.
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), contract.SerialSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(io.Discard, conn) }() // until it is closed
	var next time.Time
	waitFor(t, fmt.Sprintf("the guest to obey %q", strings.TrimSpace(text)), func() (bool, string) {
		if time.Now().After(next) {
			next = time.Now().Add(10 * time.Second)
			if _, err := io.WriteString(conn, text); err != nil && !dead(pid) {
				return false, err.Error()
			}
		}
		return dead(pid), "still there"
	})
}
