// SPDX-License-Identifier: Apache-2.0

package box

import (
	"fmt"
	"strconv"
	"strings"
)

// Space is a file system as statfs(2) tells, in bytes and numbers of files. Free
// is what ordinary users may still take. Files is 0 where their number has no limit.
type Space struct {
	Total, Free      uint64
	Files, FreeFiles uint64
}

// Reserve is the size of the file that holds space back for the cluster's own
// writes, in bytes. It is less than what the node agent wants to see free before
// it lets a machine go on that stands still for want of space: what is given back
// here must not be taken by the guest that filled the disk.
const Reserve = 32 * mib

// full is how little space means that writes fail, or soon will.
const full = 8 * mib

// Low is the free space, in bytes, below which a file system is short: a tenth of
// it, but at least 512 MiB and at most 5 GiB, and a quarter where it is very small.
func (s Space) Low() uint64 {
	return min(max(s.Total/10, 512*mib), 5*gib, s.Total/4)
}

// Enough is the free space, in bytes, from which on it is not short any more.
// Between the two marks it stays what it was.
func (s Space) Enough() uint64 { return s.Low() / 4 * 5 }

// Full tells whether the reserve has to be given back.
func (s Space) Full() bool { return s.Total > 0 && s.Free < full }

// RoomForReserve tells whether the reserve can be held back without making the
// file system short.
func (s Space) RoomForReserve() bool { return s.Free >= s.Enough()+Reserve }

// Disk judges the file system of dir, the data directory; was tells whether it was
// short before.
func Disk(dir string, was bool, s Space) Condition {
	c := Condition{Type: DiskShort, Reason: "DiskHasSpace", Message: fmt.Sprintf("the file system of %s has space", dir)}
	// A file more or less is nothing; a twentieth is where ext4 gets slow to find one.
	fewFiles := s.Files > 0 && s.FreeFiles < s.Files/20
	short := s.Free < s.Low() || was && s.Free < s.Enough() || fewFiles || was && s.Files > 0 && s.FreeFiles < s.Files/16
	switch {
	case !short:
		return c
	case s.Full():
		c.Reason = "DiskFull"
		c.Message = fmt.Sprintf("the file system of %s is full (of %s): nothing is started on this node, machines stand still at their next write (and go on by themselves), "+
			"and the cluster lives on what it had set aside", dir, size(s.Total))
	case s.Free >= s.Enough():
		c.Reason = "DiskHasFewFiles"
		c.Message = fmt.Sprintf("the file system of %s can hold few more files (of %d): nothing is started on this node", dir, s.Files)
	default:
		c.Reason = "DiskShort"
		c.Message = fmt.Sprintf("the file system of %s has less than %s free (of %s): nothing is started on this node, what runs goes on", dir, size(s.Low()), size(s.Total))
	}
	c.True = true
	c.Message += fmt.Sprintf("; remove machines, pods, images or files that are not needed, or make it larger: this ends by itself at %s", size(s.Enough()))
	return c
}

// Memory is the machine's memory in bytes, as /proc/meminfo tells.
type Memory struct{ Total, Available uint64 }

// ParseMemory reads /proc/meminfo (proc_meminfo(5)).
func ParseMemory(meminfo string) (m Memory, err error) {
	for line := range strings.Lines(meminfo) {
		key, value, _ := strings.Cut(line, ":")
		var to *uint64
		switch key {
		case "MemTotal":
			to = &m.Total
		case "MemAvailable":
			to = &m.Available
		default:
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 54)
		if err != nil {
			return m, fmt.Errorf("%s %q: must be a number of kB", key, strings.TrimSpace(value))
		}
		*to = n * kib
	}
	if m.Total == 0 {
		return m, fmt.Errorf("no MemTotal in %d bytes of meminfo", len(meminfo))
	}
	return m, nil
}

// SystemReserve is how much of the memory is kept from pods for the cluster's own
// processes and the system, in bytes.
func SystemReserve(total uint64) uint64 { return min(512*mib, total/4) }

// EvictionMemory is the available memory, in bytes, below which the kubelet ends
// pods, those first that use more than they have asked for.
const EvictionMemory = 100 * mib

func (m Memory) low() uint64    { return min(max(m.Total/20, 2*EvictionMemory), gib, m.Total/4) }
func (m Memory) enough() uint64 { return m.low() / 2 * 3 }

// Short judges the machine's memory; was tells whether it was short before.
func (m Memory) Short(was bool) Condition {
	if m.Available >= m.low() && (!was || m.Available >= m.enough()) {
		return Condition{Type: MemoryShort, Reason: "MemoryAvailable", Message: "there is memory"}
	}
	return Condition{Type: MemoryShort, True: true, Reason: "MemoryShort", Message: fmt.Sprintf(
		"less than %s of memory is available (of %s): stop machines, pods or programs that are not needed, or give the box more; below %s the kubelet ends pods, "+
			"those first that use more than they asked for; this ends by itself at %s", size(m.low()), size(m.Total), size(EvictionMemory), size(m.enough()))}
}
