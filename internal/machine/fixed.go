// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Serial is the first serial port.
type Serial struct {
	// Log says that QEMU writes what the guest prints to the console log as well.
	Log bool
}

// Graphics is a screen, reached by VNC.
type Graphics struct {
	Driver string // QEMU's device
}

// Input is an input device.
type Input struct {
	ID  string
	Bus string // "usb" or "virtio"
	// Port is the place on the USB controller.
	Port int
}

// Watchdog resets, powers off or shuts down the guest when it stops feeding it.
type Watchdog struct {
	ID     string
	Action string
}

// PanicDevice tells QEMU of a guest's panic.
type PanicDevice struct {
	Driver string
	OnPCI  bool
}

// videoDrivers maps spec.domain.devices.video.type to QEMU's devices.
var videoDrivers = map[string]string{
	"": "VGA", "vga": "VGA", "cirrus": "cirrus-vga", "virtio": "virtio-vga", "ramfb": "ramfb", "bochs": "bochs-display",
}

// maxUSB is the number of ports of the USB controller.
const maxUSB = 15

// fixedDevices are the devices with a slot of their own.
func (b *builder) fixedDevices() {
	d := &b.vmi.Spec.Domain.Devices
	p := spec.Child("domain", "devices")
	if !isFalse(d.AutoattachSerialConsole) {
		b.m.Serial = &Serial{Log: !isFalse(d.LogSerialConsole)}
	}
	b.graphics(d, p)
	b.m.Balloon = !isFalse(d.AutoattachMemBalloon)
	inputs := d.Inputs
	if len(inputs) == 0 && isTrue(d.AutoattachInputDevice) {
		inputs = []v1.Input{{Name: "default-0", Bus: "usb", Type: "tablet"}}
	}
	b.inputs(inputs, p.Child("inputs"))
	if w := d.Watchdog; w != nil {
		b.watchdog(w, p.Child("watchdog"))
	}
	b.panicDevices(d.PanicDevices, p.Child("panicDevices"))
}

func (b *builder) graphics(d *v1.Devices, p *field.Path) {
	kind := ""
	if d.Video != nil {
		kind = d.Video.Type
	}
	driver, ok := videoDrivers[kind]
	if !ok {
		b.fail(field.NotSupported(p.Child("video", "type"), kind, []string{"vga", "cirrus", "virtio", "ramfb", "bochs"}))
	}
	if isFalse(d.AutoattachGraphicsDevice) {
		if d.Video != nil {
			b.fail(field.Invalid(p.Child("video"), kind, "needs a graphics device, which autoattachGraphicsDevice: false forbids"))
		}
		return
	}
	b.m.Graphics = &Graphics{Driver: driver}
}

// id gives the id of a device that the spec names and sees that it is unique:
// QEMU has one name space for all of them.
func (b *builder) id(name string, p *field.Path) string {
	if !userName.MatchString(name) {
		b.fail(field.Invalid(p, name, "must be letters, digits and . _ - and begin with a letter or digit"))
		return ""
	}
	id := DeviceID(name)
	if other, dup := b.ids[id]; dup {
		b.fail(field.Invalid(p, name, "the device at "+other.String()+" has the same name"))
	}
	b.ids[id] = p
	return id
}

func (b *builder) inputs(inputs []v1.Input, p *field.Path) {
	virtio := false
	for i, in := range inputs {
		p := p.Index(i)
		b.oneOf(p.Child("type"), in.Type, "tablet")
		dev := Input{ID: b.id(in.Name, p.Child("name")), Bus: in.Bus}
		switch in.Bus {
		case "", "usb":
			dev.Bus = "usb"
			dev.Port = b.usbPort(p)
		case "virtio":
			if virtio {
				b.fail(field.Invalid(p.Child("bus"), in.Bus, "a machine has room for one virtio input device"))
			}
			virtio = true
		default:
			b.fail(field.NotSupported(p.Child("bus"), in.Bus, []string{"usb", "virtio"}))
		}
		b.m.Inputs = append(b.m.Inputs, dev)
	}
}

// usbPort takes the next port of the USB controller, which is there from the first on.
func (b *builder) usbPort(p *field.Path) int {
	b.m.USB = true
	n := 1
	for _, in := range b.m.Inputs {
		if in.Bus == "usb" {
			n++
		}
	}
	for _, d := range b.m.Disks {
		if d.Bus == "usb" {
			n++
		}
	}
	if n > maxUSB {
		b.fail(field.Invalid(p, n, "the USB controller has 15 ports"))
	}
	return n
}

func (b *builder) watchdog(w *v1.Watchdog, p *field.Path) {
	if w.Diag288 != nil {
		b.unsupported(p.Child("diag288"))
	}
	if w.I6300esb == nil {
		b.fail(field.Required(p.Child("i6300esb"), "the only watchdog of this architecture"))
		return
	}
	action := w.I6300esb.Action
	if action == "" {
		action = "reset"
	}
	b.oneOf(p.Child("i6300esb", "action"), action, "reset", "poweroff", "shutdown")
	b.m.Watchdog = &Watchdog{ID: b.id(w.Name, p.Child("name")), Action: action}
}

// panicDevices: every machine has the ISA pvpanic device, which needs no slot, so
// that a panic ends QEMU with an exit code of its own.
func (b *builder) panicDevices(devices []v1.PanicDevice, p *field.Path) {
	b.m.Panic = []PanicDevice{{Driver: "pvpanic"}}
	pci, hyperv := false, false
	for i, d := range devices {
		switch d.Model {
		case "isa", "":
		case "pvpanic":
			pci = true
		case "hyperv":
			hyperv = true
		default:
			b.fail(field.NotSupported(p.Index(i).Child("model"), d.Model, []string{"hyperv", "isa", "pvpanic"}))
		}
	}
	if pci {
		b.m.Panic = append(b.m.Panic, PanicDevice{Driver: "pvpanic-pci", OnPCI: true})
	}
	if hyperv && b.host.Accel == KVM {
		b.flag("hv-crash", "on")
	}
}
