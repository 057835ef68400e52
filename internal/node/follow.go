// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// Names in QEMU that package machine gives.
const (
	agentChardev = "agent0"
	agentPort    = "channel0"
)

// A monitor that is lost is connected anew: so many times at once, and then one
// more each interval.
const (
	lostBurst    = 10
	lostInterval = 10 * time.Second
)

var errMonitorEnds = errors.New("the monitor ends each time it is reached")

// movingPoll is how often QEMU is asked whether it has the machine, or has it back.
const movingPoll = 50 * time.Millisecond

// drainLimit is how long the last events may take to arrive once the process has ended.
const drainLimit = 200 * time.Millisecond

// follow watches a running machine until ctx ends: its process has ended, or the
// agent lets go. A monitor that is lost while the process lives is connected anew.
func (g *guest) follow(ctx context.Context, c *contact) {
	g.mu.Lock()
	g.proc = c.proc
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.proc = nil
		g.mu.Unlock()
	}()
	logged := make(chan []byte, 1)
	go func() { logged <- g.copyLog(c.proc) }()
	var end ending
	wait := backoff{first: g.times.retry[0], max: g.times.retry[1]}
	// QEMU's monitor ends with QEMU, or when it is renewed. One that ends each time
	// it is reached is not QEMU's.
	var lost bucket
	for ctx.Err() == nil {
		err := g.refresh(ctx, c.client)
		if err == nil {
			wait.reset()
			g.setClient(c.client)
			g.wantRenewal()
			g.clearMonitorProblem()
			g.pump(ctx, c, &end)
			g.setClient(nil)
			if lost.take(g.now(), lostBurst, lostInterval) > 0 {
				err = errMonitorEnds
			}
		}
		if err != nil && ctx.Err() == nil {
			g.log.Warn("monitor of a running machine", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(wait.next()):
			}
		}
		c.client.Close()
		if next, err := g.reconnect(ctx, g.times.look[0]); err == nil {
			c.client = next
		}
	}
	gone := errors.Is(context.Cause(ctx), errEnded)
	g.console.End(console.ErrEnded)
	g.vnc.End(console.ErrEnded)
	end.console = <-logged
	if gone {
		g.ended(end)
	}
}

func (g *guest) clearMonitorProblem() {
	if p := g.snapshot().problem; p != nil && p.reason == problemMonitor {
		g.setProblem(nil)
	}
}

// refresh asks QEMU for all that the status shows.
func (g *guest) refresh(ctx context.Context, client *qmp.Client) error {
	if err := g.step(ctx, "agent.monitor.before-refresh"); err != nil {
		return err
	}
	run, err := client.QueryStatus(ctx)
	if err != nil {
		return err
	}
	kvm, err := client.QueryKVM(ctx)
	if err != nil {
		return err
	}
	mem, err := client.QueryMemorySize(ctx)
	if err != nil {
		return err
	}
	size, err := readSizes(ctx, client, g.instance())
	if err != nil {
		return err
	}
	if err := g.setLinks(ctx, client); err != nil {
		return err
	}
	q, r := g.assess(ctx, client)
	at := g.now()
	g.observe(func(o observed) observed {
		o.qemu, o.renewable = q, r
		o = o.ran(run)
		o.emulated = !kvm.Enabled
		if total := mem.Base + mem.Plugged; total < 1<<60 {
			o.memory = int64(total)
		}
		if o.sizes == nil {
			o.sizes = size
		}
		return o.withStage(v1.StageQEMU, at)
	})
	return nil
}

// setLinks takes the links down that the spec wants down: QEMU has no option for it.
func (g *guest) setLinks(ctx context.Context, client *qmp.Client) error {
	ifs, _ := present(g.instance())
	for _, i := range ifs {
		if i.State != "down" {
			continue
		}
		err := client.Execute(ctx, "set_link", map[string]any{"name": deviceID(i.Name), "up": false}, nil)
		if err != nil {
			return fmt.Errorf("take down the link of interface %s: %w", i.Name, err)
		}
	}
	return nil
}

// pump handles events and news until the monitor or ctx ends.
func (g *guest) pump(ctx context.Context, c *contact, end *ending) {
	client := c.client
	talk := newTalk(g, ctx)
	defer talk.stop()
	resize, stop := startResizer(ctx, g, client, c.proc)
	defer stop()
	grow, stopGrowing := startGrower(ctx, g, client, c.proc)
	defer stopGrowing()
	if open, err := agentOpen(ctx, client); err == nil {
		talk.channel(open)
	}
	again := newResumer(g)
	defer again.stop()
	quit := false
	for {
		again.look()
		var moved <-chan time.Time
		if g.snapshot().moving {
			moved = time.After(movingPoll)
		}
		// Deletion is looked at first: the news of it may be older than the monitor.
		if deleting, atOnce := g.deleting(); deleting {
			g.shuttingDown()
			if atOnce && !quit {
				quit = true
				if err := client.Quit(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, qmp.ErrClosed) {
					g.log.Warn("end the machine", "error", err)
				}
			}
		}
		select {
		case e, ok := <-client.Events():
			if !ok {
				return
			}
			g.event(ctx, client, e, end, talk)
			resize.event(e)
		case <-moved:
			g.lookAtRun(ctx, client)
		case <-g.news:
			resize.told()
			grow.told()
		case <-again.timer.C:
			again.try(ctx, client)
		case <-talk.timer.C:
			talk.ask()
		case a := <-talk.answers:
			talk.answered(a)
		case <-ctx.Done():
			g.drain(client, end)
			return
		}
	}
}

// drain takes the last events of a process that has ended.
func (g *guest) drain(client *qmp.Client, end *ending) {
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	for {
		select {
		case e, ok := <-client.Events():
			if !ok {
				return
			}
			end.note(e)
		case <-limit.C:
			return
		}
	}
}

// note keeps what an event says of the machine's end.
func (e *ending) note(ev qmp.Event) {
	switch ev.Name {
	case qmp.EventGuestPanicked:
		e.panicked = true
	case qmp.EventShutdown:
		var data struct {
			Reason string `json:"reason"`
		}
		e.reason = "unknown"
		if json.Unmarshal(ev.Data, &data) == nil && data.Reason != "" {
			e.reason = printable(data.Reason)
		}
		if data.Reason == "guest-panic" {
			e.panicked = true
		}
	}
}

func (g *guest) event(ctx context.Context, client *qmp.Client, e qmp.Event, end *ending, talk *talk) {
	end.note(e)
	switch e.Name {
	case qmp.EventPowerdown, qmp.EventShutdown:
		g.shuttingDown()
	case qmp.EventBlockIOError:
		text := g.ioError(e.Data)
		g.observe(func(o observed) observed { o.ioError = text; return o })
	case qmp.EventStop, qmp.EventResume, qmp.EventSuspend, qmp.EventWakeup, qmp.EventReset:
		// Not the event but the state is what counts.
		g.lookAtRun(ctx, client)
	case qmp.EventVserport:
		var data struct {
			ID   string `json:"id"`
			Open bool   `json:"open"`
		}
		if json.Unmarshal(e.Data, &data) == nil && data.ID == agentPort {
			talk.channel(data.Open)
		}
	}
}

// lookAtRun takes over the machine's run state.
func (g *guest) lookAtRun(ctx context.Context, client *qmp.Client) {
	run, err := client.QueryStatus(ctx)
	if err != nil {
		return // the next event, or the next monitor
	}
	if o := g.snapshot(); run != o.run || o.moving != moving(run) {
		g.observe(func(o observed) observed { return o.ran(run) })
	}
}

func (g *guest) shuttingDown() {
	g.tell(corev1.EventTypeNormal, eventShuttingDown, "The machine is shutting down.")
}

// ioError says which volume could not be read or written.
func (g *guest) ioError(data json.RawMessage) string {
	var e struct {
		Node      string `json:"node-name"`
		Operation string `json:"operation"`
		NoSpace   bool   `json:"nospace"`
	}
	if json.Unmarshal(data, &e) != nil {
		return ""
	}
	what, where := "a disk", "the node's disk"
	g.mu.Lock()
	for _, d := range g.disks {
		if d.FormatNode() == e.Node || d.FileNode() == e.Node {
			what = "volume " + d.Name
			if d.Claim != nil {
				where = "its claim"
			}
		}
	}
	g.mu.Unlock()
	verb := "written"
	if e.Operation == "read" {
		verb = "read"
	}
	if e.NoSpace {
		return what + " could not be " + verb + ": there is no space left on " + where
	}
	return what + " could not be " + verb
}

func agentOpen(ctx context.Context, client *qmp.Client) (bool, error) {
	devices, err := client.QueryChardev(ctx)
	if err != nil {
		return false, err
	}
	for _, d := range devices {
		if d.Label == agentChardev {
			return d.FrontendOpen, nil
		}
	}
	return false, nil
}
