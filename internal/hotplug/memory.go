// SPDX-License-Identifier: Apache-2.0

package hotplug

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// Grains in bytes.
const (
	// Step is the unit in which a Linux guest takes virtio-mem; QEMU would allow 1 MiB.
	Step = 2 << 20
	// DIMMStep is the unit in which it takes DIMMs.
	DIMMStep = 128 << 20
)

// Memory is a machine's memory, in bytes.
type Memory struct {
	// Base is what the machine started with.
	Base int64
	// Device is the virtio-mem device; nil when the machine has none.
	Device *Device
	// DIMMs are in the order in which they were plugged.
	DIMMs []DIMM
	// Backends are memory objects of DIMMs, with or without their DIMM.
	Backends []string
	// BootTotal is what the guest counted as its memory when nothing was plugged;
	// 0 when it has not said.
	BootTotal int64
}

// Device is a virtio-mem device.
type Device struct {
	Requested int64 // what the guest is asked to use
	Size      int64 // what it has taken
	Max       int64
}

// DIMM is a plugged DIMM.
type DIMM struct {
	ID, Backend string
	Size        int64
}

// Plugged is what QEMU has plugged, whatever the guest makes of it.
func (m Memory) Plugged() int64 {
	n := m.InDIMMs()
	if m.Device != nil {
		n += m.Device.Size
	}
	return n
}

// InDIMMs is the size of all DIMMs.
func (m Memory) InDIMMs() int64 {
	n := int64(0)
	for _, d := range m.DIMMs {
		n += d.Size
	}
	return n
}

const maxBytes = 1 << 60

// ReadMemory asks QEMU.
func ReadMemory(ctx context.Context, m Monitor) (Memory, error) {
	var size qmp.MemorySize
	if err := m.Execute(ctx, "query-memory-size-summary", nil, &size); err != nil {
		return Memory{}, fmt.Errorf("ask for the memory's size: %w", err)
	}
	var devices []struct {
		Type string `json:"type"`
		Data struct {
			ID        string `json:"id"`
			Memdev    string `json:"memdev"`
			Size      uint64 `json:"size"`
			Requested uint64 `json:"requested-size"`
			Max       uint64 `json:"max-size"`
			Slot      int    `json:"slot"`
		} `json:"data"`
	}
	if err := m.Execute(ctx, "query-memory-devices", nil, &devices); err != nil {
		return Memory{}, fmt.Errorf("ask for the memory devices: %w", err)
	}
	if size.Base > maxBytes || len(devices) > maxPlaces {
		return Memory{}, fmt.Errorf("ask for the memory: %d bytes and %d devices are not believed", size.Base, len(devices))
	}
	out := Memory{Base: int64(size.Base)}
	for _, d := range devices {
		if d.Data.Size > maxBytes || d.Data.Requested > maxBytes || d.Data.Max > maxBytes {
			return Memory{}, fmt.Errorf("ask for the memory devices: the sizes of %s are not believed", d.Data.ID)
		}
		switch {
		case d.Type == "virtio-mem" && d.Data.ID == machine.MemoryDevice:
			out.Device = &Device{Requested: int64(d.Data.Requested), Size: int64(d.Data.Size), Max: int64(d.Data.Max)}
		case d.Type == "dimm":
			out.DIMMs = append(out.DIMMs, DIMM{ID: d.Data.ID, Backend: strings.TrimPrefix(d.Data.Memdev, "/objects/"), Size: int64(d.Data.Size)})
		}
	}
	k, err := readMarks(ctx, m)
	if err != nil {
		return Memory{}, err
	}
	out.BootTotal = k.memory
	for _, name := range k.names {
		if strings.HasPrefix(name, backendPrefix) {
			out.Backends = append(out.Backends, name)
		}
	}
	return out, nil
}

// Request has the guest asked to use that much of the virtio-mem device, in bytes.
// Asking for the same again makes a guest that gave up try once more.
func Request(ctx context.Context, m Monitor, bytes int64) error {
	err := m.Execute(ctx, "qom-set", args{
		"path": peripheral + machine.MemoryDevice, "property": "requested-size", "value": bytes,
	}, nil)
	if err != nil {
		return fmt.Errorf("ask the guest to use %d bytes of %s: %w", bytes, machine.MemoryDevice, err)
	}
	return nil
}

// Names of DIMMs and of their memory.
const (
	dimmPrefix    = "dimm"
	backendPrefix = "mem-dimm"
)

// PlugDIMM plugs a DIMM of a size in bytes. Its memory is a memfd that a renewed
// QEMU inherits, as all of the guest's.
func PlugDIMM(ctx context.Context, m Monitor, mem Memory, bytes int64) error {
	n := -1
	for i := range machine.DIMMSlots {
		taken := slices.ContainsFunc(mem.DIMMs, func(d DIMM) bool { return d.ID == fmt.Sprint(dimmPrefix, i) }) ||
			slices.Contains(mem.Backends, fmt.Sprint(backendPrefix, i))
		if !taken {
			n = i
			break
		}
	}
	if n < 0 {
		return fmt.Errorf("plug a DIMM: all %d slots are taken", machine.DIMMSlots)
	}
	id, backend := fmt.Sprint(dimmPrefix, n), fmt.Sprint(backendPrefix, n)
	if err := m.Execute(ctx, "object-add", args{"qom-type": "memory-backend-memfd", "id": backend, "size": bytes, "share": true}, nil); err != nil {
		return fmt.Errorf("make %d bytes for DIMM %s: %w", bytes, id, err)
	}
	if err := m.Execute(ctx, "device_add", args{"driver": "pc-dimm", "id": id, "memdev": backend}, nil); err != nil {
		// Memory without a DIMM is nobody's; what fails here, Sweep does later.
		_ = m.Execute(ctx, "object-del", args{"id": backend}, nil)
		return fmt.Errorf("plug DIMM %s: %w", id, err)
	}
	return nil
}

// UnplugDIMM asks the guest for a DIMM. It gives it back as a whole or not at all.
func UnplugDIMM(ctx context.Context, m Monitor, id string) error {
	err := m.Execute(ctx, "device_del", args{"id": id}, nil)
	if err != nil && !qmp.IsClass(err, qmp.ClassDeviceNotFound) && !isPending(err) {
		return fmt.Errorf("unplug DIMM %s: %w", id, err)
	}
	return nil
}

// Sweep lets go of memory whose DIMM is gone, or never came: only then does the
// host have it back. It tells how many there were.
func Sweep(ctx context.Context, m Monitor, mem Memory) (int, error) {
	n := 0
	for _, b := range mem.Backends {
		if slices.ContainsFunc(mem.DIMMs, func(d DIMM) bool { return d.Backend == b }) {
			continue
		}
		if err := m.Execute(ctx, "object-del", args{"id": b}, nil); err != nil {
			return n, fmt.Errorf("let go of the memory %s: %w", b, err)
		}
		n++
	}
	return n, nil
}
