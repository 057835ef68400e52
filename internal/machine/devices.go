// SPDX-License-Identifier: Apache-2.0

package machine

import "fmt"

// Devices are all devices in the order in which QEMU must make them (a bus
// before what is on it).
func (m Machine) Devices() []Props {
	var list []Props
	add := func(p Props) { list = append(list, p) }
	for _, r := range m.Ports {
		add(r.Props())
	}
	if m.Graphics != nil {
		p := Props{{"driver", m.Graphics.Driver}, {"id", "video0"}}
		if m.Graphics.Driver != "ramfb" { // which is not a PCI device
			p = fixed(slotVideo).on(p)
		}
		add(p)
	}
	if m.Serial != nil {
		add(Props{{"driver", "isa-serial"}, {"id", "serial0"}, {"chardev", "serial0"}, {"index", 0}})
	}
	add(virtio(fixed(slotSerial), false, "virtio-serial-pci", "virtio-serial0").with(true, "max_ports", 16))
	add(Props{{"driver", "virtserialport"}, {"id", "channel0"}, {"bus", "virtio-serial0.0"}, {"nr", 1}, {"chardev", "agent0"}, {"name", "org.qemu.guest_agent.0"}})
	if m.Balloon {
		// Pages that the guest frees go back to the host by themselves.
		add(append(virtio(fixed(slotBalloon), false, "virtio-balloon-pci", "balloon0"),
			Prop{"deflate-on-oom", true}, Prop{"free-page-reporting", true}))
	}
	if m.Memory.Device() > 0 {
		add(append(virtio(fixed(slotMemory), false, "virtio-mem-pci", MemoryDevice),
			Prop{"memdev", MemoryBackend}, Prop{"requested-size", 0}))
	}
	add(append(virtio(fixed(slotRNG), false, "virtio-rng-pci", "rng0"), Prop{"rng", "entropy0"}))
	for _, p := range m.Panic {
		if p.OnPCI {
			add(fixed(slotPanic).on(Props{{"driver", p.Driver}, {"id", "panic1"}}))
		} else {
			add(Props{{"driver", p.Driver}, {"id", "panic0"}})
		}
	}
	if w := m.Watchdog; w != nil {
		add(fixed(slotWatchdog).on(Props{{"driver", "i6300esb"}, {"id", w.ID}}))
	}
	if m.USB {
		add(fixed(slotUSB).on(Props{{"driver", "qemu-xhci"}, {"id", "usb0"}, {"p2", maxUSB}, {"p3", maxUSB}}))
	}
	if m.SCSI {
		add(append(virtio(fixed(slotSCSI), false, "virtio-scsi-pci", "scsi0"), Prop{"num_queues", 1}))
	}
	for i := range m.SATA {
		add(fixed(slotSATA + i).on(Props{{"driver", "ich9-ahci"}, {"id", fmt.Sprintf("sata%d", i+1)}}))
	}
	for _, in := range m.Inputs {
		if in.Bus == "usb" {
			add(Props{{"driver", "usb-tablet"}, {"id", in.ID}, {"bus", "usb0.0"}, {"port", fmt.Sprint(in.Port)}})
		} else {
			add(virtio(fixed(slotInput), false, "virtio-tablet-pci", in.ID))
		}
	}
	for _, d := range m.Disks {
		for _, p := range d.Props() {
			add(p)
		}
	}
	for _, n := range m.NICs {
		add(n.Props())
	}
	return list
}

// virtio is a virtio device of the modern kind unless transitional.
func virtio(at PCI, transitional bool, driver, id string) Props {
	legacy := "on" // disabled
	if transitional {
		legacy = "off"
	}
	return append(at.on(Props{{"driver", driver}, {"id", id}}), Prop{"disable-legacy", legacy})
}

// Blockdevs are the disk's block nodes, as arguments of -blockdev and of QMP's
// blockdev-add, the lowest first. An overlay's backing file is named by the
// overlay itself: only the launcher knows it.
func (d Disk) Blockdevs() []Props {
	// What the guest discards or fills with zeroes takes no room on the node.
	direct := d.Cache == "none"
	driver := "file"
	if d.Device {
		driver = "host_device"
	}
	file := Props{{"driver", driver}, {"node-name", d.FileNode()}, {"filename", d.File}, {"read-only", d.ReadOnly}}
	file = file.with(direct, "cache", Props{{"direct", true}, {"no-flush", false}}).
		with(d.IO != "", "aio", d.IO).
		with(!d.ReadOnly, "discard", "unmap")
	format := Props{{"driver", d.Format}, {"node-name", d.FormatNode()}, {"file", d.FileNode()}, {"read-only", d.ReadOnly}}
	format = format.with(direct, "cache", Props{{"direct", true}, {"no-flush", false}}).
		with(!d.ReadOnly, "discard", "unmap").
		// A persistent volume keeps the room that it was given.
		with(!d.ReadOnly && d.Claim == nil, "detect-zeroes", "unmap")
	return []Props{file, format}
}

// Props are the disk's devices; the one with the disk's ID is the last.
func (d Disk) Props() []Props {
	kind := "hd"
	if d.CDROM {
		kind = "cd"
	}
	var list []Props
	var p Props
	switch d.Bus {
	case "virtio":
		p = append(virtio(d.PCI, d.Transitional, "virtio-blk-pci", d.ID), Prop{"num-queues", d.Queues})
	case "scsi":
		p = Props{{"driver", "scsi-" + kind}, {"id", d.ID}, {"bus", "scsi0.0"}, {"channel", 0}, {"scsi-id", d.Unit}, {"lun", 0}}
	case "usb":
		bridge := "usb-" + d.ID
		list = append(list, Props{{"driver", "usb-bot"}, {"id", bridge}, {"bus", "usb0.0"}, {"port", fmt.Sprint(d.Unit)}})
		p = Props{{"driver", "scsi-" + kind}, {"id", d.ID}, {"bus", bridge + ".0"}, {"scsi-id", 0}, {"lun", 0}}
	default: // sata
		bus := fmt.Sprintf("ide.%d", d.Unit)
		if d.Unit >= portsPerSATA {
			bus = fmt.Sprintf("sata%d.%d", d.Unit/portsPerSATA, d.Unit%portsPerSATA)
		}
		p = Props{{"driver", "ide-" + kind}, {"id", d.ID}, {"bus", bus}}
	}
	p = append(p, Prop{"drive", d.FormatNode()})
	p = p.with(d.Serial != "", "serial", d.Serial).
		with(d.BootIndex > 0, "bootindex", d.BootIndex).
		with(d.LogicalBlock > 0, "logical_block_size", d.LogicalBlock).
		with(d.PhysicalBlock > 0, "physical_block_size", d.PhysicalBlock).
		with(d.DiscardGranularity > 0, "discard_granularity", d.DiscardGranularity)
	if !d.CDROM {
		p = p.with(true, "write-cache", onOff(d.Cache != "writethrough"))
	}
	werror, rerror := d.ErrorPolicy, d.ErrorPolicy
	if d.ErrorPolicy == "enospace" {
		werror, rerror = "enospc", "report"
	}
	p = p.with(true, "werror", werror).with(true, "rerror", rerror)
	return append(list, p)
}

// Netdev is the host side, as an argument of -netdev.
func (n NIC) Netdev() Props {
	// JSON knows the descriptor as a string: it may also be a name.
	p := Props{{"type", "tap"}, {"id", n.NetdevID()}, {"fd", fmt.Sprint(n.FD)}}
	return p.with(n.Vhost, "vhost", true)
}

// Props is the guest's side.
func (n NIC) Props() Props {
	var p Props
	if n.Virtio {
		p = virtio(n.PCI, n.Transitional, n.Driver, n.ID)
	} else {
		p = n.PCI.on(Props{{"driver", n.Driver}, {"id", n.ID}})
	}
	p = append(p, Prop{"netdev", n.NetdevID()}, Prop{"mac", n.MAC})
	return p.with(n.MTU > 0, "host_mtu", n.MTU).
		with(n.BootIndex > 0, "bootindex", n.BootIndex).
		// Without a boot ROM the launcher image needs none and the firmware
		// loses no time with it.
		with(n.BootIndex == 0, "romfile", "").
		with(n.ACPIIndex > 0, "acpi-index", n.ACPIIndex)
}
