// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/guestagent"
	"github.com/skerry-dev/skerry/internal/hotplug"
	"github.com/skerry-dev/skerry/internal/podcgroup"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/resize"
)

// passCPU is pass for vCPUs.
func (r *resizer) passCPU(ctx context.Context, vmi *v1.VirtualMachineInstance, want int64) (pending bool, err error) {
	t := &r.cpu
	r.begin(t, want)
	cpus, err := hotplug.ReadCPUs(ctx, r.client)
	if err != nil {
		return false, err
	}
	used, err := r.usedVCPUs(ctx, cpus)
	if err != nil {
		return false, err
	}
	r.look(t, int64(cpus.Present()), used)
	step, err := r.next(vmi, resize.CPU, t, int64(cpus.AtBoot()), t.machine, t.machine, 0)
	if err != nil {
		return false, err
	}
	now := r.g.now()
	switch step.Action {
	case resize.Done:
		t.finish(now, resize.GuestPart(vmi, resize.CPU))
		return false, nil
	case resize.Announce:
		return false, nil // the status's news brings the next pass
	case resize.AwaitPod:
		t.clear()
		return true, nil
	case resize.Plug:
		t.stamp(v1.GuestResizeAnnounced, t.since)
		t.stamp(v1.GuestResizeCovered, now)
		if ok, err := r.memoryForVCPUs(vmi, t); err != nil || !ok {
			return true, err
		}
		return r.growCPU(ctx, t, cpus)
	case resize.Unplug:
		t.stamp(v1.GuestResizeAnnounced, t.since)
		return r.shrinkCPU(ctx, t, cpus)
	case resize.AwaitGuest:
	default:
		return false, nil
	}
	// It is plugged, and the guest has not started it.
	t.stamp(v1.GuestResizeAnnounced, t.since)
	t.stamp(v1.GuestResizePlugged, now)
	if r.paused(t) {
		return true, nil
	}
	if now.Sub(t.moved) > r.g.times.resize.take {
		t.obstacle(obstacleNotStarted, "%d vCPUs are plugged, but the guest uses only %d of them: see its kernel's log, and "+
			"have it take plugged CPUs online, by the guest agent (qemu-guest-agent) or a udev rule (SUBSYSTEM==\"cpu\", ACTION==\"add\", ATTR{online}=\"1\")", t.machine, t.guest)
	}
	return true, nil
}

// finish notes that a change is done, also one that an earlier agent began.
func (t *track) finish(now time.Time, written *v1.GuestResourceResize) {
	if len(t.times) > 0 || written != nil && written.Target != nil && len(written.Times) > 0 {
		t.stamp(v1.GuestResizeDone, now)
	}
	t.clear()
}

// memoryForVCPUs tells whether the pod's memory limit covers what the vCPUs cost
// QEMU (machine.Overhead). The controller grows the pod's memory along with its
// CPUs; that half may be refused while the other is not, and plugging all the same
// would have the kernel kill the machine one day.
func (r *resizer) memoryForVCPUs(vmi *v1.VirtualMachineInstance, t *track) (bool, error) {
	group, err := r.pod()
	if err != nil {
		return false, err
	}
	l, err := group.Limits()
	if err != nil {
		return false, err
	}
	limit := l.Memory
	if limit == podcgroup.Unlimited {
		limit = 0
	}
	said := resize.Published(vmi, resize.Memory)
	switch said.Room(resize.SpecSize(vmi, resize.Memory), resize.Cgroup{Known: true, Limit: limit}) {
	case resize.HasRoom:
		if t.reason == obstaclePodMemory {
			t.clear()
		}
		return true, nil
	case resize.RoomRefused:
		need := "what QEMU needs for them"
		if said.Limit > 0 {
			need = fmt.Sprintf("the %d MiB that QEMU needs with them", (said.Limit+mib-1)/mib)
		}
		t.obstacle(obstaclePodMemory, "no vCPU is plugged: the pod's memory limit of %d MiB does not cover %s, and more was not granted: see the condition %s; "+
			"it goes on once the limit is raised", limit/mib, need, v1.VMIHotMemoryChange)
	case resize.RoomAsked:
		t.clear()
	}
	return false, nil
}

// growCPU plugs one socket.
func (r *resizer) growCPU(ctx context.Context, t *track, cpus hotplug.CPUs) (bool, error) {
	if n := cpus.NextPlugs(); n == 0 || t.machine+int64(n) > t.want {
		t.obstacle(obstacleNoRoom, "the machine has %d vCPUs and places for %d, in sockets of %d: it can have %d only after a restart",
			cpus.Present(), cpus.Max(), cpus.Max()/max(len(cpus.Sockets), 1), t.want)
		return false, nil
	}
	// An emulating QEMU never gives the room of a vCPU back, and aborts without it.
	if s := r.g.snapshot(); s.emulated && cpus.AtBoot()+cpus.Plugs+cpus.NextPlugs() > cpus.Max() {
		t.obstacle(obstaclePlugLimit, "software emulation has room for %d vCPUs that were ever plugged into this QEMU, and %d were: "+
			"renew QEMU (skerry vm renew) or restart the machine; with KVM there is no such limit", cpus.Max()-cpus.AtBoot(), cpus.Plugs)
		return false, nil
	}
	if err := r.g.step(ctx, "agent.resize.before-plug-cpu"); err != nil {
		return false, err
	}
	if err := hotplug.PlugSocket(ctx, r.client, cpus); err != nil {
		return false, err
	}
	if err := r.g.step(ctx, "agent.resize.after-plug-cpu"); err != nil {
		return false, err
	}
	t.clear()
	t.told = r.g.now()
	r.poke() // the next socket at once
	return true, nil
}

// shrinkCPU asks the guest for one socket, and again from time to time.
func (r *resizer) shrinkCPU(ctx context.Context, t *track, cpus hotplug.CPUs) (bool, error) {
	now := r.g.now()
	if int64(cpus.AtBoot()) > t.want {
		t.obstacle(obstacleNoRoom, "%d of the machine's vCPUs are there since its start and cannot be taken away: it can have %d only after a restart", cpus.AtBoot(), t.want)
		return false, nil
	}
	if r.paused(t) {
		return true, nil
	}
	if !t.asked.IsZero() && now.Sub(t.moved) > r.g.times.resize.give {
		t.obstacle(obstacleKeepsVCPU, "the guest has %d vCPUs and does not give back down to %d: see its kernel's log; it is asked again every %v", t.machine, t.want, r.g.times.resize.giveAgain)
	}
	every := r.g.times.resize.ask
	if t.reason != "" {
		every = r.g.times.resize.giveAgain
	}
	if now.Sub(t.asked) < every && !t.moved.After(t.asked) {
		return true, nil
	}
	if err := r.g.step(ctx, "agent.resize.before-unplug-cpu"); err != nil {
		return false, err
	}
	if err := hotplug.UnplugSocket(ctx, r.client, cpus); err != nil {
		return false, err
	}
	if err := r.g.step(ctx, "agent.resize.after-unplug-cpu"); err != nil {
		return false, err
	}
	t.asked = r.g.now()
	t.stamp(v1.GuestResizePlugged, t.asked)
	return true, nil
}

// usedVCPUs is how many vCPUs the guest uses: those of its start, and those that
// were plugged and have been seen at work since. Its agent, if there is one, is
// asked to take the others online; what it says of them is not needed.
func (r *resizer) usedVCPUs(ctx context.Context, cpus hotplug.CPUs) (int64, error) {
	use, err := hotplug.ReadUse(ctx, r.client)
	if err != nil {
		return 0, err
	}
	if r.atWork == nil {
		r.atWork = map[string]bool{}
	}
	for path := range r.atWork {
		if _, ok := use[path]; !ok {
			delete(r.atWork, path)
		}
	}
	for path, u := range use {
		switch u {
		case hotplug.Used:
			r.atWork[path] = true
		case hotplug.Unstarted, hotplug.Parked:
			delete(r.atWork, path)
		}
	}
	n := int64(min(cpus.AtBoot()+len(r.atWork), cpus.Present()))
	if n == int64(cpus.Present()) || !r.mayAskAgent() {
		return n, nil
	}
	err = r.withAgent(ctx, func(ctx context.Context, c *guestagent.Client) error {
		_, err := c.OnlineVCPUs(ctx)
		return err
	})
	if err != nil {
		r.g.log.Debug("have the guest agent take vCPUs online", "error", err)
	}
	return n, nil
}

// mayAskAgent tells whether the guest agent is there and was not asked just now.
func (r *resizer) mayAskAgent() bool {
	return r.g.snapshot().agent && r.g.now().Sub(r.onlined) >= r.g.times.resize.online
}

// withAgent asks the guest agent something, within the time for a question.
func (r *resizer) withAgent(ctx context.Context, ask func(context.Context, *guestagent.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.g.times.question)
	defer cancel()
	defer func() { r.onlined = r.g.now() }()
	c, err := r.g.guestAgent(ctx)
	if err != nil {
		return err
	}
	err = ask(ctx, c)
	return errors.Join(err, c.Close())
}

// paused tells whether the guest stands still and so can't do anything.
func (r *resizer) paused(t *track) bool {
	run := r.g.snapshot().run
	if run.Running || run.Status == "" || run.Status == qmp.StateRunning {
		if t.reason == obstaclePaused {
			t.clear()
			t.moved = r.g.now()
		}
		return false
	}
	t.obstacle(obstaclePaused, "the machine stands still (%s), so the guest cannot follow: it goes on once the machine runs", printable(run.Status))
	return true
}
