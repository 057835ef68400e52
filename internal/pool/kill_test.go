// SPDX-License-Identifier: Apache-2.0

//go:build root && failpoints

package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/skerry-dev/skerry/internal/failpoint/arm"
)

// The child's environment: what to do, and where.
const childStep, childDir = "SKERRY_POOL_STEP", "SKERRY_POOL_DIR"

// steps are what a child does before it is killed at one of the places.
var steps = []struct {
	name   string
	do     func(ctx context.Context, p *Pool) error
	places []string
}{
	{"open", func(context.Context, *Pool) error { return nil },
		[]string{"pool.image.before-mkfs", "pool.image.before-rename", "pool.image.before-grow", "pool.image.before-attach", "pool.image.before-mount", "pool.image.after-mount", "pool.open.before-collect"}},
	{"create", func(ctx context.Context, p *Pool) error {
		_, err := p.Create(ctx, Spec{ID: "fs", Size: 16 << 20, FSType: "ext4"})
		return err
	}, []string{"pool.volume.before-fill", "pool.volume.before-mkfs", "pool.volume.before-meta", "pool.volume.before-rename", "pool.volume.after-rename"}},
	{"clone", func(ctx context.Context, p *Pool) error {
		_, err := p.Create(ctx, Spec{ID: "clone", Source: Source{Volume: "fs"}, Size: 20 << 20})
		return err
	}, []string{"pool.volume.before-clone", "pool.volume.before-meta", "pool.volume.before-rename", "pool.volume.after-rename"}},
	{"snapshot", func(ctx context.Context, p *Pool) error {
		_, err := p.Snapshot(ctx, "snap", "fs")
		return err
	}, []string{"pool.volume.before-clone", "pool.volume.before-meta", "pool.volume.before-rename", "pool.volume.after-rename"}},
	{"restore", func(ctx context.Context, p *Pool) error {
		_, err := p.Create(ctx, Spec{ID: "restored", Source: Source{Snapshot: "snap"}})
		return err
	}, []string{"pool.volume.before-clone", "pool.volume.before-rename"}},
	{"attach", func(ctx context.Context, p *Pool) error {
		_, err := p.Attach(ctx, "fs")
		return err
	}, []string{"pool.volume.before-attach"}},
	{"expand", func(ctx context.Context, p *Pool) error {
		v, err := p.Expand(ctx, "fs", 32<<20, 0)
		if err != nil {
			return err
		}
		d, err := p.Attach(ctx, "fs")
		if err != nil {
			return err
		}
		if size, err := deviceSize(d.Rdev()); err != nil || int64(size) != v.Size {
			return fmt.Errorf("device of %d bytes, volume of %d: %w", size, v.Size, err)
		}
		return nil
	}, []string{"pool.volume.before-expand", "pool.volume.before-resize-loop"}},
	{"detach", func(ctx context.Context, p *Pool) error { return p.Detach(ctx, "fs") }, []string{"pool.volume.before-detach"}},
	{"delete", func(ctx context.Context, p *Pool) error {
		return errors.Join(p.Delete(ctx, "clone"), p.Delete(ctx, "fs"), p.DeleteSnapshot(ctx, "snap"), p.Delete(ctx, "restored"))
	}, []string{"pool.volume.before-delete", "pool.volume.after-delete"}},
}

func TestChild(t *testing.T) {
	step := os.Getenv(childStep)
	if step == "" {
		t.Skip("only a child of TestKilledAnywhere does this")
	}
	p, err := Open(t.Context(), Config{Dir: os.Getenv(childDir), Size: testSize})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.name == step {
			if err := s.do(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestKilledAnywhere: at whatever step a process is killed, the next one sees whole
// volumes only, leaves nothing behind, and does what was asked.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pool")
	points, err := arm.Make(filepath.Join(t.TempDir(), "points"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removePool(t, dir) })
	for _, s := range steps {
		for _, place := range append(s.places, "") {
			child := func() ([]byte, error) {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestChild$", "-test.count=1")
				cmd.Env = append(os.Environ(), childStep+"="+s.name, childDir+"="+dir, points.Environment())
				return cmd.CombinedOutput()
			}
			if place != "" {
				if err := points.Arm(place, "crash"); err != nil {
					t.Fatal(err)
				}
				if out, err := child(); err == nil {
					t.Errorf("%s: the child lived on at %s\n%s", s.name, place, out)
				}
				if armed, _ := points.Disarm(place); armed {
					t.Errorf("%s: %s was not reached", s.name, place)
				}
				if s.name != "open" {
					check(t, dir, s.name+" killed at "+place)
				}
				continue
			}
			if out, err := child(); err != nil {
				t.Fatalf("%s: %v\n%s", s.name, err, out)
			}
		}
	}
	p, err := Open(t.Context(), Config{Dir: dir, Size: testSize})
	if err != nil {
		t.Fatal(err)
	}
	if v, s := p.List(), p.ListSnapshots(); len(v) != 0 || len(s) != 0 {
		t.Errorf("left: %v, %v", v, s)
	}
}

// check opens the pool as the next process does, and looks at every volume.
func check(t *testing.T, dir, what string) {
	t.Helper()
	p, err := Open(t.Context(), Config{Dir: dir, Size: testSize})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	left, err := os.ReadDir(p.mnt(tmpDir))
	if err != nil || len(left) != 0 {
		t.Errorf("%s: left in tmp: %v, %v", what, left, err)
	}
	for kind, all := range map[string][]Volume{volumesDir: p.List(), snapshotsDir: p.ListSnapshots()} {
		for _, v := range all {
			if _, attached, _ := p.Attached(v.ID); attached {
				continue
			}
			// A file system that is not whole does not pass.
			out, err := exec.CommandContext(t.Context(), "e2fsck", "-f", "-n", p.mnt(kind, v.ID, dataFile)).CombinedOutput()
			if err != nil {
				t.Errorf("%s: e2fsck of %s/%s: %v\n%s", what, kind, v.ID, err, out)
			}
		}
	}
}
