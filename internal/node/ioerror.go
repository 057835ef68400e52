// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/qmp"
)

// spaceToResume is how much of the node's disk must be free before a machine that
// stands still for want of space goes on, in bytes: less would stop it again at
// once, and each stop costs writes of its status.
const spaceToResume = 64 << 20

// resumer lets a machine that QEMU stopped at an error of a disk go on by itself:
// QEMU then does the same read or write again. The intervals grow as long as the
// machine is stopped again.
type resumer struct {
	g       *guest
	timer   *time.Timer
	armed   bool
	wait    backoff
	resumed time.Time // when it went on last
}

func newResumer(g *guest) *resumer {
	r := &resumer{g: g, timer: time.NewTimer(time.Hour), wait: backoff{first: g.times.resume[0], max: g.times.resume[1]}}
	r.timer.Stop()
	return r
}

// look arms the timer when the machine stands still, and stops it when it runs or
// somebody paused it.
func (r *resumer) look() {
	stands := r.g.snapshot().run.Status == qmp.StateIOError
	switch {
	case stands && !r.armed:
		if !r.resumed.IsZero() && r.g.now().Sub(r.resumed) > 2*r.wait.max {
			r.wait.reset()
		}
		r.armed = true
		r.timer.Reset(r.wait.next())
	case !stands && r.armed:
		r.armed = false
		r.timer.Stop()
	}
}

// try lets the machine go on if there is space. The state that follows is an event's.
func (r *resumer) try(ctx context.Context, client *qmp.Client) {
	r.armed = false
	if r.g.snapshot().run.Status != qmp.StateIOError {
		return
	}
	if free, err := freeSpace(r.g.kubeletRoot); err == nil && free < spaceToResume {
		r.armed = true
		r.timer.Reset(r.wait.first) // looking costs nothing
		return
	}
	r.resumed = r.g.now()
	if err := client.Cont(ctx); err != nil && ctx.Err() == nil {
		r.g.log.Warn("let a machine go on that an error of a disk stopped", "error", err)
		return
	}
	r.g.log.Info("a machine that an error of a disk stopped goes on")
}

func (r *resumer) stop() { r.timer.Stop() }

// freeSpace is what an ordinary user may still write below dir, in bytes.
func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}
