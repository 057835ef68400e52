// SPDX-License-Identifier: Apache-2.0

// Package hotplugtest gives a fake QEMU vCPUs and memory that can be plugged, and a
// guest that takes them, or does not. It must never be linked into a binary.
package hotplugtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/internal/qmp/qmptest"
)

// Machine is what QEMU and the guest make of it. Its fields may be changed under
// Lock only.
type Machine struct {
	sync.Mutex

	// Threads is the number of vCPUs of each socket, Boot the sockets of the start.
	Sockets, Threads, Boot int
	// Path of each vCPU that is there, by socket and thread.
	paths map[[2]int]string
	// Deaf: the guest neither starts vCPUs nor gives them back.
	Deaf bool

	Base, DeviceMax int64
	// NoDriver: the guest has no driver for virtio-mem. NotOnline: it takes memory
	// and does not use it.
	NoDriver, NotOnline bool
	// Busy is how much of the device's memory the guest can't give back.
	Busy            int64
	requested, size int64
	dimms           []string
	objects         map[string]int64 // and the size of those that are memory
	// reserved is what the guest's kernel took at its start.
	reserved int64
	polling  int
}

// New has the server answer for such a machine.
func New(s *qmptest.Server, sockets, threads, boot int, base, deviceMax int64) *Machine {
	m := &Machine{
		Sockets: sockets, Threads: threads, Boot: boot, Base: base, DeviceMax: deviceMax,
		paths: map[[2]int]string{}, objects: map[string]int64{}, reserved: 40 << 20,
	}
	for i := range boot {
		for t := range threads {
			m.paths[[2]int{i, t}] = fmt.Sprintf("/machine/unattached/device[%d]", i*threads+t)
		}
	}
	handle := func(name string, h func(args) (any, error)) {
		s.Handle(name, func(raw json.RawMessage) (any, error) {
			var a args
			if len(raw) > 0 {
				if err := json.Unmarshal(raw, &a); err != nil {
					return nil, err
				}
			}
			m.Lock()
			defer m.Unlock()
			return h(a)
		})
	}
	handle("query-hotpluggable-cpus", m.hotpluggable)
	handle("query-cpus-fast", m.cpus)
	handle("human-monitor-command", m.registers)
	handle("query-memory-size-summary", func(args) (any, error) {
		return map[string]int64{"base-memory": m.Base, "plugged-memory": m.plugged()}, nil
	})
	handle("query-memory-devices", m.memoryDevices)
	handle("qom-list", m.list)
	handle("qom-set", m.set)
	handle("qom-get", m.statistics)
	handle("object-add", m.addObject)
	handle("object-del", m.delObject)
	handle("device_add", m.addDevice)
	handle("device_del", m.delDevice)
	return m
}

type args map[string]any

func (a args) text(k string) string { s, _ := a[k].(string); return s }
func (a args) int(k string) int64   { f, _ := a[k].(float64); return int64(f) }

func refuse(format string, a ...any) error {
	return &qmptest.Error{Class: "GenericError", Desc: fmt.Sprintf(format, a...)}
}

func notFound(id string) error {
	return &qmptest.Error{Class: "DeviceNotFound", Desc: "Device '" + id + "' not found"}
}

// hotpluggable lists the places, the last first, as QEMU does.
func (m *Machine) hotpluggable(args) (any, error) {
	list := []map[string]any{}
	for s := m.Sockets - 1; s >= 0; s-- {
		for t := m.Threads - 1; t >= 0; t-- {
			e := map[string]any{
				"type": "max-x86_64-cpu", "vcpus-count": 1,
				"props": map[string]int{"socket-id": s, "core-id": 0, "thread-id": t},
			}
			if p := m.paths[[2]int{s, t}]; p != "" {
				e["qom-path"] = p
			}
			list = append(list, e)
		}
	}
	return list, nil
}

func (m *Machine) present() []string {
	var l []string
	for s := range m.Sockets {
		for t := range m.Threads {
			if p := m.paths[[2]int{s, t}]; p != "" {
				l = append(l, p)
			}
		}
	}
	return l
}

func (m *Machine) cpus(args) (any, error) {
	list := []map[string]any{}
	for i, p := range m.present() {
		list = append(list, map[string]any{"cpu-index": i, "qom-path": p, "thread-id": 100 + i})
	}
	return list, nil
}

func (m *Machine) registers(args) (any, error) {
	if m.Deaf {
		return "\r\nCPU#1\r\nEAX=0\r\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n", nil
	}
	return "\r\nCPU#1\r\nRAX=0\r\nRIP=ffffffff81a17a0b RFL=00000212 [----A--] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n", nil
}

func (m *Machine) plugged() int64 {
	n := m.size
	for _, d := range m.dimms {
		n += m.objects["mem-"+d]
	}
	return n
}

func (m *Machine) memoryDevices(args) (any, error) {
	list := []map[string]any{}
	if m.DeviceMax > 0 {
		list = append(list, map[string]any{"type": "virtio-mem", "data": map[string]any{
			"id": "vmem0", "memdev": "/objects/vm0", "size": m.size, "requested-size": m.requested, "max-size": m.DeviceMax,
		}})
	}
	for _, d := range m.dimms {
		list = append(list, map[string]any{"type": "dimm", "data": map[string]any{
			"id": d, "memdev": "/objects/mem-" + d, "size": m.objects["mem-"+d],
		}})
	}
	return list, nil
}

func (m *Machine) list(args) (any, error) {
	list := []map[string]any{{"name": "type"}, {"name": "ram0"}}
	for o := range m.objects {
		list = append(list, map[string]any{"name": o})
	}
	return list, nil
}

func (m *Machine) set(a args) (any, error) {
	switch a.text("property") {
	case "guest-stats-polling-interval":
		m.polling = int(a.int("value"))
	case "requested-size":
		if n := a.int("value"); n < 0 || n > m.DeviceMax || n%(1<<20) != 0 {
			return nil, refuse("'requested-size' %d is not a multiple or too large", n)
		}
		m.requested = a.int("value")
		m.follow()
	default:
		return nil, refuse("no property %s", a.text("property"))
	}
	return nil, nil
}

// follow is the guest's driver.
func (m *Machine) follow() {
	if !m.NoDriver {
		m.size = max(m.requested, min(m.Busy, m.size))
	}
}

func (m *Machine) statistics(args) (any, error) {
	total := m.Base - m.reserved
	if !m.NotOnline {
		total += m.plugged()
	}
	return map[string]any{
		"stats":       map[string]any{"stat-total-memory": total, "stat-available-memory": total / 2},
		"last-update": time.Now().Unix(),
	}, nil
}

func (m *Machine) addObject(a args) (any, error) {
	id := a.text("id")
	if _, ok := m.objects[id]; ok {
		return nil, refuse("attempt to add duplicate property '%s' to object (type 'container')", id)
	}
	m.objects[id] = a.int("size")
	return nil, nil
}

func (m *Machine) delObject(a args) (any, error) {
	id := a.text("id")
	if _, ok := m.objects[id]; !ok {
		return nil, refuse("object '%s' not found", id)
	}
	if slices.Contains(m.dimms, strings.TrimPrefix(id, "mem-")) {
		return nil, refuse("object '%s' is in use, can not be deleted", id)
	}
	delete(m.objects, id)
	return nil, nil
}

func (m *Machine) addDevice(a args) (any, error) {
	id := a.text("id")
	if a.text("driver") == "pc-dimm" {
		m.dimms = append(m.dimms, id)
		return nil, nil
	}
	k := [2]int{int(a.int("socket-id")), int(a.int("thread-id"))}
	if m.paths[k] != "" {
		return nil, refuse("CPU already exists")
	}
	m.paths[k] = "/machine/peripheral/" + id
	return nil, nil
}

func (m *Machine) delDevice(a args) (any, error) {
	id := a.text("id")
	if i := slices.Index(m.dimms, id); i >= 0 {
		if !m.Deaf {
			m.dimms = slices.Delete(m.dimms, i, i+1)
		}
		return nil, nil
	}
	for k, p := range m.paths {
		if p == "/machine/peripheral/"+id {
			if !m.Deaf {
				delete(m.paths, k)
			}
			return nil, nil
		}
	}
	return nil, notFound(id)
}

// VCPUs is the number of vCPUs that are there.
func (m *Machine) VCPUs() int {
	m.Lock()
	defer m.Unlock()
	return len(m.present())
}

// Plugged is the plugged memory in bytes, and Requested what was asked of the
// virtio-mem device.
func (m *Machine) Plugged() (plugged, requested int64) {
	m.Lock()
	defer m.Unlock()
	return m.plugged(), m.requested
}

// Change changes the machine under its lock, and lets the guest follow.
func (m *Machine) Change(f func(*Machine)) {
	m.Lock()
	defer m.Unlock()
	f(m)
	m.follow()
}
