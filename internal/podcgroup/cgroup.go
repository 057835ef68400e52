// SPDX-License-Identifier: Apache-2.0

package podcgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Unlimited stands for no limit.
const Unlimited = math.MaxInt64

// Limits are the least of a container's and its pod's.
type Limits struct {
	// Memory in bytes.
	Memory int64
	// CPU in thousandths of a CPU.
	CPU int64
}

// Group is a container's cgroup and those above it up to its pod's.
type Group struct {
	memory, cpu hierarchy
}

// hierarchy is the same pod in one hierarchy.
type hierarchy struct {
	// dirs are the container's directory first, the pod's last.
	dirs []string
	v2   bool
}

// Root is where the hierarchies are mounted.
const Root = "/sys/fs/cgroup"

// Open finds the groups of a process whose /proc/PID/cgroup file is given, below
// root. isPod recognises the name of the pod's directory.
func Open(root string, procCgroup []byte, isPod func(name string) bool) (*Group, error) {
	g := &Group{}
	for name, h := range map[string]*hierarchy{"memory": &g.memory, "cpu": &g.cpu} {
		at, err := find(root, procCgroup, name)
		if err != nil {
			return nil, err
		}
		*h = at.pod(isPod)
		if len(h.dirs) == 0 {
			return nil, fmt.Errorf("cgroup of the pod: no directory of the pod above %s", at.path)
		}
	}
	return g, nil
}

// place is where a process is in one hierarchy.
type place struct {
	mount, path string
	v2          bool
}

// find looks for a controller: in a hierarchy of its own, else in the unified one.
func find(root string, procCgroup []byte, controller string) (place, error) {
	unified := ""
	for line := range bytes.Lines(procCgroup) {
		// hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(parts) != 3 || !path.IsAbs(parts[2]) || path.Clean(parts[2]) != parts[2] {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			unified = parts[2]
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			if c != controller {
				continue
			}
			// Controllers that share a hierarchy have links with their own names.
			return place{mount: filepath.Join(root, controller), path: parts[2]}, nil
		}
	}
	if unified == "" {
		return place{}, fmt.Errorf("cgroup of the process: no hierarchy has the %s controller", controller)
	}
	return place{mount: root, path: unified, v2: true}, nil
}

// pod lists the directories from the process's up to the pod's. The first name
// that is the pod's counts on the way down: what is below is the container's own.
func (p place) pod(isPod func(string) bool) hierarchy {
	h := hierarchy{v2: p.v2}
	dir := p.mount
	under := false
	for el := range strings.SplitSeq(strings.Trim(p.path, "/"), "/") {
		dir = filepath.Join(dir, el)
		under = under || isPod(el)
		if under {
			h.dirs = append([]string{dir}, h.dirs...)
		}
	}
	return h
}

// Limits reads the limits as they are now.
func (g *Group) Limits() (Limits, error) {
	l := Limits{Memory: Unlimited, CPU: Unlimited}
	for _, dir := range g.memory.dirs {
		n, err := memoryLimit(dir, g.memory.v2)
		if err != nil {
			return Limits{}, fmt.Errorf("memory limit of the pod: %w", err)
		}
		l.Memory = min(l.Memory, n)
	}
	for _, dir := range g.cpu.dirs {
		n, err := cpuLimit(dir, g.cpu.v2)
		if err != nil {
			return Limits{}, fmt.Errorf("CPU limit of the pod: %w", err)
		}
		l.CPU = min(l.CPU, n)
	}
	return l, nil
}

// MemoryUsage is what the pod is charged with, in bytes, page cache included.
func (g *Group) MemoryUsage() (int64, error) {
	name := "memory.usage_in_bytes"
	if g.memory.v2 {
		name = "memory.current"
	}
	n, err := number(g.podDir(), name)
	if err != nil {
		return 0, fmt.Errorf("memory usage of the pod: %w", err)
	}
	return n, nil
}

func (g *Group) podDir() string { return g.memory.dirs[len(g.memory.dirs)-1] }

// Reclaim has the kernel give back at least so many bytes of what the pod is
// charged with, as far as it can: page cache that nobody needs at the moment. A
// kernel that can't is an error that wraps errors.ErrUnsupported.
//
// In cgroup v1 there is no way to say how much; all that can go goes. A guest's
// memory can't (there is no swap for it), QEMU's program is read again.
func (g *Group) Reclaim(n int64) error {
	name, value := "memory.force_empty", "0"
	if g.memory.v2 {
		name, value = "memory.reclaim", strconv.FormatInt(max(n, 1), 10)
	}
	err := write(filepath.Join(g.podDir(), name), value)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reclaim memory of the pod: the kernel has no %s: %w", name, errors.ErrUnsupported)
	case errors.Is(err, errAgain):
		return nil // it gave back less than was asked for; the usage says how much
	case err != nil:
		return fmt.Errorf("reclaim memory of the pod: %w", err)
	}
	return nil
}

func memoryLimit(dir string, v2 bool) (int64, error) {
	if v2 {
		return number(dir, "memory.max")
	}
	n, err := number(dir, "memory.limit_in_bytes")
	// No limit is the largest number of whole pages.
	if n >= math.MaxInt64-1<<20 {
		n = Unlimited
	}
	return n, err
}

// cpuLimit is quota/period, rounded up: the kernel's numbers are never below what
// was asked for, but for the microsecond that is missing.
func cpuLimit(dir string, v2 bool) (int64, error) {
	var quota, period int64
	if v2 {
		b, err := read(dir, "cpu.max")
		if err != nil {
			return 0, err
		}
		f := strings.Fields(string(b))
		if len(f) != 2 {
			return 0, fmt.Errorf("%s/cpu.max: %q is not a quota and a period", dir, b)
		}
		if f[0] == "max" {
			return Unlimited, nil
		}
		q, err1 := strconv.ParseInt(f[0], 10, 64)
		p, err2 := strconv.ParseInt(f[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("%s/cpu.max: %w", dir, err)
		}
		quota, period = q, p
	} else {
		var err error
		if quota, err = number(dir, "cpu.cfs_quota_us"); err != nil {
			return 0, err
		}
		if period, err = number(dir, "cpu.cfs_period_us"); err != nil {
			return 0, err
		}
	}
	if quota < 0 {
		return Unlimited, nil
	}
	if period <= 0 || quota > math.MaxInt64/1000 {
		return 0, fmt.Errorf("%s: a quota of %d in a period of %d is not believed", dir, quota, period)
	}
	return (quota*1000 + period - 1) / period, nil
}

const maxFile = 4096

func read(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b), nil
}

func number(dir, name string) (int64, error) {
	b, err := read(dir, name)
	if err != nil {
		return 0, err
	}
	if string(b) == "max" {
		return Unlimited, nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s/%s: %w", dir, name, err)
	}
	return n, nil
}
