// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/loopdev"
)

// Kinds of errors, for errors.Is.
var (
	ErrNotFound = errors.New("not in the pool")
	ErrExists   = errors.New("exists with other properties")
	ErrBusy     = errors.New("another operation on it is going on")
	ErrInUse    = errors.New("in use")
	ErrNoSpace  = errors.New("no space in the pool")
	ErrInvalid  = errors.New("not valid")
	// ErrSize is the ErrInvalid of a size or limit that cannot be had.
	ErrSize = fmt.Errorf("size is %w", ErrInvalid)
)

const (
	// MinPool is the smallest that mkfs.xfs makes, in bytes.
	MinPool = 300 << 20
	// unit is what sizes are multiples of, in bytes.
	unit = 1 << 20
	// MaxVolume bounds a volume's size, in bytes: XFS's files end at 8 EiB.
	MaxVolume = 1 << 60
	// mkfsLimit bounds one run of mkfs.
	mkfsLimit = 2 * time.Minute
)

// Quiescer is asked before an attached volume is copied.
type Quiescer interface {
	// Quiesce has the volume's file stand still, all that was acknowledged in it,
	// until release is called. It may do nothing.
	Quiesce(ctx context.Context, volume string) (release func(), err error)
}

// Config is what Open wants to know.
type Config struct {
	// Dir is the pool's directory.
	Dir string
	// Size is what the pool's file should have, in bytes. A pool that is larger
	// stays as it is.
	Size int64
	// Limits say what is refused.
	Limits Limits
	// Quiescer may be nil.
	Quiescer Quiescer
}

// Source is what a volume or snapshot was made of.
type Source struct {
	Volume   string `json:"volume,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
}

// meta is a meta.json. It never changes.
type meta struct {
	Version int       `json:"version"`
	Created time.Time `json:"created"`
	// FSType is the file system that was made on a blank volume; empty: none.
	FSType string `json:"fsType,omitempty"`
	Source Source `json:"source"`
	// Allocated is what a snapshot's source had allocated, in bytes: the most that
	// the snapshot alone can keep from being free.
	Allocated int64 `json:"allocated,omitempty"`
}

const metaVersion = 1

// Volume is a volume or a snapshot.
type Volume struct {
	ID      string
	Size    int64 // bytes
	FSType  string
	Source  Source
	Created time.Time
	// promised is what the pool must be able to hold for it, in bytes.
	promised int64
}

// Pool is an open pool. Its methods may be called at the same time.
type Pool struct {
	cfg Config
	tag string // of its loop devices
	dev loopdev.Device

	mu        sync.Mutex
	volumes   map[string]Volume
	snapshots map[string]Volume
	busy      map[string]int64 // by kind/id: bytes promised to it meanwhile
	loops     sync.Mutex       // attaching and detaching, which must see each other's work
}

func (p *Pool) mnt(elem ...string) string {
	return filepath.Join(append([]string{p.cfg.Dir, "mnt"}, elem...)...)
}

const (
	volumesDir   = "volumes"
	snapshotsDir = "snapshots"
	tmpDir       = "tmp"
	dataFile     = "data"
	metaFile     = "meta.json"
)

// Tag is how the names of a pool's loop devices begin.
func Tag(dir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dir)))
	return "skerry-pool/" + hex.EncodeToString(sum[:6]) + "/"
}

// loopName names a device so that it fits: long IDs are cut, as the file counts.
func (p *Pool) loopName(id string) string {
	name := p.tag + id
	return name[:min(len(name), unix.LO_NAME_SIZE-1)]
}

// Open makes the pool where there is none, goes on where a start was cut short,
// grows it if a larger one is wanted, and takes away what was left half made.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if err := cfg.Limits.complete(); err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, tag: Tag(cfg.Dir), busy: map[string]int64{}}
	if err := os.MkdirAll(p.mnt(), 0o700); err != nil {
		return nil, err
	}
	if err := p.ensureImage(ctx); err != nil {
		return nil, fmt.Errorf("storage pool in %s: %w", cfg.Dir, err)
	}
	if err := p.ensureMount(ctx); err != nil {
		return nil, fmt.Errorf("storage pool in %s: %w", cfg.Dir, err)
	}
	if err := p.load(ctx); err != nil {
		return nil, fmt.Errorf("storage pool in %s: %w", cfg.Dir, err)
	}
	return p, nil
}

// load clears tmp and reads what there is.
func (p *Pool) load(ctx context.Context) error {
	for _, d := range []string{volumesDir, snapshotsDir, tmpDir} {
		if err := os.MkdirAll(p.mnt(d), 0o700); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(ctx, "pool.open.before-collect"); err != nil {
		return err
	}
	left, err := os.ReadDir(p.mnt(tmpDir))
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(p.mnt(tmpDir, e.Name())); err != nil {
			return err
		}
	}
	if p.volumes, err = read(p.mnt(volumesDir)); err != nil {
		return err
	}
	p.snapshots, err = read(p.mnt(snapshotsDir))
	return err
}

// read reads all volumes or snapshots in a directory.
func read(dir string) (map[string]Volume, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Volume, len(entries))
	for _, e := range entries {
		v, err := readOne(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		all[v.ID] = v
	}
	return all, nil
}

func readOne(dir string) (Volume, error) {
	v := Volume{ID: filepath.Base(dir)}
	f, err := os.Open(filepath.Join(dir, metaFile))
	if err != nil {
		return v, err
	}
	defer f.Close()
	var m meta
	if err := json.NewDecoder(io.LimitReader(f, 1<<16)).Decode(&m); err != nil {
		return v, fmt.Errorf("%s is damaged: %w", f.Name(), err)
	}
	if m.Version != metaVersion {
		return v, fmt.Errorf("%s: version %d was written by a newer Skerry: this one reads version %d", f.Name(), m.Version, metaVersion)
	}
	st, err := os.Stat(filepath.Join(dir, dataFile))
	if err != nil {
		return v, err
	}
	v.Size, v.FSType, v.Source, v.Created, v.promised = st.Size(), m.FSType, m.Source, m.Created, st.Size()
	if filepath.Base(filepath.Dir(dir)) == snapshotsDir {
		v.promised = m.Allocated
	}
	return v, nil
}

// Close unmounts the pool and detaches it. Volumes must be detached before. The
// end of a process needs no Close: all is found again.
func (p *Pool) Close(ctx context.Context) error {
	if err := unix.Unmount(p.mnt(), unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", p.mnt(), err)
	}
	return loopdev.Detach(ctx, p.dev)
}

// DetachAll detaches every loop device of the pool in dir, volumes first, whether
// the pool can be opened or not, and what others, such as the kubelet, have put on
// top of them. Nothing of it may be mounted any more.
func DetachAll(ctx context.Context, dir string) error {
	all, err := loopdev.List()
	if err != nil {
		return err
	}
	tag := Tag(dir)
	var top, volumes, own []loopdev.Device
	for _, d := range all {
		if !strings.HasPrefix(d.Name, tag) {
			continue
		}
		if d.Name == tag+poolName {
			own = append(own, d)
		} else {
			volumes = append(volumes, d)
		}
		var st unix.Stat_t
		if err := unix.Stat(d.Path, &st); err != nil {
			return fmt.Errorf("stat %s: %w", d.Path, err)
		}
		for _, t := range all {
			if t.Dev == st.Dev && t.Inode == st.Ino {
				top = append(top, t)
			}
		}
	}
	var errs []error
	for _, d := range slices.Concat(top, volumes, own) {
		errs = append(errs, loopdev.Detach(ctx, d))
	}
	return errors.Join(errs...)
}

var idPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$`)

// Validate tells whether an ID is one that ID could have made.
func Validate(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("ID %q: %w: must be 1 to 128 small letters, digits, '-' or '.', beginning and ending with a letter or digit", id, ErrInvalid)
	}
	return nil
}

// ID makes an ID of any name, always the same: the name itself where it can be one.
func ID(name string) string {
	const hashed = "h-"
	if idPattern.MatchString(name) && name[:min(len(name), 2)] != hashed {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hashed + hex.EncodeToString(sum[:16])
}

// Get returns a volume.
func (p *Pool) Get(id string) (Volume, error) { return p.get(p.volumes, "volume", id) }

// GetSnapshot returns a snapshot.
func (p *Pool) GetSnapshot(id string) (Volume, error) { return p.get(p.snapshots, "snapshot", id) }

func (p *Pool) get(in map[string]Volume, kind, id string) (Volume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := in[id]
	if !ok {
		return v, fmt.Errorf("%s %s: %w", kind, id, ErrNotFound)
	}
	return v, nil
}

// List returns all volumes, by ID.
func (p *Pool) List() []Volume { return p.list(p.volumes) }

// ListSnapshots returns all snapshots, by ID.
func (p *Pool) ListSnapshots() []Volume { return p.list(p.snapshots) }

// syncDir makes a rename in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
