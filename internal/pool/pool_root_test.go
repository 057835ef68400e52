// SPDX-License-Identifier: Apache-2.0

//go:build root

package pool

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/loopdev"
)

const testSize = 320 << 20

// newPool opens a pool that is taken away at the end, whatever is attached.
func newPool(t *testing.T, cfg Config) *Pool {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "pool")
	}
	if cfg.Size == 0 {
		cfg.Size = testSize
	}
	t.Cleanup(func() { removePool(t, cfg.Dir) })
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func removePool(t *testing.T, dir string) {
	t.Helper()
	_ = unix.Unmount(filepath.Join(dir, "mnt"), unix.MNT_DETACH)
	// A device that a failed test left open must not hold up the others.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := DetachAll(ctx, dir); err != nil {
		t.Error(err)
	}
	all, err := loopdev.List()
	if err != nil {
		t.Error(err)
	}
	for _, d := range all {
		if strings.HasPrefix(d.Name, Tag(dir)) {
			t.Errorf("%s is left", d.Path)
		}
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// write fills the first n bytes of a volume, through its device, with one byte.
func write(t *testing.T, p *Pool, id string, b byte, n int) {
	t.Helper()
	d := must(p.Attach(t.Context(), id))(t)
	f := must(os.OpenFile(d.Path, os.O_WRONLY, 0))(t)
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{b}, n), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func first(t *testing.T, p *Pool, kind, id string, n int) byte {
	t.Helper()
	b := make([]byte, n)
	f := must(os.Open(p.mnt(kind, id, dataFile)))(t)
	defer f.Close()
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, bytes.Repeat(b[:1], n)) {
		t.Fatalf("%s/%s: the first %d bytes are not all %d", kind, id, n, b[0])
	}
	return b[0]
}

func deviceBytes(t *testing.T, d loopdev.Device) int64 {
	t.Helper()
	return int64(must(deviceSize(d.Rdev()))(t))
}

func TestLifeOfABlockVolume(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newPool(t, Config{})
	const written = 8 << 20
	spec := Spec{ID: "a", Size: 64 << 20}
	v := must(p.Create(ctx, spec))(t)
	if v.Size != 64<<20 {
		t.Errorf("size %d", v.Size)
	}
	if again := must(p.Create(ctx, spec))(t); again != v {
		t.Errorf("made again: %+v, want %+v", again, v)
	}
	if _, err := p.Create(ctx, Spec{ID: "a", Size: 65 << 20}); !errors.Is(err, ErrExists) {
		t.Errorf("made with another size: %v", err)
	}
	if _, err := p.Create(ctx, Spec{ID: "a", Size: 64 << 20, FSType: "ext4"}); !errors.Is(err, ErrExists) {
		t.Errorf("made with another file system: %v", err)
	}
	write(t, p, "a", 1, written)

	// A clone of a volume that is in use.
	must(p.Create(ctx, Spec{ID: "clone", Source: Source{Volume: "a"}, Size: 80 << 20}))(t)
	if got := first(t, p, volumesDir, "clone", written); got != 1 {
		t.Errorf("the clone has %d", got)
	}
	f := must(os.Open(p.mnt(volumesDir, "clone", dataFile)))(t)
	u := must(FileUsage(f))(t)
	f.Close()
	if u.Bytes < written || u.Shared != u.Bytes {
		t.Errorf("the clone shares %d of %d bytes, at least %d were written", u.Shared, u.Bytes, written)
	}

	s := must(p.Snapshot(ctx, "s", "a"))(t)
	if again := must(p.Snapshot(ctx, "s", "a"))(t); again != s {
		t.Errorf("taken again: %+v, want %+v", again, s)
	}
	if _, err := p.Snapshot(ctx, "s", "clone"); !errors.Is(err, ErrExists) {
		t.Errorf("the same name for another volume: %v", err)
	}
	write(t, p, "a", 2, written)
	must(p.Create(ctx, Spec{ID: "restored", Source: Source{Snapshot: "s"}}))(t)
	for id, want := range map[string]byte{"a": 2, "clone": 1, "restored": 1} {
		if got := first(t, p, volumesDir, id, written); got != want {
			t.Errorf("%s has %d, want %d", id, got, want)
		}
	}

	d := must(p.Attach(ctx, "a"))(t)
	must(p.Expand(ctx, "a", 100<<20, 0))(t)
	if got := deviceBytes(t, d); got != 100<<20 {
		t.Errorf("the device has %d bytes after it was grown under its users", got)
	}
	if v := must(p.Expand(ctx, "a", 1, 0))(t); v.Size != 100<<20 {
		t.Errorf("it shrank to %d", v.Size)
	}
	if _, err := p.Expand(ctx, "a", 1, 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("grown beyond its limit: %v", err)
	}

	// What is discarded is given back.
	before := must(p.Space())(t).Used
	discard(t, d.Path, written)
	if after := must(p.Space())(t).Used; before-after < written/2 {
		t.Errorf("%d bytes in use before the discard, %d after it", before, after)
	}
	assertAllocated(t, p)

	if err := p.Delete(ctx, "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("deleted while attached: %v", err)
	}
	for range 2 {
		if err := errors.Join(p.Detach(ctx, "a"), p.Delete(ctx, "a"), p.DeleteSnapshot(ctx, "s"), p.Delete(ctx, "clone"), p.Delete(ctx, "../..")); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Get("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after it was deleted: %v", err)
	}
	// The restored volume stands for itself.
	if got := first(t, p, volumesDir, "restored", written); got != 1 {
		t.Errorf("restored: %d", got)
	}
	if got := p.List(); len(got) != 1 || got[0].ID != "restored" {
		t.Errorf("left: %+v", got)
	}
}

// discard gives the first n bytes of a device back, as a guest or a file system does.
func discard(t *testing.T, device string, n int64) {
	t.Helper()
	w := must(os.OpenFile(device, os.O_WRONLY, 0))(t)
	defer w.Close()
	for {
		err := unix.Fallocate(int(w.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n)
		if err == nil {
			return
		}
		// The kernel says so while somebody else, such as udev, looks at the device.
		if !errors.Is(err, unix.EBUSY) || t.Context().Err() != nil {
			t.Fatalf("discard on %s: %v", device, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// assertAllocated: the pool's file on the host is not sparse.
func assertAllocated(t *testing.T, p *Pool) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(p.image(), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 < st.Size {
		t.Errorf("%d of %d bytes of the pool's file are allocated", st.Blocks*512, st.Size)
	}
}

func TestFileSystemsGrowWhileMounted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newPool(t, Config{Limits: Limits{Overcommit: 10}})
	for fsType, opts := range map[string]string{"ext4": "", "xfs": "nouuid"} {
		v := must(p.Create(ctx, Spec{ID: fsType, Size: 32 << 20, FSType: fsType}))(t)
		var st unix.Stat_t
		if err := unix.Stat(p.mnt(volumesDir, fsType, dataFile), &st); err != nil || st.Blocks*512 > 16<<20 {
			t.Errorf("a blank %s has %d bytes: %v", fsType, st.Blocks*512, err)
		}
		must(p.Create(ctx, Spec{ID: fsType + "2", Source: Source{Volume: fsType}}))(t)
		for _, id := range []string{fsType, fsType + "2"} {
			mnt := t.TempDir()
			d := must(p.Attach(ctx, id))(t)
			if err := unix.Mount(d.Path, mnt, fsType, 0, opts); err != nil {
				t.Fatalf("mount %s: %v", id, err)
			}
			t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
			if err := os.WriteFile(filepath.Join(mnt, "file"), []byte(id), 0o600); err != nil {
				t.Fatal(err)
			}
			var before, after unix.Statfs_t
			_ = unix.Statfs(mnt, &before)
			must(p.Expand(ctx, id, v.Size+64<<20, 0))(t)
			if err := GrowMounted(mnt); errors.Is(err, ErrOffline) {
				if err := errors.Join(unix.Unmount(mnt, 0), GrowUnmounted(ctx, d.Path), unix.Mount(d.Path, mnt, fsType, 0, opts)); err != nil {
					t.Fatal(err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if err := GrowMounted(mnt); err != nil {
				t.Errorf("grown once more: %v", err)
			}
			_ = unix.Statfs(mnt, &after)
			if grown := int64(after.Blocks-before.Blocks) * after.Bsize; grown < 32<<20 {
				t.Errorf("%s grew by %d", id, grown)
			}
		}
		// What was written to a mounted volume a moment ago is in its snapshot.
		must(p.Snapshot(ctx, "s-"+fsType, fsType))(t)
		must(p.Create(ctx, Spec{ID: fsType + "3", Source: Source{Snapshot: "s-" + fsType}}))(t)
		mnt := t.TempDir()
		d := must(p.Attach(ctx, fsType+"3"))(t)
		if err := unix.Mount(d.Path, mnt, fsType, 0, opts); err != nil {
			t.Fatalf("mount %s: %v", fsType+"3", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
		if b, err := os.ReadFile(filepath.Join(mnt, "file")); string(b) != fsType {
			t.Errorf("the snapshot's file has %q, %v", b, err)
		}
	}
}

func TestOpenGoesOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "pool")
	// A start that was cut short while it made the file.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pool.img.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPool(t, Config{Dir: dir})
	must(p.Create(ctx, Spec{ID: "a", Size: 8 << 20}))(t)
	write(t, p, "a", 7, 1<<20)
	d := must(p.Attach(ctx, "a"))(t)
	was := must(p.Space())(t)
	// A volume that was half made, and one that was half deleted.
	for _, left := range []string{"volumes-b", "deleted-volumes-c"} {
		if err := os.MkdirAll(p.mnt(tmpDir, left), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	// The next process: all is as it was, and the pool grows under its users.
	again := newPool(t, Config{Dir: dir, Size: testSize + 100<<20})
	if got := must(again.Attach(ctx, "a"))(t); got != d {
		t.Errorf("attached to %+v, was %+v", got, d)
	}
	if got := first(t, again, volumesDir, "a", 1<<20); got != 7 {
		t.Errorf("its data is %d", got)
	}
	if got := again.List(); len(got) != 1 {
		t.Errorf("volumes: %+v", got)
	}
	if left := must(os.ReadDir(again.mnt(tmpDir)))(t); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	if now := must(again.Space())(t); now.Size < was.Size+90<<20 {
		t.Errorf("the pool has %d bytes, had %d", now.Size, was.Size)
	}
	assertAllocated(t, again)

	// After a power cut nothing is attached or mounted; a smaller size changes nothing.
	if err := errors.Join(again.Detach(ctx, "a"), again.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	third := newPool(t, Config{Dir: dir})
	if got := first(t, third, volumesDir, "a", 1<<20); got != 7 {
		t.Errorf("its data is %d", got)
	}
	if now := must(third.Space())(t); now.Size < was.Size+90<<20 {
		t.Errorf("the pool has shrunk to %d bytes, had %d", now.Size, was.Size)
	}
}

func TestPoolRefusesWhatItCannotHold(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newPool(t, Config{Limits: Limits{Overcommit: 2, RefuseAt: 0.5, WarnAt: 0.4}})
	s := must(p.Space())(t)
	if _, err := p.Create(ctx, Spec{ID: "large", Size: s.Available + 1}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("more than can be had: %v", err)
	}
	must(p.Create(ctx, Spec{ID: "most", Size: s.Available - 1<<20}))(t)
	if _, err := p.Create(ctx, Spec{ID: "more", Size: 2 << 20}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("beyond what is promised: %v", err)
	}
	if _, err := p.Expand(ctx, "most", s.Available+1<<20, 0); !errors.Is(err, ErrNoSpace) {
		t.Errorf("grown beyond what is promised: %v", err)
	}
	must(p.Create(ctx, Spec{ID: "last", Size: 1 << 20}))(t)
	if err := p.Delete(ctx, "last"); err != nil {
		t.Fatal(err)
	}
	write(t, p, "most", 1, int(s.Size/2))
	if s = must(p.Space())(t); s.Warning == "" || s.Available != 0 {
		t.Errorf("half full: %+v", s)
	}
	if _, err := p.Create(ctx, Spec{ID: "last", Size: 1 << 20}); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("in a full pool: %v", err)
	}
	if _, err := p.Snapshot(ctx, "s", "most"); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a snapshot in a full pool: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newPool(t, Config{Limits: Limits{Overcommit: 100}})
	must(p.Create(ctx, Spec{ID: "base", Size: 16 << 20}))(t)
	write(t, p, "base", 9, 4<<20)
	must(p.Snapshot(ctx, "s", "base"))(t)
	before := must(p.Space())(t).Used
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := "c" + string(rune('0'+i/10)) + string(rune('0'+i%10))
			if _, err := p.Create(ctx, Spec{ID: id, Source: Source{Snapshot: "s"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(p.List()); got != 101 {
		t.Errorf("%d volumes", got)
	}
	used := must(p.Space())(t).Used - before
	t.Logf("100 clones of 4 MiB use %s", Bytes(used))
	if used > 100<<20 {
		t.Errorf("100 clones of 4 MiB use %s", Bytes(used))
	}
}

type quiescer struct{ asked, released []string }

func (q *quiescer) Quiesce(_ context.Context, id string) (func(), error) {
	q.asked = append(q.asked, id)
	return func() { q.released = append(q.released, id) }, nil
}

func TestQuiescerIsAskedOfWhatIsInUse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	q := &quiescer{}
	p := newPool(t, Config{Quiescer: q})
	must(p.Create(ctx, Spec{ID: "a"}))(t)
	must(p.Snapshot(ctx, "quiet", "a"))(t)
	if len(q.asked) != 0 {
		t.Errorf("asked for a volume that nobody uses: %v", q.asked)
	}
	must(p.Attach(ctx, "a"))(t)
	must(p.Snapshot(ctx, "live", "a"))(t)
	must(p.Create(ctx, Spec{ID: "b", Source: Source{Volume: "a"}}))(t)
	if len(q.asked) != 2 || len(q.released) != 2 {
		t.Errorf("asked %v, released %v", q.asked, q.released)
	}
}
