// SPDX-License-Identifier: Apache-2.0

package hotplug

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-dev/skerry/internal/qmp"
)

// CPUs are the sockets of a machine, present and to be plugged.
type CPUs struct {
	// Sockets are in the order of their numbers.
	Sockets []Socket
	// Plugs is the number of vCPUs that were ever plugged, as marked in QEMU.
	Plugs int
}

// Socket is one socket with its vCPUs: as many as it has cores × threads.
type Socket struct {
	Number int
	VCPUs  []VCPU
}

// VCPU is one place for a vCPU.
type VCPU struct {
	Driver string
	Props  map[string]any
	// Path is the QOM path of the vCPU; empty while the place is free.
	Path string
}

// Present tells whether all vCPUs of the socket are there, whatever the guest
// makes of them.
func (s Socket) Present() bool {
	return !slices.ContainsFunc(s.VCPUs, func(v VCPU) bool { return v.Path == "" })
}

// Gone tells whether none of them is there.
func (s Socket) Gone() bool {
	return !slices.ContainsFunc(s.VCPUs, func(v VCPU) bool { return v.Path != "" })
}

// AtBoot tells whether the socket was there when the machine started: such a
// socket can't be unplugged.
func (s Socket) AtBoot() bool {
	return slices.ContainsFunc(s.VCPUs, func(v VCPU) bool { return v.Path != "" && v.ID() == "" })
}

const peripheral = "/machine/peripheral/"

// ID is the device's id; empty for a free place and for a vCPU of the start.
func (v VCPU) ID() string {
	id, ok := strings.CutPrefix(v.Path, peripheral)
	if !ok {
		return ""
	}
	return id
}

// Present is the number of vCPUs that are there.
func (c CPUs) Present() int {
	n := 0
	for _, s := range c.Sockets {
		for _, v := range s.VCPUs {
			if v.Path != "" {
				n++
			}
		}
	}
	return n
}

// Max is the number of places.
func (c CPUs) Max() int {
	n := 0
	for _, s := range c.Sockets {
		n += len(s.VCPUs)
	}
	return n
}

// AtBoot is the number of vCPUs of the start.
func (c CPUs) AtBoot() int {
	n := 0
	for _, s := range c.Sockets {
		for _, v := range s.VCPUs {
			if v.Path != "" && v.ID() == "" {
				n++
			}
		}
	}
	return n
}

// maxPlaces bounds what is believed of the other side.
const maxPlaces = 4096

// ReadCPUs asks QEMU.
func ReadCPUs(ctx context.Context, m Monitor) (CPUs, error) {
	var raw []struct {
		Type  string         `json:"type"`
		Count int            `json:"vcpus-count"`
		Path  string         `json:"qom-path"`
		Props map[string]any `json:"props"`
	}
	if err := m.Execute(ctx, "query-hotpluggable-cpus", nil, &raw); err != nil {
		return CPUs{}, fmt.Errorf("ask for the vCPUs: %w", err)
	}
	if len(raw) > maxPlaces {
		return CPUs{}, fmt.Errorf("ask for the vCPUs: QEMU tells of %d, more than %d", len(raw), maxPlaces)
	}
	bySocket := map[int]*Socket{}
	for _, r := range raw {
		n, ok := r.Props["socket-id"].(float64)
		if !ok || r.Count != 1 {
			return CPUs{}, fmt.Errorf("ask for the vCPUs: a place with %d vCPUs and socket-id %v, not one vCPU of a numbered socket", r.Count, r.Props["socket-id"])
		}
		s := bySocket[int(n)]
		if s == nil {
			s = &Socket{Number: int(n)}
			bySocket[int(n)] = s
		}
		s.VCPUs = append(s.VCPUs, VCPU{Driver: r.Type, Props: r.Props, Path: r.Path})
	}
	c := CPUs{}
	for _, n := range slices.Sorted(maps.Keys(bySocket)) {
		s := bySocket[n]
		slices.SortFunc(s.VCPUs, func(a, b VCPU) int { return strings.Compare(vcpuID(n, a), vcpuID(n, b)) })
		c.Sockets = append(c.Sockets, *s)
	}
	marks, err := readMarks(ctx, m)
	if err != nil {
		return CPUs{}, err
	}
	c.Plugs = marks.plugs
	return c, nil
}

// vcpuID is the id of a vCPU that is plugged: "vcpu2" for the only one of socket 2.
func vcpuID(socket int, v VCPU) string {
	id := fmt.Sprintf("vcpu%d", socket)
	if core, thread := number(v.Props["core-id"]), number(v.Props["thread-id"]); core != 0 || thread != 0 {
		id += fmt.Sprintf("-%d-%d", core, thread)
	}
	return id
}

func number(v any) int {
	f, _ := v.(float64)
	return int(f)
}

// PlugSocket plugs what the lowest incomplete socket lacks. The marks that count
// plugs are made first: a plug too few in the count would let a later one abort an
// emulating QEMU, a plug too many costs nothing.
func PlugSocket(ctx context.Context, m Monitor, c CPUs) error {
	for _, s := range c.Sockets {
		if s.Present() {
			continue
		}
		plugs := c.Plugs
		for _, v := range s.VCPUs {
			if v.Path != "" {
				continue
			}
			plugs++
			if err := mark(ctx, m, plugMark(plugs)); err != nil {
				return fmt.Errorf("count a plug of a vCPU: %w", err)
			}
			a := maps.Clone(v.Props)
			a["driver"], a["id"] = v.Driver, vcpuID(s.Number, v)
			if err := m.Execute(ctx, "device_add", a, nil); err != nil {
				return fmt.Errorf("plug vCPU %s: %w", a["id"], err)
			}
		}
		return nil
	}
	return fmt.Errorf("plug a vCPU: all %d places are taken", c.Max())
}

// Plugs is how many vCPUs PlugSocket would plug next.
func (c CPUs) NextPlugs() int {
	for _, s := range c.Sockets {
		if s.Present() {
			continue
		}
		n := 0
		for _, v := range s.VCPUs {
			if v.Path == "" {
				n++
			}
		}
		return n
	}
	return 0
}

// UnplugSocket asks the guest for the highest socket that was plugged. The guest
// may take its time, or never give it back; asking again is no error.
func UnplugSocket(ctx context.Context, m Monitor, c CPUs) error {
	for _, s := range slices.Backward(c.Sockets) {
		if s.Gone() || s.AtBoot() {
			continue
		}
		for _, v := range s.VCPUs {
			if v.Path == "" {
				continue
			}
			err := m.Execute(ctx, "device_del", args{"id": v.ID()}, nil)
			if err != nil && !qmp.IsClass(err, qmp.ClassDeviceNotFound) && !isPending(err) {
				return fmt.Errorf("unplug vCPU %s: %w", v.ID(), err)
			}
		}
		return nil
	}
	return fmt.Errorf("unplug a vCPU: all %d are from the machine's start", c.Present())
}

// isPending recognises the refusal to ask a guest again so soon.
func isPending(err error) bool {
	return qmp.IsClass(err, qmp.ClassGeneric) && strings.Contains(err.Error(), "in the process of unplug")
}

// Use is what can be told of a vCPU from outside.
type Use int

// The uses.
const (
	// Unstarted: it stands at the reset vector; the guest has not started it.
	Unstarted Use = iota
	// Parked: it sleeps with interrupts off, as a guest leaves one that it has
	// taken offline.
	Parked
	// Unsure: it runs with interrupts off. One that is in use does so for moments;
	// one that the guest failed to start may do so for ever.
	Unsure
	// Used: interrupts are on, so the guest schedules work on it.
	Used
)

// registers finds instruction pointer, flags and the halted state in the
// monitor's text.
var registers = regexp.MustCompile(`(?m)^[ER]IP=([0-9a-f]{8,16}) [ER]FL=([0-9a-f]{8,16}) .*\bHLT=([01])`)

const (
	// resetVector is where an x86 CPU stands after its reset, and stays until the
	// guest starts it (Intel SDM volume 3, 10.1.4).
	resetVector = 0xfff0
	// interruptFlag is IF in the flags (SDM volume 1, 3.4.3.3).
	interruptFlag = 1 << 9
)

// ReadUse looks what the guest makes of the vCPUs that were plugged, by their QOM
// paths: QEMU itself has no word for it.
func ReadUse(ctx context.Context, m Monitor) (map[string]Use, error) {
	var cpus []qmp.CPU
	if err := m.Execute(ctx, "query-cpus-fast", nil, &cpus); err != nil {
		return nil, fmt.Errorf("ask for the vCPUs: %w", err)
	}
	use := map[string]Use{}
	for _, c := range cpus {
		if !strings.HasPrefix(c.QOMPath, peripheral) {
			continue
		}
		var text string
		err := m.Execute(ctx, "human-monitor-command", args{"command-line": "info registers", "cpu-index": c.Index}, &text)
		if err != nil {
			return nil, fmt.Errorf("look what the guest makes of vCPU %d: %w", c.Index, err)
		}
		u, err := useOf(text)
		if err != nil {
			return nil, fmt.Errorf("look what the guest makes of vCPU %d: %w", c.Index, err)
		}
		use[c.QOMPath] = u
	}
	return use, nil
}

func useOf(text string) (Use, error) {
	f := registers.FindStringSubmatch(strings.ReplaceAll(text, "\r", ""))
	if f == nil {
		return Unsure, errors.New("no instruction pointer, flags and halted state among its registers")
	}
	ip, err1 := strconv.ParseUint(f[1], 16, 64)
	flags, err2 := strconv.ParseUint(f[2], 16, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Unsure, err
	}
	switch {
	case flags&interruptFlag != 0:
		return Used, nil
	case ip == resetVector:
		return Unstarted, nil
	case f[3] == "1":
		return Parked, nil
	}
	return Unsure, nil
}
