// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"encoding/json"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// checkMachine builds the machine on each host and judges it. Refusing is fine.
func checkMachine(t *testing.T, vmi *v1.VirtualMachineInstance) {
	for _, host := range hosts {
		Overhead(vmi, host)
		m, err := New(vmi, host, attachmentsFor(vmi))
		if err != nil {
			continue
		}
		if err := checkContract(m.Contract()); err != nil {
			t.Errorf("%s: %v", host.Accel, err)
		}
		if m.CPU.MaxVCPUs() < m.CPU.VCPUs() || m.CPU.VCPUs() < 1 || m.Memory.Size < mib {
			t.Errorf("%+v, %+v", m.CPU, m.Memory)
		}
	}
}

// FuzzInstance takes an instance as JSON.
func FuzzInstance(f *testing.F) {
	for _, file := range vmiFiles(f) {
		b, err := json.Marshal(readVMI(f, file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		vmi := &v1.VirtualMachineInstance{}
		if json.Unmarshal(b, vmi) != nil {
			return
		}
		checkMachine(t, vmi)
	})
}

// FuzzText puts one text into every place of an instance that takes text, and one
// number into every place that takes a number.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		"a", "a,b=c", ",,", "x,vmx=on", `","driver":"vfio-pci`, "-device", "../../etc/shadow", "/dev/sda",
		"fd:3", "json:{}", "nbd://x", "\n-device foo", "\x00", "é", "a b", "host,x=y", "%s", "a\\",
	} {
		f.Add(s, int64(1))
	}
	f.Add("a", int64(-1))
	f.Add("a", int64(1)<<62)
	f.Fuzz(func(t *testing.T, s string, n int64) {
		checkMachine(t, textInstance(s, n, "", ""))
		// Everything at once is refused for the first thing; so each on its own too.
		for _, place := range textPlaces {
			checkMachine(t, textInstance("plain", 2, place, s))
		}
	})
}

var textPlaces = []string{
	"namespace", "name", "uuid", "machine", "cpu", "feature", "policy", "vendor", "serial", "chassis", "kernel", "initrd", "args",
	"disk", "diskSerial", "claim", "claimName", "path", "bus", "cache", "io", "error", "nic", "model", "video", "watchdog", "input", "timezone", "policy2",
}

// textInstance is an instance in which place holds special and all others s; with
// an empty place all hold s.
func textInstance(s string, n int64, place, special string) *v1.VirtualMachineInstance {
	defaults := map[string]string{
		"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "machine": "q35", "cpu": "Nehalem", "feature": "aes", "policy": "require",
		"kernel": "/vmlinuz", "initrd": "/initrd", "path": "/disk/a.img", "bus": "virtio", "cache": "none", "io": "native",
		"error": "stop", "model": "virtio", "video": "vga", "timezone": "UTC", "policy2": "catchup",
	}
	at := func(name, unique string) string {
		switch {
		case place == "":
			return s
		case place == name:
			return special
		case defaults[name] != "":
			return defaults[name]
		}
		return s + unique
	}
	small := int32(n)
	domain := v1.DomainSpec{
		Machine: &v1.Machine{Type: at("machine", "")},
		CPU: &v1.CPU{
			Sockets: n, Cores: 1, MaxSockets: n, Model: at("cpu", ""),
			Features: []v1.CPUFeature{{Name: at("feature", ""), Policy: at("policy", "")}},
		},
		Clock:    &v1.Clock{Timezone: new(at("timezone", "")), Timer: &v1.Timer{RTC: &v1.RTCTimer{TickPolicy: at("policy2", "")}}},
		Features: &v1.Features{Hyperv: &v1.FeatureHyperv{Vendorid: &v1.FeatureVendorID{Vendorid: at("vendor", "")}}},
		Firmware: &v1.Firmware{
			UUID: at("uuid", ""), Serial: at("serial", ""),
			KernelBoot: &v1.KernelBoot{KernelArgs: at("args", ""), Container: &v1.KernelBootContainer{
				Image: "x", KernelPath: at("kernel", ""), InitrdPath: at("initrd", ""),
			}},
		},
		Chassis: &v1.Chassis{Manufacturer: at("chassis", ""), Version: at("chassis", ""), Serial: at("chassis", ""), Asset: at("chassis", ""), SKU: at("chassis", "")},
		Devices: v1.Devices{
			Disks: []v1.Disk{{
				Name: at("disk", "-d"), Serial: at("diskSerial", ""), Cache: at("cache", ""), IO: at("io", ""), ErrorPolicy: at("error", ""),
				Disk: &v1.DiskTarget{Bus: at("bus", "")},
			}, {Name: at("claim", "-c"), IO: at("io", ""), Cache: at("cache", ""), Disk: &v1.DiskTarget{Bus: at("bus", "")}}},
			Interfaces: []v1.Interface{{Name: at("nic", "-n"), Model: at("model", ""), AcpiIndex: small, BootOrder: &small}},
			Video:      &v1.VideoDevice{Type: at("video", "")},
			Watchdog:   &v1.Watchdog{Name: at("watchdog", "-w"), I6300esb: &v1.I6300ESBWatchdog{}},
			Inputs:     []v1.Input{{Name: at("input", "-i"), Type: "tablet", Bus: "usb"}},
		},
	}
	domain.Memory = &v1.Memory{Guest: new(*quantity(max(n, 512) << 20))}
	return &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: at("namespace", ""), Name: at("name", ""), UID: types.UID("11111111-2222-4333-8444-555555555555")},
		Spec: v1.VirtualMachineInstanceSpec{
			Domain: domain,
			Volumes: []v1.Volume{
				{Name: at("disk", "-d"), ContainerDisk: &v1.ContainerDiskSource{Image: "x", Path: at("path", "")}},
				{Name: at("claim", "-c"), PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: at("claimName", "-block")}},
			},
		},
	}
}

// The plain instance must not be refused: else FuzzText would test nothing.
func TestFuzzTextStartsFromAMachine(t *testing.T) {
	t.Parallel()
	vmi := textInstance("plain", 2, "none", "")
	if _, err := New(vmi, hosts[0], attachmentsFor(vmi)); err != nil {
		t.Error(err)
	}
}
