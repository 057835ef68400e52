// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/distro/box"
)

// Print writes the status for a person, one line for each thing that matters.
func (s *Status) Print(w io.Writer, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(ok bool, name, text string) {
		mark := "✓"
		if !ok {
			mark = "✗"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", mark, name, text)
	}
	line(s.Skerry.PID != 0 && s.Skerry.Err == nil, "Skerry", s.skerryText())
	line(s.API.Err == nil, "Kubernetes", orError(s.API.Detail, s.API.Err))
	line(s.Containerd.Err == nil, "containerd", orError(s.Containerd.Detail, s.Containerd.Err))
	line(s.nodeReady() == "Ready", "Node", s.nodeText())
	line(true, "VMs", s.machinesText())
	if old := oldText(s.Machines, s.Launcher); old != "" {
		fmt.Fprintf(t, "!\tVersions\t%s\n", old)
	}
	line(true, "Resize", resizeText(s.ResizePolicy))
	short := s.diskShort()
	line(s.Disk.Err == nil && !short.True, "Disk", s.diskText(short))
	if c := s.condition(box.MemoryShort); c != nil {
		line(false, "Memory", c.Message)
	}
	if c := s.condition(box.ClockWrong); c != nil {
		line(false, "Clock", c.Message)
	}
	good, text := s.certText(now)
	line(good, "Certificates", text)
	line(true, "Host", fmt.Sprintf("%s, Linux %s, %d CPUs, %s memory", s.Host.Distro, s.Host.Kernel, s.Host.CPUs, bytes(uint64(max(s.Host.Memory, 0)))))
	_ = t.Flush()

	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range s.Host.Findings() {
		mark := " "
		if !f.Good {
			mark = "!"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", mark, f.Topic, f.String())
	}
	_ = t.Flush()

	if len(s.Machines) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESPACE\tVM\tPHASE\tAGE\tIP\tMACHINE\tQEMU\tLAUNCHER")
	sort.Slice(s.Machines, func(i, j int) bool {
		a, b := &s.Machines[i], &s.Machines[j]
		return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
	})
	for i := range s.Machines {
		m := &s.Machines[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Namespace, m.Name, m.Status.Phase,
			duration.HumanDuration(now.Sub(m.CreationTimestamp.Time)), address(m), machineType(m), qemuText(m), launcherText(m, s.Launcher))
	}
	_ = t.Flush()
}

func address(m *v1.VirtualMachineInstance) string {
	if len(m.Status.Interfaces) == 0 {
		return ""
	}
	return m.Status.Interfaces[0].IPAddress
}

func machineType(m *v1.VirtualMachineInstance) string {
	if m.Status.Machine == nil {
		return ""
	}
	return m.Status.Machine.Type
}

func (s *Status) skerryText() string {
	switch {
	case s.Skerry.Err != nil:
		return s.Skerry.Err.Error()
	case s.Skerry.PID == 0:
		return "does not run: start it with `skerry up`; pods and machines that are there run on without it"
	}
	return fmt.Sprintf("running for %s, PID %d, %s resident", duration.HumanDuration(s.Skerry.Up), s.Skerry.PID, bytes(uint64(s.Skerry.RSS)))
}

func (s *Status) nodeText() string {
	if s.Node == nil {
		return "unknown: the API does not answer"
	}
	text := s.Node.Name + " " + s.nodeReady()
	for _, a := range s.Node.Status.Addresses {
		if a.Type == "InternalIP" {
			text += ", " + a.Address
		}
	}
	return fmt.Sprintf("%s, %d pods", text, s.Pods)
}

func (s *Status) machinesText() string {
	by := map[v1.VirtualMachineInstancePhase]int{}
	for i := range s.Machines {
		by[s.Machines[i].Status.Phase]++
	}
	if len(s.Machines) == 0 {
		return "none"
	}
	var parts []string
	for p, n := range by {
		parts = append(parts, fmt.Sprintf("%d %s", n, p))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// resizeText says what a change of a running machine's size does.
func resizeText(p v1.ResizePolicy) string {
	switch p {
	case v1.ResizeRestartOnly:
		return fmt.Sprintf("%s: CPUs and memory of a running VM change at its next restart", p)
	case v1.ResizeInPlaceOrMigrate:
		return fmt.Sprintf("%s: CPUs and memory of a running VM change in place, what cannot at its next restart (there is no migration yet)", p)
	default:
		return fmt.Sprintf("%s: CPUs and memory of a running VM change in place, what cannot at its next restart", v1.ResizeInPlace)
	}
}

// condition is a condition of the node that says that something is wrong now, nil
// if it does not: what a process that has ended left there says nothing.
func (s *Status) condition(of string) *corev1.NodeCondition {
	if s.Node == nil || s.Skerry.PID == 0 {
		return nil
	}
	for i := range s.Node.Status.Conditions {
		if c := &s.Node.Status.Conditions[i]; string(c.Type) == of && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// diskShort judges the disk as the cluster does, also where that does not run.
func (s *Status) diskShort() box.Condition {
	return box.Disk(s.Disk.Dir, s.condition(box.DiskShort) != nil, s.Disk.Space)
}

func (s *Status) diskText(short box.Condition) string {
	if s.Disk.Err != nil {
		return s.Disk.Err.Error()
	}
	text := fmt.Sprintf("%s free of %s at %s", bytes(s.Disk.Free), bytes(s.Disk.Total), s.Disk.Dir)
	if short.True {
		text += ": " + short.Message
	}
	return text
}

// certText tells of the certificate that ends first, or of those that should have
// been renewed, and whether all are good.
func (s *Status) certText(now time.Time) (good bool, text string) {
	if c := s.condition(box.CertificatesDue); c != nil {
		return false, c.Message
	}
	if s.CertsErr != nil {
		return false, s.CertsErr.Error()
	}
	if len(s.Certs) == 0 {
		return true, "none yet"
	}
	first := s.Certs[0]
	for _, c := range s.Certs[1:] {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	left := first.NotAfter.Sub(now)
	if left <= 0 {
		return false, fmt.Sprintf("%s ended on %s: `skerry up` renews it", first.Name, first.NotAfter.Format(time.DateOnly))
	}
	return true, fmt.Sprintf("%d, renewed by themselves; the first (%s) ends in %s", len(s.Certs), first.Name, duration.HumanDuration(left))
}

func orError(text string, err error) string {
	if err != nil {
		return err.Error()
	}
	return text
}

func bytes(n uint64) string {
	const unit = 1024
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for f >= unit && i < len(units)-1 {
		f /= unit
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
