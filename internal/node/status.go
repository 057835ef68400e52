// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Reasons in conditions, beside those of problems.
const (
	reasonPausedByUser  = "PausedByUser"
	reasonPausedIOError = "PausedIOError"
	reasonEmulation     = "NoKVM"
	reasonNotMigratable = "DisksNotLiveMigratable"
	reasonCrashed       = "QEMUFailed" // status.reason
)

// Values of VolumeStatus.
const (
	volumePending     = "Pending" // the controller's: the claim has no volume
	volumeReady       = "Ready"
	volumeReadyReason = "VolumeReady"
)

// Where an interface's facts come from.
const (
	sourceDomain = "domain"
	sourceAgent  = "guest-agent"
	sourceMultus = "multus-status"
)

// problems are the reasons with which the agent writes Synchronized=False; with
// any other reason the condition is the controller's.
var problems = []string{problemNetwork, problemCloudInit, problemSpec, problemVolume, problemLauncher, problemRefused, problemMonitor}

// next is the status with what was observed. It never changes its input.
func next(old v1.VirtualMachineInstanceStatus, vmi *v1.VirtualMachineInstance, o observed, now time.Time) v1.VirtualMachineInstanceStatus {
	st := *old.DeepCopy()
	if st.Phase.IsFinal() {
		return st
	}
	if o.problem != nil {
		st.SetCondition(v1.VMISynchronized, corev1.ConditionFalse, o.problem.reason, o.problem.message, now)
	} else if c := st.Condition(v1.VMISynchronized); c != nil && c.Status == corev1.ConditionFalse && slices.Contains(problems, c.Reason) {
		st.RemoveCondition(v1.VMISynchronized)
	}
	for _, s := range stageOrder {
		if at, ok := o.stages[s]; ok {
			setStage(&st, s, at)
		}
	}
	if !o.up {
		return st
	}
	if st.Phase != v1.Running {
		st.Phase = v1.Running
		st.StampPhase(v1.Running, now)
	}
	if o.crashed && st.Reason == "" {
		st.Reason = reasonCrashed
	}
	shapeStatus(&st, vmi, o)
	if o.qemu != nil {
		st.QEMU = o.qemu.DeepCopy()
	}
	if o.sizes != nil {
		resizeStatus(&st, vmi, o.sizes)
	}
	conditions(&st, o, now)
	if o.agent && o.guestOS != nil {
		g := o.guestOS
		st.GuestOSInfo = &v1.VirtualMachineInstanceGuestOSInfo{
			ID: g.ID, Name: g.Name, PrettyName: g.PrettyName, Version: g.Version, VersionId: g.VersionID,
			KernelRelease: g.KernelRelease, KernelVersion: g.KernelVersion, Machine: g.Machine,
		}
	}
	return st
}

// shapeStatus writes the facts that are fixed for the machine's life, and its memory.
func shapeStatus(st *v1.VirtualMachineInstanceStatus, vmi *v1.VirtualMachineInstance, o observed) {
	if st.RuntimeUser == 0 {
		st.RuntimeUser = v1.QEMUUser
	}
	mem := st.Memory.DeepCopy()
	if mem == nil {
		mem = &v1.MemoryStatus{}
	}
	if s := o.shape; s != nil {
		if st.Machine == nil || st.Machine.Type == "" {
			// What it started with; a newer agent may see a newer default.
			st.Machine = &v1.Machine{Type: s.machineType}
		}
		if st.CurrentCPUTopology == nil {
			st.CurrentCPUTopology = s.cpu.DeepCopy()
		}
		if mem.GuestAtBoot == nil {
			mem.GuestAtBoot = bytesQuantity(s.bootMemory)
		}
		if mem.GuestRequested == nil {
			mem.GuestRequested = bytesQuantity(s.bootMemory)
		}
		if s.overhead > 0 && mem.MemoryOverhead == nil {
			mem.MemoryOverhead = bytesQuantity(s.overhead)
		}
		st.Interfaces = interfaces(s.nics, o)
		if s.networks != nil {
			st.NetworkStatus = s.networks
		}
		st.VolumeStatus = volumes(st.VolumeStatus, s.volumes, o.diskSizes)
	}
	if o.memory > 0 {
		mem.GuestCurrent = bytesQuantity(o.memory)
	}
	if !equality.Semantic.DeepEqual(mem, st.Memory) && *mem != (v1.MemoryStatus{}) {
		st.Memory = mem
	}
}

func bytesQuantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

func conditions(st *v1.VirtualMachineInstanceStatus, o observed, now time.Time) {
	if reason, message, ok := o.paused(); ok {
		st.SetCondition(v1.VMIPaused, corev1.ConditionTrue, reason, message, now)
	} else {
		st.RemoveCondition(v1.VMIPaused)
	}
	if o.agent {
		st.SetCondition(v1.VMIAgentConnected, corev1.ConditionTrue, "", "", now)
	} else {
		st.RemoveCondition(v1.VMIAgentConnected)
	}
	if o.emulated {
		st.SetCondition(v1.VMISoftwareEmulation, corev1.ConditionTrue, reasonEmulation,
			"the machine runs in software emulation, many times slower than with KVM; the node's condition "+NodeCondition+" says why", now)
	} else {
		st.RemoveCondition(v1.VMISoftwareEmulation)
	}
	if r := o.renewable; r != nil {
		st.SetCondition(v1.VMIRenewable, r.status, r.reason, r.message, now)
	}
	st.SetCondition(v1.VMILiveMigratable, corev1.ConditionFalse, reasonNotMigratable,
		"its disks are files on this node, and live migration is not supported yet", now)
}

// interfaces are the machine's interfaces, the pod network's first, then those
// that only the guest knows of.
func interfaces(nics []nic, o observed) []v1.VirtualMachineInstanceNetworkInterface {
	claimed := make([]bool, len(o.guestNICs))
	var out []v1.VirtualMachineInstanceNetworkInterface
	for _, n := range nics {
		i := v1.VirtualMachineInstanceNetworkInterface{
			Name: n.name, MAC: n.mac, PodInterfaceName: n.podInterface,
			InfoSource: sourceDomain, QueueCount: 1, LinkState: "up",
		}
		if n.linkDown {
			i.LinkState = "down"
		}
		for _, a := range n.podIPs {
			i.IPAddresses = append(i.IPAddresses, a.String())
		}
		for g, seen := range o.guestNICs {
			if !o.agent || claimed[g] || seen.MAC == nil || seen.MAC.String() != canonicalMAC(n.mac) {
				continue
			}
			claimed[g] = true
			i.InterfaceName = seen.Name
			i.InfoSource += ", " + sourceAgent
			if !n.masquerade && len(seen.Addresses) > 0 {
				i.IPAddresses = nil
				for _, a := range seen.Addresses {
					i.IPAddresses = append(i.IPAddresses, a.String())
				}
			}
			break
		}
		if n.attached {
			i.InfoSource += ", " + sourceMultus
		}
		if len(i.IPAddresses) > 0 {
			i.IPAddress = i.IPAddresses[0]
		}
		if n.podNetwork {
			out = slices.Insert(out, 0, i)
		} else {
			out = append(out, i)
		}
	}
	if !o.agent {
		return out
	}
	for g, seen := range o.guestNICs {
		if claimed[g] || seen.MAC == nil || len(seen.Addresses) == 0 {
			continue // bridges' ports and the like come and go, and help nobody
		}
		i := v1.VirtualMachineInstanceNetworkInterface{InterfaceName: seen.Name, MAC: seen.MAC.String(), InfoSource: sourceAgent}
		for _, a := range seen.Addresses {
			i.IPAddresses = append(i.IPAddresses, a.String())
		}
		i.IPAddress = i.IPAddresses[0]
		out = append(out, i)
	}
	return out
}

func canonicalMAC(s string) string {
	if m, err := net.ParseMAC(s); err == nil {
		return m.String()
	}
	return s
}

// volumes puts what the machine has over what is there, and keeps what others
// wrote about the same volume.
func volumes(old, have []v1.VolumeStatus, sizes map[string]int64) []v1.VolumeStatus {
	out := slices.Clone(old)
	for _, v := range have {
		if n, ok := sizes[v.Name]; ok {
			v.Size = n
		}
		i := slices.IndexFunc(out, func(o v1.VolumeStatus) bool { return o.Name == v.Name })
		if i < 0 {
			out = append(out, v)
			continue
		}
		out[i].Target = v.Target
		if out[i].Phase == "" || out[i].Phase == volumePending {
			out[i].Phase, out[i].Reason, out[i].Message = v.Phase, v.Reason, v.Message
		}
		if _, ok := sizes[v.Name]; ok || out[i].Size == 0 {
			out[i].Size = v.Size
		}
	}
	return sortedVolumes(out)
}

// setStage stamps a stage that has no stamp yet.
func setStage(st *v1.VirtualMachineInstanceStatus, stage v1.Stage, at time.Time) {
	for _, s := range st.Stages {
		if s.Stage == stage {
			return
		}
	}
	st.Stages = append(st.Stages, v1.StageTimestamp{Stage: stage, Time: metav1.NewMicroTime(at.Truncate(time.Microsecond))})
}

// urgent tells whether a change should be written at once. The rest can wait
// until there is more to write: the guest has some influence on how often it changes.
func urgent(old, next *v1.VirtualMachineInstanceStatus) bool {
	if old.Phase != next.Phase || old.Reason != next.Reason {
		return true
	}
	if resizeUrgent(old.Resize, next.Resize) {
		return true
	}
	for _, t := range []v1.VirtualMachineInstanceConditionType{v1.VMIPaused, v1.VMISynchronized} {
		if !equality.Semantic.DeepEqual(old.Condition(t), next.Condition(t)) {
			return true
		}
	}
	return false
}

// happening is an Event about an instance.
type happening struct{ kind, reason, note string }

// happenings are the Events that a written change of status is worth.
func happenings(old, next *v1.VirtualMachineInstanceStatus) []happening {
	var out []happening
	add := func(kind, reason, note string) { out = append(out, happening{kind, reason, note}) }
	if old.Phase != v1.Running && next.Phase == v1.Running {
		add(corev1.EventTypeNormal, eventStarted, "VirtualMachineInstance started.")
	}
	was, is := old.Condition(v1.VMIPaused), next.Condition(v1.VMIPaused)
	switch {
	case was == nil && is != nil && is.Reason == reasonPausedIOError:
		add(corev1.EventTypeWarning, eventPaused, is.Message)
	case was == nil && is != nil:
		add(corev1.EventTypeNormal, eventPaused, "VirtualMachineInstance paused.")
	case was != nil && is == nil:
		add(corev1.EventTypeNormal, eventUnpaused, "VirtualMachineInstance unpaused.")
	}
	was, is = old.Condition(v1.VMISynchronized), next.Condition(v1.VMISynchronized)
	if is != nil && is.Status == corev1.ConditionFalse && slices.Contains(problems, is.Reason) &&
		(was == nil || was.Reason != is.Reason || was.Message != is.Message) {
		add(corev1.EventTypeWarning, eventSyncFailed, fmt.Sprintf("%s: %s", is.Reason, is.Message))
	}
	return out
}
