// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// DefaultVMI fills in a new VirtualMachineInstance: afterwards its spec says
// everything that the machine is made from. The order is KubeVirt's, since later
// defaults depend on earlier ones.
func DefaultVMI(vmi *v1.VirtualMachineInstance, c Cluster) {
	spec := &vmi.Spec
	defaultPlatform(spec, c)
	defaultResources(spec)
	defaultMemory(&spec.Domain)
	defaultCPU(&spec.Domain, c)
	defaultPullPolicies(spec)
	if spec.EvictionStrategy == nil {
		spec.EvictionStrategy = ptr(EvictionNone)
	}
	defaultNetworks(spec, c)
	defaultDisks(spec)
	defaultInputs(&spec.Domain.Devices)
	defaultFirmware(&spec.Domain, c)
	defaultHyperV(&spec.Domain)
	defaultWatchdog(spec.Domain.Devices.Watchdog)
	defaultGrowth(&spec.Domain, c)
	if !slices.Contains(vmi.Finalizers, v1.VMIFinalizer) {
		vmi.Finalizers = append(vmi.Finalizers, v1.VMIFinalizer)
	}
	defaultStatus(vmi, c)
}

func defaultResources(spec *v1.VirtualMachineInstanceSpec) {
	r := spec.Domain.Resources
	if r == nil {
		return
	}
	limit, ok := r.Limits[corev1.ResourceCPU]
	if _, has := r.Requests[corev1.ResourceCPU]; ok && !has {
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[corev1.ResourceCPU] = limit
	}
}

func defaultMemory(d *v1.DomainSpec) {
	if d.Memory != nil && d.Memory.Guest != nil {
		return
	}
	var guest *resource.Quantity
	if r := d.Resources; r != nil {
		if q, ok := r.Requests[corev1.ResourceMemory]; ok {
			guest = &q
		} else if q, ok := r.Limits[corev1.ResourceMemory]; ok {
			guest = &q
		}
	}
	if guest == nil && d.Memory != nil && d.Memory.Hugepages != nil {
		if q, err := resource.ParseQuantity(d.Memory.Hugepages.PageSize); err == nil {
			guest = &q
		}
	}
	if guest == nil {
		return // refused by validation
	}
	if d.Memory == nil {
		d.Memory = &v1.Memory{}
	}
	g := guest.DeepCopy()
	d.Memory.Guest = &g
}

func defaultCPU(d *v1.DomainSpec, c Cluster) {
	if d.CPU == nil {
		d.CPU = &v1.CPU{}
	}
	cpu := d.CPU
	if cpu.Sockets == 0 && cpu.Cores == 0 && cpu.Threads == 0 {
		cpu.Sockets = vcpusFromResources(d.Resources)
	}
	for _, n := range []*int64{&cpu.Sockets, &cpu.Cores, &cpu.Threads} {
		if *n == 0 {
			*n = 1
		}
	}
	if cpu.Model == "" {
		cpu.Model = c.CPUModel
	}
}

// vcpusFromResources is the number of virtual CPUs of a machine without a CPU
// topology: its CPU limit or else its request, rounded up.
func vcpusFromResources(r *v1.ResourceRequirements) int64 {
	if r == nil {
		return 1
	}
	for _, l := range []corev1.ResourceList{r.Limits, r.Requests} {
		if q, ok := l[corev1.ResourceCPU]; ok && q.Sign() > 0 {
			return q.Value()
		}
	}
	return 1
}

func defaultPullPolicies(spec *v1.VirtualMachineInstanceSpec) {
	for i := range spec.Volumes {
		if cd := spec.Volumes[i].ContainerDisk; cd != nil && cd.ImagePullPolicy == "" {
			cd.ImagePullPolicy = pullPolicy(cd.Image)
		}
	}
	if fw := spec.Domain.Firmware; fw != nil && fw.KernelBoot != nil && fw.KernelBoot.Container != nil {
		if kc := fw.KernelBoot.Container; kc.ImagePullPolicy == "" {
			kc.ImagePullPolicy = pullPolicy(kc.Image)
		}
	}
}

// pullPolicy is Kubernetes' own default for a container's image.
func pullPolicy(image string) corev1.PullPolicy {
	if strings.Contains(image, "@") {
		return corev1.PullIfNotPresent
	}
	last := image[strings.LastIndex(image, "/")+1:]
	if _, tag, ok := strings.Cut(last, ":"); ok && tag != "latest" {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

func defaultNetworks(spec *v1.VirtualMachineInstanceSpec, c Cluster) {
	dev := &spec.Domain.Devices
	if len(spec.Networks) == 0 && len(dev.Interfaces) == 0 && isTrue(dev.AutoattachPodInterface, true) {
		spec.Networks = []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}}
		nic := v1.Interface{Name: "default"}
		if c.Masquerade {
			nic.Masquerade = &v1.InterfaceMasquerade{}
		} else {
			nic.Bridge = &v1.InterfaceBridge{}
		}
		dev.Interfaces = []v1.Interface{nic}
	}
	for i := range dev.Interfaces {
		nic := &dev.Interfaces[i]
		if nic.Model == "" {
			nic.Model = "virtio"
		}
		for j := range nic.Ports {
			if nic.Ports[j].Protocol == "" {
				nic.Ports[j].Protocol = "TCP"
			}
		}
	}
}

func defaultDisks(spec *v1.VirtualMachineInstanceSpec) {
	dev := &spec.Domain.Devices
	used := map[string]bool{}
	for _, d := range dev.Disks {
		used[d.Name] = true
	}
	for _, f := range dev.Filesystems {
		used[f.Name] = true
	}
	for _, v := range spec.Volumes {
		if !used[v.Name] && v.MemoryDump == nil && v.DownwardMetrics == nil {
			dev.Disks = append(dev.Disks, v1.Disk{Name: v.Name})
			used[v.Name] = true
		}
	}
	bus := "virtio"
	if spec.Architecture == "amd64" {
		bus = "sata"
	}
	for i := range dev.Disks {
		d := &dev.Disks[i]
		if d.Disk == nil && d.LUN == nil && d.CDRom == nil {
			d.Disk = &v1.DiskTarget{}
		}
		if d.Disk != nil && d.Disk.Bus == "" {
			d.Disk.Bus = bus
		}
		if d.LUN != nil && d.LUN.Bus == "" {
			d.LUN.Bus = bus
		}
		if cd := d.CDRom; cd != nil {
			if cd.Bus == "" {
				cd.Bus = "sata"
			}
			if cd.Readonly == nil {
				cd.Readonly = ptr(true)
			}
			if cd.Tray == "" {
				cd.Tray = "closed"
			}
		}
	}
}

func defaultInputs(dev *v1.Devices) {
	if isTrue(dev.AutoattachInputDevice, false) && len(dev.Inputs) == 0 {
		dev.Inputs = []v1.Input{{Name: "default-0"}}
	}
	for i := range dev.Inputs {
		if dev.Inputs[i].Bus == "" {
			dev.Inputs[i].Bus = "usb"
		}
		if dev.Inputs[i].Type == "" {
			dev.Inputs[i].Type = "tablet"
		}
	}
}

func defaultFirmware(d *v1.DomainSpec, c Cluster) {
	if d.Firmware == nil {
		d.Firmware = &v1.Firmware{}
	}
	if d.Firmware.UUID == "" {
		d.Firmware.UUID = c.NewUUID()
	}
	if d.Features == nil {
		d.Features = &v1.Features{}
	}
	if d.Features.ACPI == nil {
		d.Features.ACPI = &v1.FeatureState{}
	}
	if d.Features.ACPI.Enabled == nil {
		d.Features.ACPI.Enabled = ptr(true)
	}
}

// defaultHyperV switches on what other Hyper-V features need, unless the spec
// mentions it.
func defaultHyperV(d *v1.DomainSpec) {
	h := d.Features.Hyperv
	if h == nil {
		return
	}
	need := func(f **v1.FeatureState) {
		if *f == nil {
			*f = &v1.FeatureState{Enabled: ptr(true)}
		}
	}
	if enabled(h.Evmcs) {
		need(&h.Vapic)
		if !slices.ContainsFunc(d.CPU.Features, func(f v1.CPUFeature) bool { return f.Name == "vmx" }) {
			d.CPU.Features = append(d.CPU.Features, v1.CPUFeature{Name: "vmx", Policy: "require"})
		}
	}
	if t := h.Synictimer; t != nil && isTrue(t.Enabled, true) {
		need(&h.Synic)
	}
	if t := h.Tlbflush; enabled(h.Synic) || enabled(h.Ipi) || t != nil && isTrue(t.Enabled, true) {
		need(&h.Vpindex)
	}
}

func defaultWatchdog(w *v1.Watchdog) {
	if w == nil {
		return
	}
	if w.I6300esb == nil && w.Diag288 == nil {
		w.I6300esb = &v1.I6300ESBWatchdog{}
	}
	if w.I6300esb != nil && w.I6300esb.Action == "" {
		w.I6300esb.Action = "reset"
	}
}

const (
	mebibyte = int64(1) << 20
	gibibyte = int64(1) << 30
)

// growsUnasked is the guest memory from which a machine gets room to grow without
// asking. Room beyond what it boots with makes Linux reserve 64 MiB of bounce
// buffers, unless some of its memory is above 4 GiB and it has them anyway.
const growsUnasked = 3 * gibibyte

// defaultGrowth says how far the machine may grow while it runs. A machine that
// is not eligible stays without a limit, as in KubeVirt.
func defaultGrowth(d *v1.DomainSpec, c Cluster) {
	cpu := d.CPU
	if cpu.MaxSockets == 0 && cpu.Sockets > 0 && cpu.Cores > 0 && cpu.Threads > 0 && cpu.Sockets <= c.MaxVCPUs {
		cpu.MaxSockets = cpu.Sockets * c.MaxHotplugRatio
		if per := mulCapped(cpu.Cores, cpu.Threads); mulCapped(per, cpu.MaxSockets) > c.MaxVCPUs {
			cpu.MaxSockets = max(cpu.Sockets, c.MaxVCPUs/per)
		}
	}
	m := d.Memory
	if m == nil || m.Guest == nil || m.MaxGuest != nil {
		return
	}
	guest := m.Guest.Value()
	eligible := guest >= growsUnasked && guest%(2*mebibyte) == 0 && guest <= maxGuestMemory/c.MaxHotplugRatio &&
		d.LaunchSecurity == nil && cpu.Realtime == nil && cpu.NUMA == nil
	if eligible {
		m.MaxGuest = resource.NewQuantity(guest*c.MaxHotplugRatio, m.Guest.Format)
	}
}

func defaultStatus(vmi *v1.VirtualMachineInstance, c Cluster) {
	s := &vmi.Status
	s.RuntimeUser = v1.QEMUUser
	if s.Phase == "" {
		at := c.Now()
		now := metav1.NewTime(at)
		s.Phase = v1.Pending
		s.PhaseTransitionTimestamps = []v1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: v1.Pending, PhaseTransitionTimestamp: &now}}
		s.Stages = []v1.StageTimestamp{{Stage: v1.StageAdmitted, Time: metav1.NewMicroTime(at)}}
	}
	if m := vmi.Spec.Domain.Memory; m != nil && m.Guest != nil && s.Memory == nil {
		atBoot, current, requested := m.Guest.DeepCopy(), m.Guest.DeepCopy(), m.Guest.DeepCopy()
		s.Memory = &v1.MemoryStatus{GuestAtBoot: &atBoot, GuestCurrent: &current, GuestRequested: &requested}
	}
	if cpu := vmi.Spec.Domain.CPU; s.CurrentCPUTopology == nil {
		s.CurrentCPUTopology = &v1.CPUTopology{Sockets: cpu.Sockets, Cores: cpu.Cores, Threads: cpu.Threads}
	}
}

// enabled follows the API's rule that a feature that is mentioned is on.
func enabled(f *v1.FeatureState) bool { return f != nil && isTrue(f.Enabled, true) }

func isTrue(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

func ptr[T any](v T) *T { return &v }

// mulCapped multiplies two positive numbers and stops at the largest int64.
func mulCapped(a, b int64) int64 {
	if a > 0 && b > (1<<63-1)/a {
		return 1<<63 - 1
	}
	return a * b
}
