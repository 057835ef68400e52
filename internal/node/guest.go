// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// guest is one instance's machine, or its launcher, in one pod.
type guest struct {
	*agent
	name   types.NamespacedName
	uid    types.UID
	podUID string
	log    *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	// news gets a value when the instance has changed.
	news chan struct{}

	console, vnc console.Port
	screenMu     sync.Mutex // one screenshot at a time
	// renewing is held while QEMU is replaced, and changing by whoever changes the
	// machine's devices or replaces QEMU.
	renewing, changing sync.Mutex

	mu     sync.Mutex
	vmi    *v1.VirtualMachineInstance
	obs    observed
	client *qmp.Client // nil while there is no monitor
	proc   process     // QEMU, while it is followed
	// renewFailure is of the last renewal that failed.
	renewFailure renewFailure
	disks        []machine.Disk
	// screen and serial: whether the machine has them; nil while not known.
	screen, serial *bool
	// told are the Events that are told once by this process.
	told map[string]bool

	// The reconciler's own memory of what it has written.
	writes writes
}

func newGuest(a *agent, vmi *v1.VirtualMachineInstance, podUID string) *guest {
	ctx, cancel := context.WithCancel(a.ctx)
	g := &guest{
		agent: a, name: types.NamespacedName{Namespace: vmi.Namespace, Name: vmi.Name}, uid: vmi.UID, podUID: podUID,
		log: a.log.With("namespace", vmi.Namespace, "vm", vmi.Name, "uid", vmi.UID, "pod", podUID),
		ctx: ctx, cancel: cancel, done: make(chan struct{}), news: make(chan struct{}, 1),
		vmi: vmi, told: map[string]bool{},
	}
	// The stages before QEMU runs are written with the phase, unless that takes long.
	g.writes.at = a.now()
	g.console = console.Port{Dial: g.dialer(contract.SerialSocket), Exclusive: true, Lossy: true, Patience: renewLimit}
	g.vnc = console.Port{Dial: g.dialer(contract.VNCSocket), Max: 16}
	return g
}

// update gives the guest a newer instance.
func (g *guest) update(vmi *v1.VirtualMachineInstance) {
	g.mu.Lock()
	g.vmi = vmi
	g.mu.Unlock()
	select {
	case g.news <- struct{}{}:
	default:
	}
}

// instance is the newest known. It must not be changed.
func (g *guest) instance() *v1.VirtualMachineInstance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.vmi
}

// snapshot is what is known of the machine.
func (g *guest) snapshot() observed {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.obs
}

// observe changes what is known and has it reported.
func (g *guest) observe(change func(observed) observed) {
	g.mu.Lock()
	g.obs = change(g.obs)
	g.mu.Unlock()
	g.enqueue(g.name)
}

func (g *guest) setProblem(p *problem) {
	g.mu.Lock()
	same := g.obs.problem == p || g.obs.problem != nil && p != nil && *g.obs.problem == *p
	g.obs.problem = p
	g.mu.Unlock()
	if !same {
		g.enqueue(g.name)
	}
}

func (g *guest) setClient(c *qmp.Client) {
	g.mu.Lock()
	g.client = c
	g.mu.Unlock()
}

// monitor is the connection to QEMU, or nil.
func (g *guest) monitor() *qmp.Client {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.client
}

// tell tells an Event of which one is enough per machine and agent.
func (g *guest) tell(kind, reason, note string) {
	g.mu.Lock()
	told := g.told[reason]
	g.told[reason] = true
	vmi := g.vmi
	g.mu.Unlock()
	if !told {
		g.events.Eventf(vmi, nil, kind, reason, eventAction, "%s", note)
	}
}

// eventAction is the action in the agent's Events.
const eventAction = "Run"

// deleting tells whether the instance is being deleted, and whether without grace.
func (g *guest) deleting() (deleting, atOnce bool) {
	vmi := g.instance()
	if vmi.DeletionTimestamp == nil {
		return false, false
	}
	grace := vmi.Spec.TerminationGracePeriodSeconds
	return true, grace != nil && *grace <= 0
}

// run is the guest's life: until its process ends or the agent lets go of it.
func (g *guest) run() {
	defer close(g.done)
	defer g.console.End(console.ErrEnded)
	defer g.vnc.End(console.ErrEnded)
	wait := backoff{first: g.times.retry[0], max: g.times.retry[1]}
	for {
		ended, err := g.attempt()
		if g.ctx.Err() != nil {
			return
		}
		if err != nil {
			g.setProblem(toProblem(err))
			if !errors.Is(err, errDeleting) {
				g.log.Warn("machine is not started", "error", err)
			}
		}
		if ended {
			return
		}
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(wait.next()):
		}
	}
}

// attempt finds the machine or starts it, and follows it until its process has
// ended. The error says which step failed.
func (g *guest) attempt() (ended bool, err error) {
	c, err := g.find()
	if err != nil {
		return false, err
	}
	defer c.close()
	// Nothing is worth doing for a process that has ended.
	ctx, cancel := withProcess(g.ctx, c.proc)
	defer cancel()
	if c.client == nil {
		err = g.start(ctx, c)
	} else {
		err = g.adopt(ctx, c)
	}
	if err == nil {
		g.setProblem(nil)
		g.follow(ctx, c)
	}
	ended = errors.Is(context.Cause(ctx), errEnded)
	if ended {
		g.detachNetworks()
	}
	if ended && !isRefused(err) {
		err = nil // the controller says why, from the pod
	}
	return ended, err
}

// withProcess is ctx, ended with errEnded as its cause when the process ends.
func withProcess(ctx context.Context, p process) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	go func() {
		select {
		case <-p.Done():
			cancel(errEnded)
		case <-ctx.Done():
		case <-stop:
		}
	}()
	return ctx, sync.OnceFunc(func() { close(stop); cancel(nil) })
}

func isRefused(err error) bool {
	var s *stepError
	return errors.As(err, &s) && s.reason == problemRefused
}

// backoff doubles from first to max.
type backoff struct{ first, max, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.first), b.max)
	return b.last
}

func (b *backoff) reset() { b.last = 0 }

// shapeOf is what the status shows of a machine.
func shapeOf(m machine.Machine, n []nic, overhead int64) *shape {
	s := &shape{
		machineType: m.Type, bootMemory: m.Memory.Size, overhead: overhead, nics: n,
		cpu: v1.CPUTopology{Sockets: int64(m.CPU.Sockets), Cores: int64(m.CPU.Cores), Threads: int64(m.CPU.Threads)},
	}
	for _, d := range m.Disks {
		v := v1.VolumeStatus{Name: d.Name, Target: d.Target, Phase: volumeReady, Reason: volumeReadyReason, Message: "The machine has the volume as a disk."}
		if d.Create != nil {
			v.Size = d.Create.Size
		}
		s.volumes = append(s.volumes, v)
	}
	return s
}

// ended reports how the machine ended, as far as QEMU said.
func (g *guest) ended(how ending) {
	switch {
	case how.panicked:
		g.tell(corev1.EventTypeWarning, eventStopped, "The guest crashed: its kernel panicked. "+how.lastLines())
	case how.reason == "guest-shutdown":
		g.tell(corev1.EventTypeNormal, eventStopped, "The guest powered off.")
	case how.reason == "guest-reset":
		g.tell(corev1.EventTypeNormal, eventStopped, "The guest rebooted, which ends the machine by spec.domain.rebootPolicy.")
	case how.reason != "":
		g.tell(corev1.EventTypeNormal, eventStopped, fmt.Sprintf("The machine was stopped (%s).", printable(how.reason)))
	default:
		g.observe(func(o observed) observed { o.crashed = true; return o })
		g.tell(corev1.EventTypeWarning, eventStopped, "QEMU ended without a word. Its last output is in the pod's log (kubectl logs); if it was killed, the node's kernel log says why.")
	}
}

// ending is what QEMU said of its end.
type ending struct {
	panicked bool
	reason   string // of the event SHUTDOWN; empty when it was never sent
	console  []byte // the end of what the guest wrote on its console
}

// maxLastLines is how much of the console's end an Event shows, in bytes.
const maxLastLines = 600

// lastLines is the end of the console, for a person.
func (e ending) lastLines() string {
	text := e.console[max(len(e.console)-maxLastLines, 0):]
	if len(bytes.TrimSpace(text)) == 0 {
		return "The end of its console is in the pod's log (kubectl logs)."
	}
	return "The end of its console, of which the pod's log (kubectl logs) has more: " + printable(string(text))
}
