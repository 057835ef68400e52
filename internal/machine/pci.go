// SPDX-License-Identifier: Apache-2.0

package machine

import "fmt"

// The root bus of q35 has 32 slots. Devices that are always the same have slots
// of their own, so that adding one leaves the others where they were (guests
// name interfaces after slots, and a renewed QEMU must have the same layout).
// Slots 0x00 and 0x1f are the chipset's.
const (
	slotVideo    = 0x01
	slotSerial   = 0x02
	slotBalloon  = 0x03
	slotRNG      = 0x04
	slotUSB      = 0x05
	slotWatchdog = 0x06
	slotSCSI     = 0x07
	slotPanic    = 0x08
	slotInput    = 0x09
	slotMemory   = 0x0a
	slotSATA     = 0x0b // and the following: up to maxSATA-1 further controllers
	slotFirst    = 0x10 // root ports, from here up
	slotLast     = 0x1e // devices that do not fit behind a root port, from here down
)

// portsPerSlot root ports share a slot as functions of one device.
const portsPerSlot = 8

// sparePorts are the root ports kept free for what is plugged in later. Each
// costs the guest's start about 5 ms under TCG and no host memory to speak of.
const sparePorts = 4

// PCI is a device's place.
type PCI struct {
	Bus  string // "pcie.0" or a root port's id
	Slot int
}

// on adds the place to a device's properties.
func (a PCI) on(p Props) Props {
	return append(p, Prop{"bus", a.Bus}, Prop{"addr", fmt.Sprintf("%#x", a.Slot)})
}

func fixed(slot int) PCI { return PCI{Bus: "pcie.0", Slot: slot} }

// RootPort is a PCI Express root port: it holds one device, which can be
// unplugged, or is free for one.
type RootPort struct {
	ID             string
	Slot, Function int
	Multifunction  bool // set on function 0 of a slot with more
	Chassis        int
}

// Props is the port as a device.
func (r RootPort) Props() Props {
	p := Props{
		{"driver", "pcie-root-port"}, {"id", r.ID}, {"bus", "pcie.0"},
		{"addr", fmt.Sprintf("%#x.%#x", r.Slot, r.Function)}, {"chassis", r.Chassis}, {"port", r.Chassis},
		// There are only 64 KiB of I/O ports; PCI Express devices need none.
		{"io-reserve", 0},
	}
	return p.with(r.Multifunction, "multifunction", true)
}

// pciAllocator hands out places.
type pciAllocator struct {
	ports int // root ports in use
	last  int // next slot for a device without a port
	err   error
}

func (a *pciAllocator) slotsOfPorts(n int) int { return (n + portsPerSlot - 1) / portsPerSlot }

func (a *pciAllocator) fits(ports, last int) bool {
	return slotFirst+a.slotsOfPorts(ports)-1 <= last
}

// port gives a place behind a root port of its own.
func (a *pciAllocator) port() PCI {
	if !a.fits(a.ports+1, a.last) {
		a.full()
		return PCI{}
	}
	a.ports++
	return PCI{Bus: portID(a.ports - 1)}
}

// slot gives a place on the root bus, for a conventional PCI device.
func (a *pciAllocator) slot() PCI {
	if !a.fits(a.ports, a.last-1) {
		a.full()
		return PCI{}
	}
	a.last--
	return fixed(a.last + 1)
}

func (a *pciAllocator) full() {
	a.err = fmt.Errorf("more PCI devices than the machine has places (%d PCI Express ports, of which %d are used)",
		(a.last-slotFirst+1)*portsPerSlot, a.ports)
}

// rootPorts are the ports in use and up to spare free ones.
func (a *pciAllocator) rootPorts(spare int) []RootPort {
	n := a.ports
	for range spare {
		if a.fits(n+1, a.last) {
			n++
		}
	}
	ports := make([]RootPort, 0, n)
	for i := range n {
		ports = append(ports, RootPort{
			ID: portID(i), Slot: slotFirst + i/portsPerSlot, Function: i % portsPerSlot,
			Multifunction: i%portsPerSlot == 0 && n-i > 1, Chassis: i + 1,
		})
	}
	return ports
}

func portID(i int) string { return fmt.Sprintf("rp%d", i) }
