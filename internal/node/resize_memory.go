// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/guestagent"
	"github.com/skerry-dev/skerry/internal/hotplug"
	"github.com/skerry-dev/skerry/internal/resize"
)

const mib = 1 << 20

// passMemory is pass for memory.
func (r *resizer) passMemory(ctx context.Context, vmi *v1.VirtualMachineInstance, want int64) (pending bool, err error) {
	t := &r.mem
	mem, err := hotplug.ReadMemory(ctx, r.client)
	if err != nil {
		return false, err
	}
	r.begin(t, want)
	if swept, err := hotplug.Sweep(ctx, r.client, mem); err != nil || swept > 0 {
		r.poke() // the host has it back a little later
		return true, err
	}
	inGuest, err := r.guestMemory(ctx, mem)
	if err != nil {
		return false, err
	}
	// What is missing of the wish only because it is no whole step is not missing.
	goal := reachable(want, mem.Base)
	told, held := asWanted(requested(mem), goal, want), asWanted(mem.Base+mem.Plugged(), goal, want)
	r.look(t, max(told, held), asWanted(inGuest, goal, want))
	r.byDIMM = byDIMM(mem)
	step, err := r.next(vmi, resize.Memory, t, mem.Base, told, held, r.reclaim.of(vmi))
	if err != nil {
		return false, err
	}
	growing := step.Action == resize.Plug || step.Action == resize.AwaitGuest && !step.Down
	if err := r.poll(ctx, growing); err != nil {
		return false, err
	}
	now := r.g.now()
	if step.Action != resize.Reclaim && reclaimLimit(vmi) == 0 {
		r.reclaim = reclaimed{}
	}
	switch {
	case step.Action == resize.Done:
		t.finish(now, resize.GuestPart(vmi, resize.Memory))
		return false, nil
	case step.Action == resize.Reclaim:
		t.finish(now, resize.GuestPart(vmi, resize.Memory))
		return r.giveBack(ctx, step.Pod.Limit)
	case step.Action == resize.AwaitPod:
		t.clear()
		return true, nil
	case step.Action == resize.Plug:
		t.stamp(v1.GuestResizeAnnounced, t.since)
		t.stamp(v1.GuestResizeCovered, now)
		return r.growMemory(ctx, t, mem, goal)
	case step.Action == resize.Unplug, step.Action == resize.AwaitGuest && step.Down:
		t.stamp(v1.GuestResizeAnnounced, t.since)
		return r.shrinkMemory(ctx, t, mem, goal)
	case step.Action == resize.AwaitGuest:
		t.stamp(v1.GuestResizeAnnounced, t.since)
		t.stamp(v1.GuestResizePlugged, now)
		return r.useMemory(ctx, t, mem, goal)
	}
	return false, nil // to be announced: the status's news brings the next pass
}

// reachable is the size that the guest can have when its spec wants so many bytes:
// it takes memory in whole steps beyond what it booted with.
func reachable(want, base int64) int64 {
	want = (want + mib - 1) / mib * mib
	if want <= base {
		return want
	}
	return base + (want-base)/hotplug.Step*hotplug.Step
}

// asWanted is n, or what is wanted where n is as near as the guest can come to it.
func asWanted(n, goal, want int64) int64 {
	if n == goal {
		return want
	}
	return n
}

// requested is the size that QEMU was told.
func requested(m hotplug.Memory) int64 {
	n := m.Base + m.InDIMMs()
	if m.Device != nil {
		n += m.Device.Requested
	}
	return n
}

// byDIMM tells whether the machine's memory is plugged as DIMMs: the guest has
// shown no driver for virtio-mem, and DIMMs were plugged for that.
func byDIMM(m hotplug.Memory) bool {
	return m.Device != nil && m.Device.Size == 0 && len(m.DIMMs) > 0
}

// growMemory asks for more.
func (r *resizer) growMemory(ctx context.Context, t *track, mem hotplug.Memory, goal int64) (bool, error) {
	more := goal - mem.Base
	if mem.Device == nil || more > mem.Device.Max {
		room := int64(0)
		if mem.Device != nil {
			room = mem.Device.Max
		}
		t.obstacle(obstacleNoRoom, "the machine booted with %d MiB and has room for %d MiB more: it can have %d MiB only after a restart", mem.Base/mib, room/mib, t.want/mib)
		return false, nil
	}
	if err := r.rememberBoot(ctx, mem); err != nil {
		return false, err
	}
	if err := r.g.step(ctx, "agent.resize.before-plug-memory"); err != nil {
		return false, err
	}
	if byDIMM(mem) {
		return r.growDIMM(ctx, t, mem, goal)
	}
	if err := hotplug.Request(ctx, r.client, more-mem.InDIMMs()); err != nil {
		return false, err
	}
	if err := r.g.step(ctx, "agent.resize.after-plug-memory"); err != nil {
		return false, err
	}
	t.clear()
	t.told = r.g.now()
	t.asked, t.moved = t.told, t.told
	return true, nil
}

// growDIMM plugs what is missing as one DIMM.
func (r *resizer) growDIMM(ctx context.Context, t *track, mem hotplug.Memory, goal int64) (bool, error) {
	missing := goal - mem.Base - mem.InDIMMs()
	whole := missing / hotplug.DIMMStep * hotplug.DIMMStep
	if whole == 0 {
		t.obstacle(obstacleDIMMStep, "the guest has no driver for virtio-mem, and takes DIMMs only in steps of %d MiB: it has %d of %d MiB", hotplug.DIMMStep/mib, (goal-missing)/mib, goal/mib)
		return false, nil
	}
	if err := hotplug.PlugDIMM(ctx, r.client, mem, whole); err != nil {
		return false, err
	}
	if err := r.g.step(ctx, "agent.resize.after-plug-dimm"); err != nil {
		return false, err
	}
	t.told = r.g.now()
	t.asked, t.moved = t.told, t.told
	return true, nil
}

// useMemory waits for the guest to take and to use what it was told of.
func (r *resizer) useMemory(ctx context.Context, t *track, mem hotplug.Memory, goal int64) (bool, error) {
	if r.paused(t) {
		return true, nil
	}
	now := r.g.now()
	still := now.Sub(t.moved)
	if d := mem.Device; d != nil && d.Size < d.Requested {
		if d.Size == 0 && len(mem.DIMMs) == 0 && still > r.driverLimit(ctx) {
			// No driver: a DIMM instead. The request goes first, so that a driver
			// that is loaded later does not take it on top.
			if err := hotplug.Request(ctx, r.client, 0); err != nil {
				return false, err
			}
			if err := r.g.step(ctx, "agent.resize.before-plug-dimm"); err != nil {
				return false, err
			}
			return r.growDIMM(ctx, t, mem, goal)
		}
		if now.Sub(t.asked) >= r.g.times.resize.ask {
			t.asked = now
			if err := hotplug.Request(ctx, r.client, d.Requested); err != nil {
				return false, err
			}
		}
		if still > max(r.g.times.resize.take, r.driverLimit(ctx)) {
			t.obstacle(obstacleNotOnline, "the guest has taken %d of %d MiB that were offered to it: see its kernel's log", d.Size/mib, d.Requested/mib)
		}
		return true, nil
	}
	if still > r.g.times.resize.take {
		t.obstacle(obstacleNotOnline, "%d MiB are plugged, but the guest uses only %d of them: have it take plugged memory online, by its kernel's parameter "+
			"memhp_default_state=online_movable, a udev rule (SUBSYSTEM==\"memory\", ACTION==\"add\", ATTR{state}=\"online_movable\") or the guest agent (qemu-guest-agent)",
			(t.machine-mem.Base)/mib, (t.guest-mem.Base)/mib)
	}
	return true, nil
}

// driverLimit is how long a guest may show no driver for virtio-mem. One whose
// balloon's driver has spoken is up; any other may still be booting. (QEMU 11.1.3
// could be asked for the device's virtio status, but aborts over that question.)
func (r *resizer) driverLimit(ctx context.Context) time.Duration {
	if _, ok, err := hotplug.ReadStatistics(ctx, r.client); err == nil && ok || r.g.snapshot().agent {
		return r.g.times.resize.driver
	}
	return r.g.times.resize.boot
}

// shrinkMemory asks the guest to give back, and again from time to time: nothing
// moves by itself once a guest has given up.
func (r *resizer) shrinkMemory(ctx context.Context, t *track, mem hotplug.Memory, goal int64) (bool, error) {
	now := r.g.now()
	if goal < mem.Base {
		t.obstacle(obstacleNoRoom, "the machine booted with %d MiB: it can have %d MiB only after a restart", mem.Base/mib, t.want/mib)
		return false, nil
	}
	if r.paused(t) {
		return true, nil
	}
	ask := goal - mem.Base - mem.InDIMMs()
	if ask < 0 {
		return r.shrinkDIMM(ctx, t, mem, -ask)
	}
	if !t.gaveUp.IsZero() && now.Sub(t.gaveUp) < r.g.times.resize.giveAgain {
		return true, nil
	}
	if !t.gaveUp.IsZero() { // once more
		t.gaveUp, t.told = time.Time{}, time.Time{}
	}
	if !t.told.IsZero() && now.Sub(t.told) > r.g.times.resize.give && now.Sub(t.moved) > r.g.times.resize.give {
		return r.leaveMemory(ctx, t, mem)
	}
	if mem.Device.Requested == ask && now.Sub(t.asked) < r.g.times.resize.ask {
		return true, nil
	}
	if err := r.g.step(ctx, "agent.resize.before-unplug-memory"); err != nil {
		return false, err
	}
	if err := hotplug.Request(ctx, r.client, ask); err != nil {
		return false, err
	}
	if err := r.g.step(ctx, "agent.resize.after-unplug-memory"); err != nil {
		return false, err
	}
	t.asked = r.g.now()
	if t.told.IsZero() {
		t.told = t.asked
	}
	t.stamp(v1.GuestResizePlugged, t.asked)
	return true, nil
}

// leaveMemory leaves the guest what it does not give back, so that it is not
// bothered for ever, and says so.
func (r *resizer) leaveMemory(ctx context.Context, t *track, mem hotplug.Memory) (bool, error) {
	keep := (mem.Device.Size + hotplug.Step - 1) / hotplug.Step * hotplug.Step
	if err := hotplug.Request(ctx, r.client, min(keep, mem.Device.Max)); err != nil {
		return false, err
	}
	t.gaveUp = r.g.now()
	t.obstacle(obstacleKeepsMemory, "the guest gave back down to %d MiB and keeps what is in use there, %d MiB more than the %d MiB wanted: free memory in it; it is asked again every %v",
		(mem.Base+mem.Plugged())/mib, (mem.Base+mem.Plugged()-t.want)/mib, t.want/mib, r.g.times.resize.giveAgain)
	return true, nil
}

// shrinkDIMM asks for the latest DIMM that is not needed any more.
func (r *resizer) shrinkDIMM(ctx context.Context, t *track, mem hotplug.Memory, spare int64) (bool, error) {
	now := r.g.now()
	victim := ""
	for _, d := range mem.DIMMs {
		if d.Size <= spare {
			victim = d.ID
		}
	}
	if victim == "" {
		t.obstacle(obstacleDIMMStep, "the guest has no driver for virtio-mem, and gives DIMMs back only as a whole: none is as small as the %d MiB that it shall give back; "+
			"restart the machine, or load virtio_mem in the guest before the machine grows", spare/mib)
		return false, nil
	}
	if !t.asked.IsZero() && now.Sub(t.moved) > r.g.times.resize.give {
		t.obstacle(obstacleKeepsMemory, "the guest does not give back %s, which is in use there: free memory in it; it is asked again every %v", victim, r.g.times.resize.giveAgain)
	}
	every := r.g.times.resize.ask
	if t.reason != "" {
		every = r.g.times.resize.giveAgain
	}
	if now.Sub(t.asked) < every && !t.moved.After(t.asked) {
		return true, nil
	}
	if err := r.g.step(ctx, "agent.resize.before-unplug-dimm"); err != nil {
		return false, err
	}
	if err := hotplug.UnplugDIMM(ctx, r.client, victim); err != nil {
		return false, err
	}
	t.asked = r.g.now()
	t.stamp(v1.GuestResizePlugged, t.asked)
	return true, nil
}

// poll switches the guest's statistics on while they are waited for. A machine
// without a balloon has none.
func (r *resizer) poll(ctx context.Context, on bool) error {
	if on == r.polling || r.noBalloon {
		return nil
	}
	every := time.Duration(0)
	if on {
		every = time.Second
	}
	if err := hotplug.PollStatistics(ctx, r.client, every); err != nil {
		if isRefusal(err) {
			r.noBalloon = true
			return nil
		}
		return err
	}
	r.polling = on
	return nil
}

// rememberBoot marks what the guest counted while nothing was plugged: only by the
// difference can its later counts be read.
func (r *resizer) rememberBoot(ctx context.Context, mem hotplug.Memory) error {
	if mem.BootTotal != 0 || mem.Plugged() != 0 {
		return nil
	}
	s, ok, err := hotplug.ReadStatistics(ctx, r.client)
	if err != nil && !isRefusal(err) {
		return err
	}
	if err != nil || !ok || s.Total > mem.Base {
		return nil
	}
	return hotplug.RememberBootTotal(ctx, r.client, s.Total)
}

// guestMemory is how much memory the guest uses of what it has, by its own word:
// its balloon's statistics, else its agent's blocks. Only a guest that says nothing
// is taken to use all that it has accepted.
func (r *resizer) guestMemory(ctx context.Context, mem hotplug.Memory) (int64, error) {
	plugged := mem.Plugged()
	all := mem.Base + plugged
	if plugged == 0 {
		return all, nil
	}
	online := r.onlineMemory(ctx, mem)
	s, ok, err := hotplug.ReadStatistics(ctx, r.client)
	if err != nil && !isRefusal(err) {
		return 0, err
	}
	if online == onlineAll {
		return all, nil
	}
	if err == nil && ok && mem.BootTotal > 0 {
		used := min(max(s.Total-mem.BootTotal, 0), plugged)
		if s.At.Before(r.mem.told.Truncate(time.Second)) {
			// From before the last step: good for what the guest had then.
			used = min(used, max(r.mem.guest-mem.Base, 0))
		}
		// Linux may take a 64th of what is plugged for its own tables.
		if plugged-used <= plugged/32 {
			used = plugged
		}
		return mem.Base + used, nil
	}
	if online == onlinePart {
		return mem.Base, nil
	}
	return all, nil
}

// onlineState is what the guest agent says of memory blocks.
type onlineState int

const (
	onlineUnknown onlineState = iota
	onlinePart
	onlineAll
)

// onlineMemory has the guest agent, if there is one, take memory online that is
// not, while a change is under way.
func (r *resizer) onlineMemory(ctx context.Context, mem hotplug.Memory) onlineState {
	if r.mem.guest == r.mem.want || !r.mayAskAgent() {
		return onlineUnknown
	}
	var blocks guestagent.Blocks
	err := r.withAgent(ctx, func(ctx context.Context, c *guestagent.Client) (err error) {
		blocks, err = c.OnlineMemory(ctx)
		return err
	})
	if err != nil {
		r.g.log.Debug("have the guest agent take memory online", "error", err)
		return onlineUnknown
	}
	complete := mem.Device == nil || mem.Device.Size == mem.Device.Requested
	if blocks.Offline == 0 && complete {
		return onlineAll
	}
	return onlinePart
}
