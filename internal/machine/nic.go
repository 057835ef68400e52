// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"net"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// NIC is a network interface.
type NIC struct {
	ID     string
	Name   string // in the spec
	Driver string // QEMU's device
	PCI    PCI
	MAC    string
	MTU    int // virtio only; 0 leaves the guest's default
	Tap    string
	FD     int
	Vhost  bool

	BootIndex    int // 0: not booted from
	ACPIIndex    int
	Virtio       bool
	Transitional bool // virtio only
	// LinkDown asks the agent to send set_link for ID: QEMU has no option for it.
	LinkDown bool
}

// NetdevID is the id of the interface's host side.
func (n NIC) NetdevID() string { return "net-" + n.Name }

// nicModels maps spec.domain.devices.interfaces[].model. Conventional PCI devices
// do not belong behind a PCI Express port.
var nicModels = map[string]struct {
	driver  string
	express bool
}{
	"":         {"virtio-net-pci", true},
	"virtio":   {"virtio-net-pci", true},
	"e1000":    {"e1000", false},
	"e1000e":   {"e1000e", true},
	"igb":      {"igb", true},
	"ne2k_pci": {"ne2k_pci", false},
	"pcnet":    {"pcnet", false},
	"rtl8139":  {"rtl8139", false},
}

func (b *builder) nics() {
	p := spec.Child("domain", "devices", "interfaces")
	fds := map[int]bool{}
	for i := range b.vmi.Spec.Domain.Devices.Interfaces {
		spec := &b.vmi.Spec.Domain.Devices.Interfaces[i]
		p := p.Index(i)
		if spec.State == "absent" {
			continue
		}
		att, ok := b.att.Interfaces[spec.Name]
		if !ok {
			b.fail(field.Invalid(p.Child("name"), spec.Name, "its tap is not prepared"))
			continue
		}
		n := b.nic(spec, att, p)
		if att.Tap == "" || len(att.Tap) > 15 || fds[att.FD] || att.FD < contract.FirstTapFD {
			b.fail(field.Invalid(p.Child("name"), spec.Name, "its tap needs a name and a descriptor number of its own from 30 on"))
		}
		fds[att.FD] = true
		b.m.NICs = append(b.m.NICs, n)
	}
}

func (b *builder) nic(spec *v1.Interface, att Interface, p *field.Path) NIC {
	n := NIC{
		ID: b.id(spec.Name, p.Child("name")), Name: spec.Name,
		Tap: att.Tap, FD: att.FD, Vhost: att.Vhost,
		ACPIIndex: int(spec.AcpiIndex),
	}
	model, ok := nicModels[spec.Model]
	if !ok {
		b.fail(field.NotSupported(p.Child("model"), spec.Model, []string{"virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139"}))
	}
	n.Driver = model.driver
	n.Virtio = model.driver == "virtio-net-pci"
	b.oneOf(p.Child("state"), spec.State, "", "up", "down")
	n.LinkDown = spec.State == "down"
	if spec.AcpiIndex < 0 || spec.AcpiIndex > 16383 {
		b.fail(field.Invalid(p.Child("acpiIndex"), spec.AcpiIndex, "must be between 1 and 16383"))
	}
	if mac, err := net.ParseMAC(att.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		b.fail(field.Invalid(p.Child("macAddress"), att.MAC, "must be a unicast Ethernet address such as 02:5a:00:00:00:01"))
	} else {
		n.MAC = mac.String()
	}
	if spec.BootOrder != nil {
		n.BootIndex = int(*spec.BootOrder)
	}
	if n.Virtio {
		if att.MTU != 0 && (att.MTU < 68 || att.MTU > 65535) {
			b.fail(field.Invalid(p.Child("name"), att.MTU, "the tap's MTU must be between 68 and 65535"))
		}
		n.MTU = att.MTU
		n.Transitional = isTrue(b.vmi.Spec.Domain.Devices.UseVirtioTransitional)
		n.PCI = b.virtioPlace(n.Transitional)
	} else {
		n.Vhost = false
		n.PCI = b.virtioPlace(!model.express)
	}
	return n
}
