// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

func quantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

// small is an instance with 1 vCPU and 128 MiB.
func small() *v1.VirtualMachineInstance {
	return &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "vm", UID: "11111111-2222-4333-8444-555555555555"},
		Spec: v1.VirtualMachineInstanceSpec{Domain: v1.DomainSpec{
			CPU:    &v1.CPU{},
			Memory: &v1.Memory{Guest: quantity(128 * mib)},
		}},
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	disk := func(d v1.Disk, v v1.Volume) func(*v1.VirtualMachineInstance) {
		return func(vmi *v1.VirtualMachineInstance) {
			d.Name, v.Name = "root", "root"
			vmi.Spec.Domain.Devices.Disks = []v1.Disk{d}
			vmi.Spec.Volumes = []v1.Volume{v}
		}
	}
	empty := v1.Volume{EmptyDisk: &v1.EmptyDiskSource{Capacity: *quantity(mib)}}
	virtio := v1.Disk{Disk: &v1.DiskTarget{Bus: "virtio"}}
	domain := func(f func(*v1.DomainSpec)) func(*v1.VirtualMachineInstance) {
		return func(vmi *v1.VirtualMachineInstance) { f(&vmi.Spec.Domain) }
	}
	for name, c := range map[string]struct {
		change func(*v1.VirtualMachineInstance)
		want   string
	}{
		"no memory":      {domain(func(d *v1.DomainSpec) { d.Memory = nil }), "spec.domain.memory.guest: Required"},
		"little memory":  {domain(func(d *v1.DomainSpec) { d.Memory.Guest = quantity(1000) }), "spec.domain.memory.guest: Invalid"},
		"machine type":   {domain(func(d *v1.DomainSpec) { d.Machine = &v1.Machine{Type: "pc-q35-rhel9.6.0"} }), "spec.domain.machine.type"},
		"newer machine":  {domain(func(d *v1.DomainSpec) { d.Machine = &v1.Machine{Type: "pc-q35-99.0"} }), "spec.domain.machine.type"},
		"older machine":  {domain(func(d *v1.DomainSpec) { d.Machine = &v1.Machine{Type: "pc-q35-2.4"} }), "spec.domain.machine.type"},
		"i440fx":         {domain(func(d *v1.DomainSpec) { d.Machine = &v1.Machine{Type: "pc"} }), "spec.domain.machine.type"},
		"max below":      {domain(func(d *v1.DomainSpec) { d.Memory.MaxGuest = quantity(64 * mib) }), "spec.domain.memory.maxGuest"},
		"hugepages":      {domain(func(d *v1.DomainSpec) { d.Memory.Hugepages = &v1.Hugepages{PageSize: "2Mi"} }), "spec.domain.memory.hugepages: Forbidden"},
		"sockets":        {domain(func(d *v1.DomainSpec) { d.CPU.Sockets = 1000 }), "spec.domain.cpu.sockets"},
		"negative cores": {domain(func(d *v1.DomainSpec) { d.CPU.Cores = -1 }), "spec.domain.cpu.cores"},
		"APIC ids":       {domain(func(d *v1.DomainSpec) { d.CPU.Sockets, d.CPU.Cores = 90, 3 }), "spec.domain.cpu: Invalid"},
		"max sockets":    {domain(func(d *v1.DomainSpec) { d.CPU.Sockets, d.CPU.MaxSockets = 4, 2 }), "spec.domain.cpu.maxSockets"},
		"CPU model":      {domain(func(d *v1.DomainSpec) { d.CPU.Model = "host,+vmx" }), "spec.domain.cpu.model"},
		"CPU feature":    {domain(func(d *v1.DomainSpec) { d.CPU.Features = []v1.CPUFeature{{Name: "a=b"}} }), "spec.domain.cpu.features[0].name"},
		"CPU policy":     {domain(func(d *v1.DomainSpec) { d.CPU.Features = []v1.CPUFeature{{Name: "a", Policy: "want"}} }), "spec.domain.cpu.features[0].policy"},
		"dedicated CPUs": {domain(func(d *v1.DomainSpec) { d.CPU.DedicatedCPUPlacement = new(true) }), "spec.domain.cpu.dedicatedCpuPlacement: Forbidden"},
		"TPM":            {domain(func(d *v1.DomainSpec) { d.Devices.TPM = &v1.TPMDevice{} }), "spec.domain.devices.tpm: Forbidden"},
		"GPU":            {domain(func(d *v1.DomainSpec) { d.Devices.GPUs = make([]v1.GPU, 1) }), "spec.domain.devices.gpus: Forbidden"},
		"SEV":            {domain(func(d *v1.DomainSpec) { d.LaunchSecurity = &v1.LaunchSecurity{} }), "spec.domain.launchSecurity: Forbidden"},
		"secure boot":    {domain(func(d *v1.DomainSpec) { d.Firmware = &v1.Firmware{Bootloader: &v1.Bootloader{EFI: &v1.EFI{}}} }), "spec.domain.firmware.bootloader.efi.secureBoot"},
		"UUID":           {domain(func(d *v1.DomainSpec) { d.Firmware = &v1.Firmware{UUID: "x"} }), "spec.domain.firmware.uuid"},
		"kernel path":    {domain(func(d *v1.DomainSpec) { d.Firmware = kernel("../../etc/shadow", "") }), "spec.domain.firmware.kernelBoot.container.kernelPath"},
		"initrd modules": {domain(func(d *v1.DomainSpec) { d.Firmware = kernel("/k", "/i,/etc/shadow") }), "spec.domain.firmware.kernelBoot.container.initrdPath"},
		"no kernel path": {domain(func(d *v1.DomainSpec) { d.Firmware = kernel("", "/i") }), "spec.domain.firmware.kernelBoot.container.kernelPath: Required"},
		"timezone":       {domain(func(d *v1.DomainSpec) { d.Clock = &v1.Clock{Timezone: new("Europe/Berlin")} }), "spec.domain.clock.timezone"},
		"video":          {domain(func(d *v1.DomainSpec) { d.Devices.Video = &v1.VideoDevice{Type: "qxl"} }), "spec.domain.devices.video.type"},
		"screenless video": {domain(func(d *v1.DomainSpec) {
			d.Devices.Video, d.Devices.AutoattachGraphicsDevice = &v1.VideoDevice{Type: "vga"}, new(false)
		}), "spec.domain.devices.video"},
		"watchdog":       {domain(func(d *v1.DomainSpec) { d.Devices.Watchdog = &v1.Watchdog{Name: "w"} }), "spec.domain.devices.watchdog.i6300esb"},
		"start strategy": {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.StartStrategy = new("Later") }, "spec.startStrategy"},
		"architecture":   {func(vmi *v1.VirtualMachineInstance) { vmi.Spec.Architecture = "arm64" }, "spec.architecture"},
		"LUN":            {disk(v1.Disk{LUN: &v1.LunTarget{}}, empty), "spec.domain.devices.disks[0].lun: Forbidden"},
		"bus":            {disk(v1.Disk{Disk: &v1.DiskTarget{Bus: "ide"}}, empty), "spec.domain.devices.disks[0].disk.bus"},
		"virtio CD":      {disk(v1.Disk{CDRom: &v1.CDRomTarget{Bus: "virtio"}}, empty), "spec.domain.devices.disks[0].cdrom.bus"},
		"open tray":      {disk(v1.Disk{CDRom: &v1.CDRomTarget{Bus: "sata", Tray: "open"}}, empty), "spec.domain.devices.disks[0].cdrom.tray"},
		"read-only SATA": {disk(v1.Disk{Disk: &v1.DiskTarget{Bus: "sata", Readonly: new(true)}}, empty), "spec.domain.devices.disks[0].disk.readonly"},
		"disk serial":    {disk(v1.Disk{Serial: "a,b", Disk: virtio.Disk}, empty), "spec.domain.devices.disks[0].serial"},
		"native, cached": {disk(v1.Disk{IO: "native", Cache: "writeback", Disk: virtio.Disk}, empty), "spec.domain.devices.disks[0].io"},
		"block size":     {disk(v1.Disk{BlockSize: &v1.BlockSize{Custom: &v1.CustomBlockSize{Logical: 513, Physical: 512}}, Disk: virtio.Disk}, empty), "spec.domain.devices.disks[0].blockSize.custom.logical"},
		"boot order":     {disk(v1.Disk{BootOrder: new(int32(0)), Disk: virtio.Disk}, empty), "spec.domain.devices.disks[0].bootOrder"},
		"empty disk":     {disk(virtio, v1.Volume{EmptyDisk: &v1.EmptyDiskSource{}}), "spec.volumes[0].emptyDisk.capacity"},
		"image path":     {disk(virtio, v1.Volume{ContainerDisk: &v1.ContainerDiskSource{Path: "/disk/../../x"}}), "spec.volumes[0].containerDisk.path"},
		"disk alone":     {domain(func(d *v1.DomainSpec) { d.Devices.Disks = []v1.Disk{{Name: "root"}} }), "spec.domain.devices.disks[0].name"},
		"volume alone": {func(vmi *v1.VirtualMachineInstance) {
			vmi.Spec.Volumes = []v1.Volume{{Name: "root", EmptyDisk: empty.EmptyDisk}}
		}, "spec.volumes[0].name"},
		"interface model":  {domain(func(d *v1.DomainSpec) { d.Devices.Interfaces = []v1.Interface{{Name: "a", Model: "vmxnet3"}} }), "spec.domain.devices.interfaces[0].model"},
		"interface twice":  {domain(func(d *v1.DomainSpec) { d.Devices.Interfaces = []v1.Interface{{Name: "a"}, {Name: "a"}} }), "spec.domain.devices.interfaces[1].name"},
		"too many devices": {domain(func(d *v1.DomainSpec) { d.Devices.Interfaces = interfaces(121) }), "more PCI devices"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vmi := small()
			c.change(vmi)
			_, err := New(vmi, hosts[0], attachmentsFor(vmi))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func kernel(path, initrd string) *v1.Firmware {
	return &v1.Firmware{KernelBoot: &v1.KernelBoot{Container: &v1.KernelBootContainer{Image: "x", KernelPath: path, InitrdPath: initrd}}}
}

func interfaces(n int) []v1.Interface {
	list := make([]v1.Interface, n)
	for i := range list {
		list[i].Name = fmt.Sprintf("nic%d", i)
	}
	return list
}

func TestAttachmentsMustFit(t *testing.T) {
	t.Parallel()
	vmi := small()
	vmi.Spec.Domain.Devices.Interfaces = interfaces(2)
	for name, change := range map[string]func(*Attachments){
		"no tap":    func(a *Attachments) { delete(a.Interfaces, "nic1") },
		"same fd":   func(a *Attachments) { a.Interfaces["nic1"] = a.Interfaces["nic0"] },
		"no MAC":    func(a *Attachments) { a.Interfaces["nic1"] = Interface{Tap: "tap1", FD: 31} },
		"multicast": func(a *Attachments) { a.Interfaces["nic1"] = Interface{Tap: "tap1", FD: 31, MAC: "01:00:5e:00:00:01"} },
		"small fd":  func(a *Attachments) { a.Interfaces["nic1"] = Interface{Tap: "tap1", FD: 3, MAC: "02:00:00:00:00:01"} },
		"absurd MTU": func(a *Attachments) {
			a.Interfaces["nic1"] = Interface{Tap: "t", FD: 31, MAC: "02:00:00:00:00:01", MTU: 9}
		},
	} {
		a := attachmentsFor(vmi)
		change(&a)
		if _, err := New(vmi, hosts[0], a); err == nil || !strings.Contains(err.Error(), "spec.domain.devices.interfaces[1]") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	vmi = small()
	vmi.Spec.Domain.Devices.Disks = []v1.Disk{{Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}}}
	vmi.Spec.Volumes = []v1.Volume{{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{}}}
	for _, file := range []string{"", "/etc/passwd", contract.MachineDir + "/../x", contract.MachineDir + "/a/b"} {
		a := Attachments{CloudInit: map[string]string{"seed": file}}
		if _, err := New(vmi, hosts[0], a); err == nil || !strings.Contains(err.Error(), "spec.volumes[0].cloudInitNoCloud") {
			t.Errorf("%q: got %v", file, err)
		}
	}
}

func TestHostMustFit(t *testing.T) {
	t.Parallel()
	for _, h := range []Host{
		{QEMUVersion: "7.2.22", Accel: TCG, Arch: "amd64"},
		{QEMUVersion: "eleven", Accel: TCG, Arch: "amd64"},
		{QEMUVersion: "11.1.3", Accel: "xen", Arch: "amd64"},
		{QEMUVersion: "11.1.3", Accel: TCG, Arch: "arm64"},
	} {
		if _, err := New(small(), h, Attachments{}); err == nil {
			t.Errorf("%+v was accepted", h)
		}
	}
}

// 120 devices fit; each has a place of its own.
func TestPlacesAreUnique(t *testing.T) {
	t.Parallel()
	vmi := small()
	vmi.Spec.Domain.Devices.Interfaces = interfaces(120)
	m, err := New(vmi, hosts[0], attachmentsFor(vmi))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range m.Devices() {
		if d.Get("addr") == nil {
			continue
		}
		place := fmt.Sprint(d.Get("bus"), " ", d.Get("addr"))
		if seen[place] {
			t.Errorf("%v: place %s is taken", d.Get("id"), place)
		}
		seen[place] = true
	}
}

// Memory that may be plugged takes whole blocks of the guest's, and DIMMs find as
// much room as the virtio-mem device.
func TestMemoryHeadRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		guest, max                int64 // MiB
		size, device, addressable int64
	}{
		{256, 0, 256, 0, 256},
		{256, 256, 256, 0, 256},
		{256, 1024, 256, 768, 256 + 2*768},
		{256, 300, 256, 128, 256 + 2*128},
		{4096, 128 << 10, 4096, 124 << 10, 4096 + 248<<10}, // in blocks of 2 GiB
		{5000, 64 << 10, 5000, 60 << 10, 5000 + 120<<10},
	} {
		vmi := small()
		vmi.Spec.Domain.Memory.Guest = quantity(c.guest * mib)
		if c.max > 0 {
			vmi.Spec.Domain.Memory.MaxGuest = quantity(c.max * mib)
		}
		m, err := New(vmi, hosts[0], Attachments{})
		if err != nil {
			t.Fatal(err)
		}
		got := [3]int64{m.Memory.Size / mib, m.Memory.Device() / mib, m.Memory.addressable() / mib}
		if want := [3]int64{c.size, c.device, c.addressable}; got != want {
			t.Errorf("%d MiB, at most %d: size, device and addressable memory are %v, want %v", c.guest, c.max, got, want)
		}
	}
}

func TestMaxSockets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		t      Topology
		max    int64
		memory int64
		accel  Accel
		want   int
	}{
		{Topology{1, 1, 1}, 0, 1 << 30, KVM, 1},
		{Topology{2, 1, 1}, 2, 1 << 30, TCG, 2},
		{Topology{1, 1, 1}, 4, 1 << 30, KVM, 4},
		{Topology{1, 1, 1}, 4, 1 << 30, TCG, 8},     // room for plugs after unplugs
		{Topology{1, 4, 1}, 4, 1 << 30, TCG, 4},     // 16 vCPUs are enough of it
		{Topology{1, 1, 1}, 64, 1 << 30, TCG, 64},   //
		{Topology{1, 1, 1}, 64, 128 * mib, KVM, 14}, // what the guest's memory affords
		{Topology{1, 1, 1}, 64, 16 * mib, TCG, 2},   //
		{Topology{1, 1, 1}, 10000, 64 << 30, KVM, 255},
		{Topology{1, 3, 1}, 200, 64 << 30, KVM, 64}, // APIC ids: four for three cores
	} {
		if got := maxSockets(c.t, c.max, c.memory, c.accel); got != c.want {
			t.Errorf("%+v, at most %d, %d MiB, %s: got %d, want %d", c.t, c.max, c.memory/mib, c.accel, got, c.want)
		}
	}
}

func TestGuestTopology(t *testing.T) {
	t.Parallel()
	cpu := func(s string) corev1.ResourceList { return corev1.ResourceList{"cpu": resource.MustParse(s)} }
	for _, c := range []struct {
		cpu  *v1.CPU
		res  *v1.ResourceRequirements
		want Topology
	}{
		{nil, nil, Topology{1, 1, 1}},
		{&v1.CPU{Cores: 3}, nil, Topology{1, 3, 1}},
		{&v1.CPU{Sockets: 2, Threads: 2}, nil, Topology{2, 1, 2}},
		{nil, &v1.ResourceRequirements{Requests: cpu("2500m")}, Topology{3, 1, 1}},
		{nil, &v1.ResourceRequirements{Requests: cpu("1"), Limits: cpu("4")}, Topology{4, 1, 1}},
		{&v1.CPU{Cores: 2}, &v1.ResourceRequirements{Limits: cpu("4")}, Topology{1, 2, 1}},
	} {
		vmi := small()
		vmi.Spec.Domain.CPU, vmi.Spec.Domain.Resources = c.cpu, c.res
		if got, err := GuestTopology(vmi); err != nil || got != c.want {
			t.Errorf("%+v, %+v: got %v, %v; want %v", c.cpu, c.res, got, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for i, want := range map[int]string{0: "vda", 25: "vdz", 26: "vdaa", 51: "vdaz", 52: "vdba", 701: "vdzz", 702: "vdaaa"} {
		if got := Target("vd", i); got != want {
			t.Errorf("Target(%d) = %s, want %s", i, got, want)
		}
	}
	long := strings.Repeat("a", 62)
	if a, b := nodeName("d-", long+"b"), nodeName("d-", long+"c"); a == b || len(a) > 31 || len(b) > 31 {
		t.Errorf("node names %q and %q", a, b)
	}
	if name, ok := DeviceName(DeviceID("root")); !ok || name != "root" {
		t.Errorf("DeviceName: %q, %t", name, ok)
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	vmi := readVMI(t, "testdata/vmi/scsi-usb.yaml")
	m, err := New(vmi, hosts[0], attachmentsFor(vmi))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, d := range m.Disks {
		got += d.Name + "=" + d.Target + " "
	}
	if want := "a=sda b=sdb c=sdc u=sdd v=sde seed=sdf "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The promise of the overhead: a small machine under KVM stays below 80 MiB.
func TestOverhead(t *testing.T) {
	t.Parallel()
	kvm, tcg := hosts[0], hosts[1]
	vmi := small()
	vmi.Spec.Domain.Devices.Interfaces = interfaces(1)
	vmi.Spec.Volumes = []v1.Volume{
		{Name: "root", ContainerDisk: &v1.ContainerDiskSource{}},
		{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{}},
	}
	b := Overhead(vmi, kvm)
	if b.Total > 80*mib || b.Total < 60*mib {
		t.Errorf("1 vCPU, 128 MiB: %s", b)
	}
	sum := int64(0)
	for _, p := range b.Parts {
		sum += p.Bytes
	}
	if b.Total < sum || b.Total >= sum+mib || b.Total%mib != 0 {
		t.Errorf("parts sum up to %d: %s", sum, b)
	}
	if want := "translated code 16Mi"; strings.Contains(b.String(), "translated") || !strings.Contains(Overhead(vmi, tcg).String(), want) {
		t.Errorf("want %q under emulation only: %s and %s", want, b, Overhead(vmi, tcg))
	}

	more := func(change func(*v1.VirtualMachineInstance), host Host) int64 {
		c := vmi.DeepCopy()
		change(c)
		return Overhead(c, host).Total - Overhead(vmi, host).Total
	}
	for name, c := range map[string]struct {
		change func(*v1.VirtualMachineInstance)
		host   Host
		want   int64 // MiB
	}{
		"3 more vCPUs":          {func(v *v1.VirtualMachineInstance) { v.Spec.Domain.CPU.Cores = 4 }, kvm, 3},
		"3 more emulated vCPUs": {func(v *v1.VirtualMachineInstance) { v.Spec.Domain.CPU.Cores = 4 }, tcg, 9},
		"16 GiB":                {func(v *v1.VirtualMachineInstance) { v.Spec.Domain.Memory.Guest = quantity(128*mib + 16<<30) }, kvm, 64},
		"room for 64 GiB":       {func(v *v1.VirtualMachineInstance) { v.Spec.Domain.Memory.MaxGuest = quantity(128*mib + 64<<30) }, kvm, 9},
		"no screen":             {func(v *v1.VirtualMachineInstance) { v.Spec.Domain.Devices.AutoattachGraphicsDevice = new(false) }, kvm, -16},
		"reserved": {func(v *v1.VirtualMachineInstance) {
			v.Spec.Domain.Memory.ReservedOverhead = &v1.ReservedOverhead{AddedOverhead: quantity(50 * mib)}
		}, kvm, 50},
		"a disk of 64 GiB": {func(v *v1.VirtualMachineInstance) {
			v.Spec.Volumes = append(v.Spec.Volumes, v1.Volume{EmptyDisk: &v1.EmptyDiskSource{Capacity: *quantity(64 << 30)}})
		}, kvm, 9},
	} {
		if got := more(c.change, c.host); got != c.want*mib {
			t.Errorf("%s: %d MiB more, want %d", name, got/mib, c.want)
		}
	}
}
