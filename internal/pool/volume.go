// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/loopdev"
)

// Spec is what Create makes.
type Spec struct {
	// ID is the new volume's, see the function ID.
	ID string
	// Size is the least that it must have, in bytes; 0 takes the source's size or,
	// for a blank one, the smallest. Limit, if any, is the most.
	Size, Limit int64
	// FSType is ext4 or xfs for a blank volume that gets a file system, empty for a
	// block volume. A volume that has a source has what is in there.
	FSType string
	// Source is a volume to clone or a snapshot to restore.
	Source Source
}

// smallest is the least size of a volume, in bytes.
func smallest(fsType string) int64 {
	switch fsType {
	case "xfs":
		return MinPool
	case "ext4":
		return 16 * unit
	}
	return unit
}

// size is what a volume gets: as asked, in whole units, not less than possible.
func (s Spec) size(source int64) (int64, error) {
	least := max(smallest(s.FSType), source)
	if s.Source == (Source{}) {
		least = smallest(s.FSType)
	}
	switch {
	case s.Size < 0 || s.Limit < 0:
		return 0, fmt.Errorf("size %d, limit %d: %w: must not be negative", s.Size, s.Limit, ErrSize)
	case s.Size > MaxVolume:
		return 0, fmt.Errorf("size %s: %w: must be at most %s", Bytes(s.Size), ErrSize, Bytes(MaxVolume))
	case s.Size != 0 && s.Size < source:
		return 0, fmt.Errorf("size %s: %w: must be at least %s, as its source is that large", Bytes(s.Size), ErrSize, Bytes(source))
	}
	size := max((s.Size+unit-1)/unit*unit, least)
	if s.Limit != 0 && size > s.Limit {
		return 0, fmt.Errorf("limit %s: %w: must be at least %s", Bytes(s.Limit), ErrSize, Bytes(size))
	}
	return size, nil
}

// matches tells whether a volume that is there is what was asked for.
func (s Spec) matches(v Volume) error {
	switch {
	case v.Source != s.Source:
		return fmt.Errorf("volume %s: %w: it was made of %+v, not of %+v", v.ID, ErrExists, v.Source, s.Source)
	case s.Source == (Source{}) && v.FSType != s.FSType:
		return fmt.Errorf("volume %s: %w: its file system is %q, not %q", v.ID, ErrExists, v.FSType, s.FSType)
	case v.Size < s.Size || s.Limit != 0 && v.Size > s.Limit:
		return fmt.Errorf("volume %s: %w: it has %s", v.ID, ErrExists, Bytes(v.Size))
	}
	return nil
}

// begin marks a volume or snapshot as being worked on and takes the space for it.
func (p *Pool) begin(kind, id string, want int64) (end func(), err error) {
	if err := Validate(id); err != nil {
		return nil, err
	}
	key := kind + "/" + id
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.busy[key]; ok {
		return nil, fmt.Errorf("%s: %w", key, ErrBusy)
	}
	if want > 0 {
		s, err := p.space()
		if err != nil {
			return nil, err
		}
		if err := s.admit(want); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	p.busy[key] = want
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.busy, key)
	}, nil
}

// Create makes a volume: blank, as a clone of another or from a snapshot. One that
// is there already and fits is returned as it is.
func (p *Pool) Create(ctx context.Context, s Spec) (Volume, error) {
	if err := Validate(s.ID); err != nil {
		return Volume{}, err
	}
	if v, err := p.Get(s.ID); err == nil {
		return v, s.matches(v)
	}
	src, srcDir, err := p.source(s.Source)
	if err != nil {
		return Volume{}, err
	}
	fsType := s.FSType
	if srcDir != "" {
		fsType = src.FSType
		s.FSType = ""
	}
	size, err := s.size(src.Size)
	if err != nil {
		return Volume{}, fmt.Errorf("volume %s: %w", s.ID, err)
	}
	end, err := p.begin(volumesDir, s.ID, size)
	if err != nil {
		return Volume{}, err
	}
	defer end()
	if v, err := p.Get(s.ID); err == nil {
		return v, s.matches(v) // made between the first look and begin
	}
	return p.make(ctx, volumesDir, s.ID, meta{FSType: fsType, Source: s.Source}, func(data *os.File) error {
		if srcDir != "" {
			if err := p.copy(ctx, data, s.Source.Volume, srcDir); err != nil {
				return err
			}
		}
		if err := data.Truncate(size); err != nil {
			return err
		}
		if s.FSType == "" {
			return nil
		}
		if err := failpoint.Hit(ctx, "pool.volume.before-mkfs"); err != nil {
			return err
		}
		if err := mkfs(ctx, s.FSType, data.Name()); err != nil {
			return err
		}
		return dropUnwritten(data)
	})
}

// source finds what a volume is to be made of; dir is empty for a blank one.
func (p *Pool) source(s Source) (v Volume, dir string, err error) {
	switch {
	case s.Volume != "" && s.Snapshot != "":
		return v, "", fmt.Errorf("source %+v: %w: must be one of volume and snapshot", s, ErrInvalid)
	case s.Volume != "":
		v, err = p.Get(s.Volume)
		dir = p.mnt(volumesDir, s.Volume)
	case s.Snapshot != "":
		v, err = p.GetSnapshot(s.Snapshot)
		dir = p.mnt(snapshotsDir, s.Snapshot)
	}
	return v, dir, err
}

// Snapshot makes a snapshot of a volume. One that is there already is returned.
func (p *Pool) Snapshot(ctx context.Context, id, volume string) (Volume, error) {
	if err := Validate(id); err != nil {
		return Volume{}, err
	}
	fits := func(v Volume) error {
		if v.Source.Volume != volume {
			return fmt.Errorf("snapshot %s: %w: it is of volume %s", id, ErrExists, v.Source.Volume)
		}
		return nil
	}
	if v, err := p.GetSnapshot(id); err == nil {
		return v, fits(v)
	}
	src, srcDir, err := p.source(Source{Volume: volume})
	if err != nil {
		return Volume{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(srcDir, dataFile), &st); err != nil {
		return Volume{}, fmt.Errorf("volume %s: %w", volume, err)
	}
	// A running volume may grow a little until it is copied; what is really free
	// has room for that.
	end, err := p.begin(snapshotsDir, id, max(st.Blocks*512, unit))
	if err != nil {
		return Volume{}, err
	}
	defer end()
	if v, err := p.GetSnapshot(id); err == nil {
		return v, fits(v)
	}
	m := meta{FSType: src.FSType, Source: Source{Volume: volume}, Allocated: st.Blocks * 512}
	return p.make(ctx, snapshotsDir, id, m, func(data *os.File) error { return p.copy(ctx, data, volume, srcDir) })
}

// make fills a directory in tmp, syncs it and gives it its name.
func (p *Pool) make(ctx context.Context, kind, id string, m meta, fill func(data *os.File) error) (v Volume, err error) {
	tmp := p.mnt(tmpDir, kind+"-"+id)
	// A failed attempt of this process may have left it.
	if err := os.RemoveAll(tmp); err != nil {
		return v, err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return v, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make %s/%s: %w", kind, id, err), os.RemoveAll(tmp))
		}
	}()
	data, err := os.OpenFile(filepath.Join(tmp, dataFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return v, err
	}
	defer data.Close()
	if err := failpoint.Hit(ctx, "pool.volume.before-fill"); err != nil {
		return v, err
	}
	if err := fill(data); err != nil {
		return v, err
	}
	if err := failpoint.Hit(ctx, "pool.volume.before-meta"); err != nil {
		return v, err
	}
	m.Version, m.Created = metaVersion, time.Now().UTC()
	b, err := json.Marshal(m)
	if err != nil {
		return v, err
	}
	if err := os.WriteFile(filepath.Join(tmp, metaFile), b, 0o600); err != nil {
		return v, err
	}
	if err := errors.Join(data.Sync(), syncDir(filepath.Join(tmp, metaFile)), syncDir(tmp)); err != nil {
		return v, err
	}
	if err := failpoint.Hit(ctx, "pool.volume.before-rename"); err != nil {
		return v, err
	}
	to := p.mnt(kind, id)
	if err := os.Rename(tmp, to); err != nil {
		return v, err
	}
	if err := syncDir(p.mnt(kind)); err != nil {
		return v, err
	}
	if err := failpoint.Hit(ctx, "pool.volume.after-rename"); err != nil {
		return v, err
	}
	if v, err = readOne(to); err != nil {
		return v, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kind(kind)[id] = v
	return v, nil
}

func (p *Pool) kind(kind string) map[string]Volume {
	if kind == snapshotsDir {
		return p.snapshots
	}
	return p.volumes
}

// copy has data share all that a source's file has. What the kernel or the
// Quiescer holds of a volume that is in use is written out before.
func (p *Pool) copy(ctx context.Context, data *os.File, volume, srcDir string) error {
	src, err := os.Open(filepath.Join(srcDir, dataFile))
	if err != nil {
		return err
	}
	defer src.Close()
	if volume != "" {
		release, err := p.quiet(ctx, volume)
		if err != nil {
			return err
		}
		defer release()
	}
	if err := failpoint.Hit(ctx, "pool.volume.before-clone"); err != nil {
		return err
	}
	if err := unix.IoctlFileClone(int(data.Fd()), int(src.Fd())); err != nil {
		return fmt.Errorf("share the blocks of %s: %w", srcDir, err)
	}
	return nil
}

// quiet brings what was written to an attached volume into its file.
func (p *Pool) quiet(ctx context.Context, volume string) (release func(), err error) {
	dev, ok, err := loopdev.Find(p.mnt(volumesDir, volume, dataFile))
	if err != nil {
		return nil, err
	}
	if !ok {
		return func() {}, nil
	}
	release = func() {}
	if p.cfg.Quiescer != nil {
		if release, err = p.cfg.Quiescer.Quiesce(ctx, volume); err != nil {
			return nil, fmt.Errorf("have volume %s stand still: %w", volume, err)
		}
	}
	if err := flush(dev); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// flush syncs the file system on a device, if it is mounted, and the device.
func flush(dev loopdev.Device) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	number := fmt.Sprintf("7:%d", dev.Number)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[2] != number {
			continue
		}
		// One mount is as good as the other, and one that cannot be opened may be
		// hidden under another.
		if d, err := os.Open(strings.ReplaceAll(f[4], `\040`, " ")); err == nil {
			err = unix.Syncfs(int(d.Fd()))
			d.Close()
			if err != nil {
				return fmt.Errorf("sync %s: %w", f[4], err)
			}
		}
	}
	d, err := os.Open(dev.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Expand grows a volume to at least size bytes, also while it is in use: its loop
// device, if it has one, shows the new size. A file system in it is grown by
// whoever has it mounted (GrowMounted).
func (p *Pool) Expand(ctx context.Context, id string, size, limit int64) (Volume, error) {
	v, err := p.Get(id)
	if err != nil {
		return v, err
	}
	if size > MaxVolume || size < 0 {
		return v, fmt.Errorf("volume %s: size %d: %w: must be at most %s", id, size, ErrSize, Bytes(MaxVolume))
	}
	size = (size + unit - 1) / unit * unit
	if limit != 0 && max(size, v.Size) > limit {
		return v, fmt.Errorf("volume %s: limit %s: %w: must be at least %s", id, Bytes(limit), ErrSize, Bytes(max(size, v.Size)))
	}
	end, err := p.begin(volumesDir, id, max(0, size-v.Size))
	if err != nil {
		return v, err
	}
	defer end()
	file := p.mnt(volumesDir, id, dataFile)
	if size > v.Size {
		if err := failpoint.Hit(ctx, "pool.volume.before-expand"); err != nil {
			return v, err
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			return v, err
		}
		defer f.Close()
		if err := errors.Join(f.Truncate(size), f.Sync()); err != nil {
			return v, fmt.Errorf("grow volume %s: %w", id, err)
		}
	}
	if err := failpoint.Hit(ctx, "pool.volume.before-resize-loop"); err != nil {
		return v, err
	}
	dev, ok, err := loopdev.Find(file)
	if err != nil {
		return v, err
	}
	if ok {
		if err := loopdev.Resize(dev); err != nil {
			return v, err
		}
	}
	if v, err = readOne(p.mnt(volumesDir, id)); err != nil {
		return v, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.volumes[id] = v
	return v, nil
}

// Delete takes a volume away. One that is not there is no error; one that is
// attached is refused.
func (p *Pool) Delete(ctx context.Context, id string) error { return p.remove(ctx, volumesDir, id) }

// DeleteSnapshot takes a snapshot away. What was restored from it stays.
func (p *Pool) DeleteSnapshot(ctx context.Context, id string) error {
	return p.remove(ctx, snapshotsDir, id)
}

func (p *Pool) remove(ctx context.Context, kind, id string) error {
	if Validate(id) != nil {
		return nil // it cannot be there
	}
	end, err := p.begin(kind, id, 0)
	if err != nil {
		return err
	}
	defer end()
	dir, gone := p.mnt(kind, id), p.mnt(tmpDir, "deleted-"+kind+"-"+id)
	if there, err := exists(dir); err != nil || !there {
		return err
	}
	if err := p.hide(ctx, kind, id, dir, gone); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "pool.volume.after-delete"); err != nil {
		return err
	}
	// This takes a while for a large fragmented file, and may be cut short.
	return os.RemoveAll(gone)
}

// hide takes the name away from what nobody has attached.
func (p *Pool) hide(ctx context.Context, kind, id, dir, gone string) error {
	p.loops.Lock()
	defer p.loops.Unlock()
	dev, attached, err := loopdev.Find(filepath.Join(dir, dataFile))
	if err != nil {
		return err
	}
	if attached {
		return fmt.Errorf("%s/%s: %w: it is attached to %s", kind, id, ErrInUse, dev.Path)
	}
	if err := failpoint.Hit(ctx, "pool.volume.before-delete"); err != nil {
		return err
	}
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.kind(kind), id)
	p.mu.Unlock()
	return syncDir(p.mnt(kind))
}

// Attach makes a block device of a volume and returns it; a second call returns
// the same.
func (p *Pool) Attach(ctx context.Context, id string) (loopdev.Device, error) {
	if _, err := p.Get(id); err != nil {
		return loopdev.Device{}, err
	}
	p.loops.Lock()
	defer p.loops.Unlock()
	if err := failpoint.Hit(ctx, "pool.volume.before-attach"); err != nil {
		return loopdev.Device{}, err
	}
	d, err := loopdev.Attach(ctx, p.mnt(volumesDir, id, dataFile), loopdev.Options{Name: p.loopName(id)})
	if err != nil {
		return d, fmt.Errorf("volume %s: %w", id, err)
	}
	// A process that was killed in Expand may have left it with the old size.
	return d, loopdev.Resize(d)
}

// Attached returns a volume's device, if it has one.
func (p *Pool) Attached(id string) (loopdev.Device, bool, error) {
	if _, err := p.Get(id); err != nil {
		return loopdev.Device{}, false, err
	}
	return loopdev.Find(p.mnt(volumesDir, id, dataFile))
}

// Detach takes a volume's device away, when nobody uses it any more.
func (p *Pool) Detach(ctx context.Context, id string) error {
	p.loops.Lock()
	defer p.loops.Unlock()
	d, ok, err := p.Attached(id)
	if errors.Is(err, ErrNotFound) || err == nil && !ok {
		return nil
	}
	if err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "pool.volume.before-detach"); err != nil {
		return err
	}
	return loopdev.Detach(ctx, d)
}

func (p *Pool) list(in map[string]Volume) []Volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.Collect(maps.Values(in))
	slices.SortFunc(all, func(a, b Volume) int { return strings.Compare(a.ID, b.ID) })
	return all
}
