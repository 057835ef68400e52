// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podcgroup"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/resize"
)

// resizeTimes are the intervals and limits of a resize.
type resizeTimes struct {
	look      [2]time.Duration // between looks while something is pending: at first, and at most
	soon      time.Duration    // and at most in a change's first seconds
	online    time.Duration    // between requests to the guest agent to take things online
	ask       time.Duration    // between requests to a guest that has not followed
	driver    time.Duration    // for a guest with virtio drivers to show one for virtio-mem
	boot      time.Duration    // for one that has shown no virtio driver, and may be booting
	take      time.Duration    // for a guest to use what was plugged before that is reported
	give      time.Duration    // for a guest to give back before it is left what it keeps
	giveAgain time.Duration    // after which it is asked once more
}

func defaultResizeTimes() resizeTimes {
	return resizeTimes{
		look: [2]time.Duration{10 * time.Millisecond, 500 * time.Millisecond}, soon: 50 * time.Millisecond, online: 250 * time.Millisecond,
		ask: 2 * time.Second, driver: 30 * time.Second, boot: time.Minute,
		take: 15 * time.Second, give: 30 * time.Second, giveAgain: time.Minute,
	}
}

// resizer brings one running machine to the size that its instance asks for. It
// lives as long as one session with the monitor; the next one looks again and
// goes on where things are.
type resizer struct {
	g      *guest
	client *qmp.Client
	proc   process
	// wake asks for a look, news for one only when the spec differs.
	wake, news chan struct{}

	group    *podcgroup.Group
	cpu, mem track
	onlined  time.Time // when the guest agent was asked last
	polling  bool      // the guest's statistics are asked for
	// noBalloon: the machine has no balloon. byDIMM: its memory grows by DIMMs.
	noBalloon, byDIMM bool
	reclaim           reclaimed
	// atWork are the vCPUs that were plugged and seen at work, by their QOM paths.
	atWork map[string]bool
	looked size   // what was asked for at the last look
	pokes  bucket // bounds looks for events
}

// Events make the resizer look so many times at once, and then once more each
// interval.
const (
	pokeBurst    = 100
	pokeInterval = 50 * time.Millisecond
)

// passLimit is the time for one look in times of that for a command.
const passLimit = 3

// track is what a resizer remembers of one resource.
type track struct {
	want    int64     // the size that is worked for
	since   time.Time // since when
	told    time.Time // when QEMU was told last
	asked   time.Time // when the guest was asked last
	gaveUp  time.Time // when the guest was left what it keeps
	machine int64     // what QEMU had at the last look, and the guest
	guest   int64
	moved   time.Time // when either changed last
	reason  string
	message string
	times   []v1.ResizeTime
}

// startResizer runs a resizer until its stop is called.
func startResizer(ctx context.Context, g *guest, client *qmp.Client, proc process) (r *resizer, stop func()) {
	r = &resizer{g: g, client: client, proc: proc, wake: make(chan struct{}, 1), news: make(chan struct{}, 1)}
	return r, background(ctx, r.run)
}

// background runs a loop until its stop is called, which waits for its end.
func background(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// poke has the resizer look again.
func (r *resizer) poke() { signal(r.wake) }

// told has it look whether the instance asks for another size.
func (r *resizer) told() { signal(r.news) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *resizer) run(ctx context.Context) {
	wait := backoff{first: r.g.times.resize.look[0], max: r.g.times.resize.look[1]}
	failed := backoff{first: r.g.times.retry[0], max: r.g.times.retry[1]}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			// Whoever speaks in QEMU's place may send events all day.
			if d := r.pokes.take(r.g.now(), pokeBurst, pokeInterval); d > 0 {
				timer.Reset(d)
				continue
			}
			wait.reset()
		case <-r.news:
			if !r.differs() {
				continue
			}
			wait.reset()
		case <-timer.C:
		}
		pending, err := r.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.g.log.Warn("resize", "error", err)
			r.trouble(err)
			timer.Reset(failed.next())
		case pending && (r.cpu.reason != "" || r.mem.reason != ""):
			failed.reset()
			timer.Reset(r.g.times.resize.ask)
		case pending:
			failed.reset()
			wait.max = r.g.times.resize.look[1]
			if r.recent() {
				wait.max = r.g.times.resize.soon
			}
			timer.Reset(wait.next())
		default:
			failed.reset()
			timer.Stop()
		}
	}
}

// Obstacles in the guest or in QEMU, as they stand in status.resize.guest.
const (
	obstacleMonitor     = "MonitorSilent"
	obstacleQEMU        = "QEMURefused"
	obstaclePaused      = "GuestPaused"
	obstacleNoRoom      = "NoHeadRoom"
	obstaclePlugLimit   = "EmulationPlugLimit"
	obstacleNotStarted  = "GuestDoesNotStartVCPU"
	obstacleKeepsVCPU   = "GuestKeepsVCPU"
	obstacleNotOnline   = "GuestDoesNotUseMemory"
	obstacleKeepsMemory = "GuestKeepsMemory"
	obstacleDIMMStep    = "MemoryStep"
	obstaclePodMemory   = "PodMemoryLimit"
)

func (t *track) obstacle(reason, format string, args ...any) {
	t.reason, t.message = reason, printable(fmt.Sprintf(format, args...))
}

func (t *track) clear() { t.reason, t.message = "", "" }

// stamp notes when a step of the present change was reached, the first time.
func (t *track) stamp(step string, now time.Time) {
	for _, s := range t.times {
		if s.Step == step {
			return
		}
	}
	t.times = append(t.times, v1.ResizeTime{Step: step, Time: microTime(now)})
}

// trouble reports a monitor that does not answer or refuses, where a change is pending.
func (r *resizer) trouble(err error) {
	reason, text := obstacleMonitor, "QEMU does not answer: %v; it is tried again; the guest keeps the size that it has"
	var refused *qmp.CommandError
	if errors.As(err, &refused) {
		reason, text = obstacleQEMU, "QEMU refused: %v; it is tried again; the guest keeps the size that it has"
	}
	for _, t := range []*track{&r.cpu, &r.mem} {
		if t.want != 0 && t.want != t.guest {
			t.obstacle(reason, text, err)
		}
	}
	r.publish()
}

// pass looks at everything once and does at most one step for each resource. It
// tells whether something is pending that no event announces.
func (r *resizer) pass(ctx context.Context) (pending bool, err error) {
	vmi := r.g.instance()
	if deleting, _ := r.g.deleting(); deleting || r.g.snapshot().sizes == nil {
		return false, nil
	}
	if !r.g.changing.TryLock() {
		return true, nil // QEMU is being replaced: its devices must stay as they are
	}
	defer r.g.changing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, passLimit*r.g.times.command)
	defer cancel()
	for _, t := range []*track{&r.cpu, &r.mem} {
		if t.reason == obstacleMonitor || t.reason == obstacleQEMU {
			t.clear()
		}
	}
	want := wanted(vmi)
	var cpuPending, memPending bool
	if want.cpu > 0 {
		if cpuPending, err = r.passCPU(ctx, vmi, want.cpu); err != nil {
			return false, err
		}
	}
	if want.memory > 0 {
		if memPending, err = r.passMemory(ctx, vmi, want.memory); err != nil {
			return false, err
		}
	}
	r.looked = want
	r.publish()
	return cpuPending || memPending, nil
}

// differs tells whether the instance asks for something that is not as it is.
func (r *resizer) differs() bool {
	vmi := r.g.instance()
	want := wanted(vmi)
	if want != r.looked || r.reclaims(vmi) {
		return true
	}
	return r.cpu.guest != r.cpu.want || r.cpu.machine != r.cpu.want || r.mem.guest != r.mem.want || r.mem.machine != r.mem.want
}

// recentChange is how long after its beginning a change is looked at closely.
const recentChange = 10 * time.Second

func (r *resizer) recent() bool {
	now := r.g.now()
	return now.Sub(r.cpu.since) < recentChange || now.Sub(r.mem.since) < recentChange
}

// size is a machine's size: vCPUs and bytes.
type size struct{ cpu, memory int64 }

// wanted is the size that the spec asks for; 0 stands for what it does not say.
func wanted(vmi *v1.VirtualMachineInstance) size {
	return size{resize.SpecSize(vmi, resize.CPU), resize.SpecSize(vmi, resize.Memory)}
}

// pod is the pod's cgroup.
func (r *resizer) pod() (*podcgroup.Group, error) {
	if r.group == nil {
		b, err := r.proc.Cgroups()
		if err != nil {
			return nil, err
		}
		r.group, err = podcgroup.Open(r.g.cgroupRoot, b, func(name string) bool { return podfs.NamesPod(name, r.g.podUID) })
		if err != nil {
			return nil, err
		}
	}
	return r.group, nil
}

// cgroup is the limit that the kernel applies to the pod at this moment. It is
// looked at only when it can matter: while something is to grow or to be cut.
func (r *resizer) cgroup(res resize.Resource, said resize.Said) (resize.Cgroup, error) {
	switch said.Stage {
	case resize.Asked, resize.Reclaiming, resize.Shrinking:
	default:
		return resize.Cgroup{}, nil
	}
	g, err := r.pod()
	if err != nil {
		return resize.Cgroup{}, err
	}
	l, err := g.Limits()
	if err != nil {
		return resize.Cgroup{}, err
	}
	limit := l.CPU
	if res == resize.Memory {
		limit = l.Memory
	}
	if limit == podcgroup.Unlimited {
		limit = 0
	}
	return resize.Cgroup{Known: true, Limit: limit}, nil
}

// next asks for the next step of a resource. Usage is the pod's charge after page
// cache was given back.
func (r *resizer) next(vmi *v1.VirtualMachineInstance, res resize.Resource, t *track, atBoot, told, held, usage int64) (resize.Step, error) {
	said := resize.Published(vmi, res)
	c, err := r.cgroup(res, said)
	if err != nil {
		return resize.Step{}, err
	}
	m := resize.Machine{Announced: atBoot, Told: told, Held: held}
	if g := resize.GuestPart(vmi, res); g != nil && g.Target != nil {
		m.Announced = g.Target.Value()
	}
	return resize.Next(resize.Want{Guest: t.want}, resize.Pod{Said: said}, c, m, resize.Guest{Size: t.guest, Usage: usage}), nil
}

// begin starts work for a size, unless it is under way.
func (r *resizer) begin(t *track, want int64) {
	if t.want != want {
		now := r.g.now()
		*t = track{want: want, since: now, moved: now, machine: t.machine, guest: t.guest}
	}
}

// look notes what QEMU and the guest have.
func (r *resizer) look(t *track, inMachine, inGuest int64) {
	if inMachine != t.machine || inGuest != t.guest {
		t.moved = r.g.now()
	}
	t.machine, t.guest = inMachine, inGuest
}
