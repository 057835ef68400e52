// SPDX-License-Identifier: Apache-2.0

package renew

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// Live is what a machine's QEMU says of itself.
type Live struct {
	// Version is upstream's, such as 11.1.3.
	Version string
	// Status is query-status' run state.
	Status string
	// Migration is the state of query-migrate; empty when there never was one.
	Migration string
	// Capabilities are the migration capabilities that are switched on.
	Capabilities []string
	// Memory are the memory backends: whether another process can take each over.
	Memory map[string]bool
	// Devices are the ids of all devices that have one, and Nodes the names of the
	// block nodes that were given one.
	Devices, Nodes []string
	// Plugged are those of Devices that the agent plugged in.
	Plugged Plugged
}

// Candidate is the QEMU that would come.
type Candidate struct {
	// Version is upstream's.
	Version string
	// Machines are the machine types that it knows; nil if that was not asked.
	Machines []string
}

// Obstacle says why QEMU cannot be replaced. Reason is one of package v1's
// reasons of the condition Renewable.
type Obstacle struct{ Reason, Message string }

func (o *Obstacle) Error() string { return o.Message }

func obstacle(reason, format string, args ...any) *Obstacle {
	return &Obstacle{reason, fmt.Sprintf(format, args...)}
}

// oldest is the first version of QEMU with which this was tried. The mode
// appeared a little earlier.
var oldest = [2]int{11, 1}

// States in which a machine can be renewed.
const (
	running = "running"
	paused  = "paused"
)

// Judge says what speaks against replacing the QEMU of a machine that was started
// with argv; nil if nothing does.
func Judge(argv []string, l Live, c Candidate) *Obstacle {
	line, err := words(argv)
	if err != nil {
		return obstacle(v1.RenewableDevice, "%v", err)
	}
	checks := []func([]word, Live, Candidate) *Obstacle{judgeVersion, judgeMemory, judgeNetwork, judgeState}
	for _, check := range checks {
		if o := check(line, l, c); o != nil {
			return o
		}
	}
	return judgeDevices(argv, l)
}

func judgeVersion(line []word, l Live, c Candidate) *Obstacle {
	have, ok := parseVersion(l.Version)
	if !ok || less(have, oldest) {
		return obstacle(v1.RenewableQEMUVersion, "the machine runs QEMU %s, and only %d.%d and later can be replaced while the guest runs: restart the machine", l.Version, oldest[0], oldest[1])
	}
	if c.Version == "" {
		return nil // what comes is not known yet
	}
	next, ok := parseVersion(c.Version)
	if !ok || less(next, have) {
		return obstacle(v1.RenewableQEMUVersion, "the node's launcher image has QEMU %s, and the machine runs %s, which is newer: an older one cannot take it over", c.Version, l.Version)
	}
	if t := machineType(line); c.Machines != nil && !slices.Contains(c.Machines, t) {
		return obstacle(v1.RenewableQEMUVersion, "QEMU %s does not know the machine type %s that the machine was started with: restart the machine", c.Version, t)
	}
	return nil
}

func machineType(line []word) string {
	for _, v := range values(line, "-machine") {
		t, _, _ := strings.Cut(v, ",")
		return t
	}
	return ""
}

func parseVersion(s string) (v [2]int, ok bool) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) < 2 {
		return v, false
	}
	for i := range v {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

func less(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

func judgeMemory(line []word, l Live, _ Candidate) *Obstacle {
	if len(l.Memory) == 0 {
		return obstacle(v1.RenewableMemory, "the guest's memory belongs to QEMU alone: restart the machine")
	}
	var private []string
	for id, shared := range l.Memory {
		if !shared {
			private = append(private, id)
		}
	}
	if len(private) > 0 {
		slices.Sort(private)
		return obstacle(v1.RenewableMemory, "memory %s is not shared, so another process cannot take it over: restart the machine", strings.Join(private, ", "))
	}
	if !slices.ContainsFunc(values(line, "-machine"), func(v string) bool { return option(v, "aux-ram-share") == "on" }) {
		return obstacle(v1.RenewableMemory, "the memory of the machine's devices is not shared (it was started without aux-ram-share): restart the machine")
	}
	return nil
}

func judgeNetwork(line []word, _ Live, _ Candidate) *Obstacle {
	for _, v := range values(line, "-netdev") {
		kind := option(v, "type")
		if kind == "" {
			kind, _, _ = strings.Cut(v, ",")
		}
		if kind != "tap" {
			return obstacle(v1.RenewableDevice, "network %s is of type %q, and only taps can be taken over: restart the machine", optionID(v), kind)
		}
		// By name it cannot be opened twice.
		if option(v, "fd") == "" {
			return obstacle(v1.RenewableDevice, "QEMU has opened the tap of network %s by name and not taken a descriptor: restart the machine", optionID(v))
		}
	}
	return nil
}

func judgeDevices(argv []string, l Live) *Obstacle {
	now, err := Argv(argv, l.Plugged)
	if err != nil {
		return obstacle(v1.RenewableDevice, "%v", err)
	}
	line, err := words(now)
	if err != nil {
		return obstacle(v1.RenewableDevice, "%v", err)
	}
	for what, sets := range map[string][2][]string{
		"device":     {ids(values(line, "-device"), "id"), l.Devices},
		"block node": {ids(values(line, "-blockdev"), "node-name"), l.Nodes},
	} {
		want, have := sets[0], sets[1]
		for _, id := range have {
			if !slices.Contains(want, id) {
				return obstacle(v1.RenewableDevice, "%s %s was added while the machine ran, and its command line is not known: remove it, or restart the machine", what, id)
			}
		}
		for _, id := range want {
			if !slices.Contains(have, id) {
				return obstacle(v1.RenewableDevice, "%s %s was removed while the machine ran: restart the machine", what, id)
			}
		}
	}
	return nil
}

func ids(words []string, key string) []string {
	var out []string
	for _, w := range words {
		if id := option(w, key); id != "" {
			out = append(out, id)
		}
	}
	return out
}

func judgeState(_ []word, l Live, _ Candidate) *Obstacle {
	switch l.Migration {
	case "", "none", "completed", "failed", "cancelled":
	default:
		return obstacle(v1.RenewableState, "the machine's state is being written (%s): try again later", l.Migration)
	}
	if len(l.Capabilities) > 0 {
		return obstacle(v1.RenewableState, "migration capabilities are switched on (%s): switch them off", strings.Join(l.Capabilities, ", "))
	}
	if l.Status != running && l.Status != paused {
		return obstacle(v1.RenewableState, "the machine is %q: it must be running or paused", l.Status)
	}
	return nil
}

// Newer tells whether image a is another QEMU than image b, judged by what the
// images say of their packages.
func Newer(a, b contract.ImageInfo) bool {
	if a.QEMUVersion != b.QEMUVersion || len(a.Packages) != len(b.Packages) {
		return true
	}
	for name, version := range a.Packages {
		if b.Packages[name] != version {
			return true
		}
	}
	return false
}
