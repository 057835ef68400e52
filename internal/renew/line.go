// SPDX-License-Identifier: Apache-2.0

package renew

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
)

// VCPU is a vCPU that was plugged into the running machine.
type VCPU struct {
	ID, Driver string
	// Props are its socket-id, core-id, thread-id and the like.
	Props map[string]int64
}

// DIMM is memory that was plugged as a module.
type DIMM struct {
	ID, Backend string
	Size        int64 // bytes
	Addr        uint64
	Slot        int64
}

// Plugged is what a running machine has beyond the line that it was started with.
type Plugged struct {
	VCPUs []VCPU
	DIMMs []DIMM
	// Marks are inert objects in which the agent keeps facts about the machine.
	Marks []string
}

// Prefixes of the ids that the agent gives to what it plugs.
const (
	vcpuPrefix    = "vcpu"
	dimmPrefix    = "dimm"
	backendPrefix = "mem-dimm"
	markPrefix    = "skerry-"
	// plugPrefix marks count plugs since the process began, which a renewal resets.
	plugPrefix = "skerry-plugs-"
)

// plugged tells whether an id is one of those.
func plugged(id string) bool {
	for _, p := range []string{vcpuPrefix, dimmPrefix, backendPrefix, markPrefix} {
		if rest, ok := strings.CutPrefix(id, p); ok && (p == markPrefix || rest != "" && rest[0] >= '0' && rest[0] <= '9') {
			return true
		}
	}
	return false
}

// Argv is the command line (argv[0] is QEMU) that describes the machine as it is
// now: the one that it was started with, what was plugged since in place of what
// had been plugged before, and without the option to wait for a user before the
// guest's first instruction, which the machine's state decides.
func Argv(argv []string, p Plugged) ([]string, error) {
	if len(argv) == 0 {
		return nil, fmt.Errorf("the machine's command line is empty")
	}
	list, err := words(argv)
	if err != nil {
		return nil, err
	}
	out := []string{argv[0]}
	for _, o := range list {
		switch {
		case o.name == "-S":
		case (o.name == "-device" || o.name == "-object") && plugged(optionID(o.value)):
		default:
			out = append(out, o.words()...)
		}
	}
	// Memory before vCPUs before what is only told: the order does not matter to
	// QEMU, but a line that is always the same can be compared.
	for _, d := range sorted(p.DIMMs, func(d DIMM) string { return d.ID }) {
		backend, err := object("qom-type", "memory-backend-memfd", "id", d.Backend, "size", d.Size, "share", true)
		if err != nil {
			return nil, err
		}
		dimm, err := object("driver", "pc-dimm", "id", d.ID, "memdev", d.Backend, "addr", d.Addr, "slot", d.Slot)
		if err != nil {
			return nil, err
		}
		out = append(out, "-object", backend, "-device", dimm)
	}
	for _, c := range sorted(p.VCPUs, func(c VCPU) string { return c.ID }) {
		keys := []any{"driver", c.Driver, "id", c.ID}
		names := make([]string, 0, len(c.Props))
		for name := range c.Props {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			keys = append(keys, name, c.Props[name])
		}
		cpu, err := object(keys...)
		if err != nil {
			return nil, err
		}
		out = append(out, "-device", cpu)
	}
	for _, m := range sorted(p.Marks, func(m string) string { return m }) {
		if strings.HasPrefix(m, plugPrefix) || !strings.HasPrefix(m, markPrefix) {
			continue
		}
		mark, err := object("qom-type", "secret", "id", m, "data", "-")
		if err != nil {
			return nil, err
		}
		out = append(out, "-object", mark)
	}
	return out, nil
}

func sorted[T any](list []T, key func(T) string) []T {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b T) int {
		ka, kb := key(a), key(b)
		if len(ka) != len(kb) {
			return len(ka) - len(kb) // dimm10 after dimm9
		}
		return strings.Compare(ka, kb)
	})
	return list
}

// object is an option in QEMU's JSON syntax, its keys in the order given.
func object(pairs ...any) (string, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range pairs {
		if i > 0 {
			b.WriteByte(",:"[i%2])
		}
		j, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		b.Write(j)
	}
	b.WriteByte('}')
	return b.String(), nil
}

// option reads one key of an option in either of QEMU's syntaxes; empty when it
// has none.
func option(word, key string) string {
	if strings.HasPrefix(word, "{") {
		var o map[string]any
		d := json.NewDecoder(strings.NewReader(word))
		d.UseNumber()
		if d.Decode(&o) != nil {
			return ""
		}
		switch v := o[key].(type) {
		case string:
			return v
		case bool:
			return strconv.FormatBool(v)
		case json.Number:
			return v.String()
		}
		return ""
	}
	// A comma within a value is doubled; none of the values read here has one.
	for part := range strings.SplitSeq(word, ",") {
		if k, v, ok := strings.Cut(part, "="); ok && k == key {
			return v
		}
	}
	return ""
}

func optionID(word string) string { return option(word, "id") }

// word is an option of the command line, with its value unless it takes none.
type word struct {
	name, value string
	bare        bool
}

func (w word) words() []string {
	if w.bare {
		return []string{w.name}
	}
	return []string{w.name, w.value}
}

// bare are the options without a value that package machine uses. A value may
// look like an option: it can be a user's kernel argument.
var bare = []string{"-S", "-no-user-config", "-nodefaults"}

// words splits a command line into options.
func words(argv []string) ([]word, error) {
	var out []word
	for i := 1; i < len(argv); i++ {
		w := word{name: argv[i], bare: slices.Contains(bare, argv[i])}
		if !strings.HasPrefix(w.name, "-") {
			return nil, fmt.Errorf("the machine's command line has %.80q where an option was expected", w.name)
		}
		if !w.bare {
			if i++; i == len(argv) {
				return nil, fmt.Errorf("the machine's command line ends with %.80s", w.name)
			}
			w.value = argv[i]
		}
		out = append(out, w)
	}
	return out, nil
}

// values are the values of all options of that name.
func values(list []word, name string) []string {
	var out []string
	for _, w := range list {
		if w.name == name {
			out = append(out, w.value)
		}
	}
	return out
}

// incoming tells QEMU where the state of its predecessor is.
var incoming = []string{"-incoming", "file:" + contract.RunDir + "/" + contract.RenewState}

// Commands are what the launcher is told: argv describes the machine, from and to
// are the launcher images (contract.QEMUCommand) of the QEMU that goes and of the
// one that comes.
func Commands(argv []string, from, to string) (contract.Renewal, error) {
	list, err := words(argv)
	if err != nil {
		return contract.Renewal{}, err
	}
	whole := func(next string, argv []string) []string {
		return append(contract.QEMUCommand(next, argv), incoming...)
	}
	return contract.Renewal{
		Rehearsal: append(whole(to, append([]string{argv[0]}, rehearsal(list)...)), "-S"),
		New:       whole(to, argv),
		Old:       whole(from, argv),
	}, nil
}

// rehearsal is the line with its sockets elsewhere: who connects to the machine
// must not meet a QEMU that is about to be killed. Nor does the end of that one
// count as the machine's.
func rehearsal(list []word) []string {
	const from, to = contract.RunDir + "/", contract.RunDir + "/" + contract.RehearsalDir + "/"
	var out []string
	for _, w := range list {
		switch w.name {
		case "-D", "-trace":
			continue
		case "-chardev":
			w.value = strings.Replace(w.value, "path="+from, "path="+to, 1)
		case "-vnc":
			w.value = strings.Replace(w.value, "unix:"+from, "unix:"+to, 1)
		}
		out = append(out, w.words()...)
	}
	return out
}
