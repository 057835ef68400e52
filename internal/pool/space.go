// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits say what the pool promises. Zero fields take the defaults.
type Limits struct {
	// Overcommit is how many times its space the pool promises to volumes and
	// snapshots together. With 1, no volume can ever find the pool full.
	Overcommit float64
	// RefuseAt is the share of the pool, in use, from which on nothing new is made.
	RefuseAt float64
	// WarnAt is the share of the pool, in use, from which on it warns.
	WarnAt float64
}

// Defaults of Limits. Copies share most of what they have, so a pool that promised
// its space once only would be full on paper long before it is.
const (
	DefaultOvercommit = 4
	DefaultRefuseAt   = 0.90
	DefaultWarnAt     = 0.75
)

func (l *Limits) complete() error {
	def := func(p *float64, v float64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.Overcommit, DefaultOvercommit)
	def(&l.RefuseAt, DefaultRefuseAt)
	def(&l.WarnAt, DefaultWarnAt)
	switch {
	case l.Overcommit < 1 || l.Overcommit > 1000:
		return fmt.Errorf("pool overcommit %g: %w: must be 1 to 1000", l.Overcommit, ErrInvalid)
	case l.RefuseAt < 0.1 || l.RefuseAt > 1:
		return fmt.Errorf("pool refuses at %g: %w: must be 0.1 to 1", l.RefuseAt, ErrInvalid)
	case l.WarnAt < 0.1 || l.WarnAt > l.RefuseAt:
		return fmt.Errorf("pool warns at %g: %w: must be 0.1 to %g, from where on it refuses", l.WarnAt, ErrInvalid, l.RefuseAt)
	}
	return nil
}

// Space is how full a pool is, in bytes.
type Space struct {
	// Size is what the file system can hold, Used what it does.
	Size, Used int64
	// Promised is what all volumes and snapshots may grow to together, and Limit
	// what that may be at most.
	Promised, Limit int64
	// Available is the size of the largest volume that can be made.
	Available int64
	// Volumes and Snapshots count them.
	Volumes, Snapshots int
	// Warning is what a person should know and do; empty: all is well.
	Warning string
}

// space is the decision: what may still be made.
func (l Limits) space(size, used, promised int64) Space {
	s := Space{Size: size, Used: used, Promised: promised, Limit: int64(float64(size) * l.Overcommit)}
	share := float64(used) / float64(max(size, 1))
	if share < l.RefuseAt {
		s.Available = max(0, s.Limit-promised) / unit * unit
	}
	switch {
	case share >= l.RefuseAt:
		s.Warning = fmt.Sprintf("%s of %s are in use: nothing new is made from %.0f%% on; delete volumes or snapshots, or grow the pool (skerry up --pool-size)", Bytes(used), Bytes(size), l.RefuseAt*100)
	case share >= l.WarnAt:
		s.Warning = fmt.Sprintf("%s of %s are in use: from %.0f%% on nothing new will be made; delete volumes or snapshots, or grow the pool (skerry up --pool-size)", Bytes(used), Bytes(size), l.RefuseAt*100)
	}
	return s
}

// admit tells why something that wants so many bytes may not be made.
func (s Space) admit(want int64) error {
	if want <= s.Available {
		return nil
	}
	if s.Available == 0 && s.Warning != "" {
		return fmt.Errorf("%w: %s", ErrNoSpace, s.Warning)
	}
	return fmt.Errorf("%w: %s are wanted, and at most %s can be had: %s of the %s that it promises are given away; delete volumes or snapshots, or grow the pool (skerry up --pool-size)",
		ErrNoSpace, Bytes(want), Bytes(s.Available), Bytes(s.Promised), Bytes(s.Limit))
}

// Space tells how full the pool is.
func (p *Pool) Space() (Space, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.space()
}

func (p *Pool) space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p.mnt(), &st); err != nil {
		return Space{}, fmt.Errorf("ask the pool for its space: %w", err)
	}
	var promised int64
	for _, v := range p.volumes {
		promised += v.promised
	}
	for _, v := range p.snapshots {
		promised += v.promised
	}
	for _, b := range p.busy {
		promised += b
	}
	bs := int64(st.Bsize)
	s := p.cfg.Limits.space(int64(st.Blocks)*bs, int64(st.Blocks-st.Bfree)*bs, promised)
	s.Volumes, s.Snapshots = len(p.volumes), len(p.snapshots)
	return s, nil
}

// Bytes is a size in bytes, written for people.
type Bytes int64

func (b Bytes) String() string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if int64(b) >= u.size {
			return fmt.Sprintf("%.4g %s", float64(b)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", int64(b))
}
