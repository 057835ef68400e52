// SPDX-License-Identifier: Apache-2.0

package resize

import v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"

// Amounts are what a pod's container has of one resource: bytes, or thousandths
// of a CPU.
type Amounts struct {
	Request int64
	// Limit is 0 where there is none.
	Limit int64
}

// Max is the larger of each; no limit is the largest limit.
func (a Amounts) Max(b Amounts) Amounts {
	out := Amounts{Request: max(a.Request, b.Request), Limit: max(a.Limit, b.Limit)}
	if a.Limit == 0 || b.Limit == 0 {
		out.Limit = 0
	}
	return out
}

// Covers tells whether neither of b's amounts is above a's.
func (a Amounts) Covers(b Amounts) bool { return a.Max(b) == a }

// Want is what the instance's spec asks for.
type Want struct {
	// Guest is the size of the guest: virtual CPUs, or bytes.
	Guest int64
	// Pod is what its pod needs for that. The agent leaves it out.
	Pod Amounts
	// Floor is what its pod needs for what it has to go on covering, Machine.Most.
	// The agent leaves it out.
	Floor Amounts
}

// Pending is what the kubelet says about a change of the pod's spec that it has
// not acted on.
type Pending int

// What it says.
const (
	NotPending Pending = iota // nothing, or nothing yet
	Deferred                  // not now
	Infeasible                // never on this node
)

// Pod is the machine's pod.
type Pod struct {
	// Known says that the pod itself was read, as the controller does; the agent
	// has only Said.
	Known bool
	// Have is what the pod's spec has, Actual what its kubelet has given it.
	Have, Actual Amounts
	// Settled says that the kubelet has seen this very spec and is done with it:
	// nothing older is under way that could still change the cgroup.
	Settled bool
	Pending Pending
	// Said is what the controller has published.
	Said Said
	// Held says that a refusal of exactly this wish stands: it is not tried again yet.
	Held bool
	// Hurry says that the agent has not answered a call to reclaim for long. The
	// kubelet checks by itself, so the cut is tried without.
	Hurry bool
}

// Stage is what the controller did last, as it is published.
type Stage = v1.PodResizeStep

// Stages.
const (
	None       Stage = ""
	Refused          = v1.PodResizeRefused
	NoWay            = v1.PodResizeInfeasible
	Waits            = v1.PodResizeDeferred
	Asked            = v1.PodResizeAsked
	Granted          = v1.PodResizeGranted
	GuestFirst       = v1.PodResizeGuestFirst
	Reclaiming       = v1.PodResizeReclaim
	Shrinking        = v1.PodResizeShrinking
	Finished         = v1.PodResizeDone
)

// Said is what the controller publishes for the agent and for people.
type Said struct {
	Stage  Stage
	Target int64 // the guest's size that it is about
	// Limit is the pod's limit that the stage changes, 0 for none. Of a refusal it
	// is the one that was refused.
	Limit int64
	// Request is the pod's request that the stage asks for, or that was refused.
	Request int64
}

// Cgroup is the limit that the pod's cgroup has now. The controller leaves it out.
type Cgroup struct {
	Known bool
	Limit int64 // 0: none
}

// Machine is QEMU's side, in the guest's sizes. For the controller all three are
// what the agent has written.
type Machine struct {
	// Announced is the size that the agent has written that it acts for.
	Announced int64
	// Told is the size that QEMU has been told.
	Told int64
	// Held is what the guest has not given back, whatever QEMU was told.
	Held int64
}

// Most is the size that the pod has to go on covering.
func (m Machine) Most() int64 { return max(m.Announced, m.Told, m.Held) }

// Guest is what the guest says.
type Guest struct {
	// Size is what it really uses: onlined virtual CPUs, or bytes.
	Size int64
	// Usage is, in bytes, what the pod's cgroup is charged with after a call to
	// reclaim; 0 while there is no answer to it.
	Usage int64
}

// Action is a step's kind.
type Action int

// The actions, the controller's and then the agent's.
const (
	Done Action = iota // nothing is to be done
	// GrowPod asks the kubelet for Step.Pod.
	GrowPod
	// AwaitKubelet: the kubelet has not acted on the pod's spec.
	AwaitKubelet
	// RevertPod puts the pod's spec back to Step.Pod, what it really has.
	RevertPod
	// Hold: it was refused and is not tried again yet.
	Hold
	// CutPod takes what the guest no longer needs: Step.Pod.
	CutPod

	// AwaitPod: the pod does not cover the size yet.
	AwaitPod
	// Announce writes that the agent now acts for Step.Guest, and what QEMU was told.
	Announce
	// Plug tells QEMU to grow to Step.Guest.
	Plug
	// Unplug tells QEMU to have the guest give back down to Step.Guest.
	Unplug
	// AwaitGuest: QEMU has been told, the guest has not followed.
	AwaitGuest
	// Reclaim: bring what the pod's cgroup is charged with below Step.Pod.Limit and
	// write how much it is then.
	Reclaim
)

// Owner is a process.
type Owner int

// The owners.
const (
	Nobody Owner = iota
	Controller
	Agent
)

// Owner is who does it, or is waited for.
func (a Action) Owner() Owner {
	switch a {
	case GrowPod, RevertPod, CutPod, AwaitPod:
		return Controller
	case Announce, Plug, Unplug, AwaitGuest, Reclaim:
		return Agent
	default:
		return Nobody
	}
}

// Step is what comes next.
type Step struct {
	Action Action
	Guest  int64   // the guest's size that it is about
	Pod    Amounts // for the pod's steps and Reclaim
	// Down says that the guest is to give back.
	Down bool
	wish Amounts
}

// Next decides what comes next for one resource.
func Next(w Want, p Pod, c Cgroup, m Machine, g Guest) Step {
	s := next(w, p, c, m, g)
	s.Guest, s.wish = w.Guest, w.Pod
	return s
}

func next(w Want, p Pod, c Cgroup, m Machine, g Guest) Step {
	if w.Guest < m.Most() {
		return down(w, m)
	}
	if p.Known {
		if s, found := raise(w, p); found {
			return s
		}
	} else if !p.Said.covers(w.Guest, c) && w.Guest > min(m.Announced, m.Told) {
		return Step{Action: AwaitPod}
	}
	switch {
	case m.Announced != w.Guest:
		return Step{Action: Announce}
	case m.Told != w.Guest:
		return Step{Action: Plug}
	case m.Held != w.Guest || g.Size != w.Guest:
		return Step{Action: AwaitGuest}
	}
	if p.Known {
		return trim(w, p, g)
	}
	if (p.Said.Stage == Reclaiming || p.Said.Stage == Shrinking) && p.Said.Limit > 0 && (c.Limit == 0 || c.Limit > p.Said.Limit) &&
		p.Said.Target == w.Guest && (g.Usage == 0 || g.Usage >= p.Said.Limit) {
		return Step{Action: Reclaim, Pod: Amounts{Limit: p.Said.Limit}}
	}
	return Step{Action: Done}
}

// down has the guest give back.
func down(w Want, m Machine) Step {
	s := Step{Action: AwaitGuest, Down: true}
	switch {
	case m.Announced != w.Guest:
		s.Action = Announce
	case m.Told != w.Guest:
		s.Action = Unplug
	}
	return s
}

// covers tells whether the kubelet has granted what the guest needs at that size.
func (s Said) covers(guest int64, c Cgroup) bool {
	switch {
	case s.Target != guest:
		return false
	case s.Stage == Asked:
		return s.Limit > 0 && c.Known && (c.Limit == 0 || c.Limit >= s.Limit)
	default:
		return s.Stage == Granted || s.Stage == Reclaiming || s.Stage == Shrinking || s.Stage == Finished
	}
}

// Room is whether the pod's memory is enough for what is to be plugged.
type Room int

// What it can be.
const (
	HasRoom     Room = iota
	RoomAsked        // it is under way
	RoomRefused      // it was refused, or waits for room on the node
)

// Room tells what the controller has published about memory, together with the
// pod's memory limit c, says of the memory that plugged vCPUs cost. guest is the
// guest's memory that the spec asks for. Both halves of a change are published in
// one write, so that what is said about memory is never older than what is said
// about the vCPUs.
func (s Said) Room(guest int64, c Cgroup) Room {
	switch {
	case c.Known && c.Limit == 0, s.Stage == None:
		return HasRoom // nothing holds it to a limit; nothing more is needed
	case s.Target != guest:
		return RoomAsked // this is about an older wish
	case s.Limit > 0 && c.Known && c.Limit >= s.Limit && (s.Stage == Refused || s.Stage == NoWay || s.Stage == Asked):
		return HasRoom // whatever was said, there it is
	case s.Stage == Refused, s.Stage == NoWay, s.Stage == Waits:
		return RoomRefused
	case s.Stage == Asked:
		return RoomAsked
	}
	return HasRoom
}

// raise sees that the pod has at least what is needed.
func raise(w Want, p Pod) (Step, bool) {
	// Not what was asked and more: an older wish may have asked for too much.
	goal := p.Actual.Max(w.Pod)
	open := !p.Actual.Covers(p.Have) // more was asked for than it has
	// What the kubelet last told may be older than what the agent saw in the cgroup.
	back := p.Actual.Max(w.Floor)
	switch {
	case p.Held && !p.Actual.Covers(w.Pod) && open && p.Have != back:
		return Step{Action: RevertPod, Pod: back}, true
	case p.Held && !p.Actual.Covers(w.Pod):
		return Step{Action: Hold}, true
	case !p.Have.Covers(w.Pod), open && p.Have != goal:
		return Step{Action: GrowPod, Pod: goal}, true
	case open && p.Pending == Infeasible:
		return Step{Action: RevertPod, Pod: back}, true
	case !p.Actual.Covers(w.Pod), !p.Settled:
		return Step{Action: AwaitKubelet, Pod: p.Have}, true
	}
	return Step{}, false
}

// trim takes from the pod what the guest, which has what it should, does not need.
func trim(w Want, p Pod, g Guest) Step {
	cut := w.Pod.Limit > 0 && (p.Actual.Limit == 0 || p.Actual.Limit > w.Pod.Limit)
	switch {
	case p.Held && p.Have != w.Pod:
		return Step{Action: Hold}
	case p.Have != w.Pod && cut && !p.Hurry && (g.Usage == 0 || g.Usage >= w.Pod.Limit):
		return Step{Action: Reclaim, Pod: w.Pod}
	case p.Have != w.Pod:
		return Step{Action: CutPod, Pod: w.Pod}
	case p.Actual != w.Pod:
		return Step{Action: AwaitKubelet, Pod: w.Pod}
	}
	return Step{Action: Done}
}

// Say is what the controller publishes about a step that it has decided on,
// before it carries it out.
func Say(s Step, p Pod) Said {
	out := Said{Target: s.Guest, Request: s.wish.Request}
	switch s.Action {
	case GrowPod:
		out.Stage = Asked
		// Only where nothing older is under way does the cgroup prove anything.
		if p.Settled && p.Actual.Limit > 0 && s.Pod.Limit > p.Actual.Limit {
			out.Limit = s.Pod.Limit
		}
	case AwaitKubelet:
		switch {
		case p.Pending == Deferred:
			out.Stage = Waits
		case p.Said.Stage == Shrinking && p.Said.Target == s.Guest:
			out.Stage, out.Limit = Shrinking, p.Said.Limit
		case p.Said.Stage == Asked && p.Said.Target == s.Guest:
			out.Stage, out.Limit = Asked, p.Said.Limit
		default:
			out.Stage = Asked
		}
	case RevertPod:
		out.Stage, out.Limit = NoWay, s.wish.Limit
	case Announce, Plug, Unplug, AwaitGuest:
		out.Stage = Granted
		if s.Down {
			out.Stage = GuestFirst
		}
	case Reclaim:
		out.Stage, out.Limit = Reclaiming, s.Pod.Limit
	case CutPod:
		out.Stage = Shrinking
		if s.Pod.Limit != p.Actual.Limit {
			out.Limit = s.Pod.Limit
		}
	case Done:
		out.Stage = Finished
	case Hold, AwaitPod:
		return p.Said
	}
	return out
}

// Refuse is what the controller publishes when the API server will not have the
// step.
func Refuse(s Step) Said {
	return Said{Stage: Refused, Target: s.Guest, Request: s.wish.Request, Limit: s.wish.Limit}
}

// Refuses tells whether this is a refusal of exactly that wish.
func (s Said) Refuses(w Want) bool {
	return (s.Stage == Refused || s.Stage == NoWay) && s.Target == w.Guest && s.Request == w.Pod.Request && s.Limit == w.Pod.Limit
}
