// SPDX-License-Identifier: Apache-2.0

package resize

import (
	"fmt"
	"testing"
)

// world is everything that takes part in the resize of one resource, with sizes
// of 1 to 3. It is comparable, so that all worlds that can come about are found.
type world struct {
	spec  int8 // what the instance asks for
	edits int8 // that the user has left

	said                int8Said // what the controller published
	announced, reported int8     // what the agent published

	have, view, alloc, actual pod  // the pod's spec; what the kubelet saw of it; gave; told of
	seen, allocated, settled  bool // view, alloc and actual are of the present spec
	pending                   Pending
	cgroup                    pod

	told, held int8

	// A party in the middle of its step: what it decided, and whether the instance
	// was changed by another since it looked.
	ctl, agent pass
}

type int8Said struct {
	stage                  Stage
	target, limit, request int8
}

type pod struct{ req, lim int8 }

type pass struct {
	at    int8 // 0 idle, 1 decided, 2 published
	stale bool
	step  Step
	want  int8
}

// rules are what the explored worlds have in common.
type rules struct {
	limited  bool
	capacity int8 // what the node can ever give
	deferred bool // beyond the capacity the kubelet defers rather than refuses
	refuse   bool // the API server refuses what is above the capacity
}

func (r rules) need(g int8) pod {
	if r.limited {
		return pod{g, g + 1}
	}
	return pod{g, 0}
}

func amounts(p pod) Amounts  { return Amounts{int64(p.req), int64(p.lim)} }
func small(a Amounts) pod    { return pod{int8(a.Request), int8(a.Limit)} }
func (s int8Said) big() Said { return Said{s.stage, int64(s.target), int64(s.limit), int64(s.request)} }
func smallSaid(s Said) int8Said {
	return int8Said{s.Stage, int8(s.Target), int8(s.Limit), int8(s.Request)}
}

func (w world) want(r rules) Want {
	return Want{Guest: int64(w.spec), Pod: amounts(r.need(w.spec)), Floor: amounts(r.need(max(w.announced, w.reported)))}
}

func (w world) pod(r rules) Pod {
	p := Pod{Known: true, Have: amounts(w.have), Actual: amounts(w.actual), Settled: w.settled, Pending: w.pending, Said: w.said.big()}
	p.Held = p.Said.Refuses(w.want(r))
	return p
}

// changed notes a write to the instance by a party.
func (w *world) changed(byCtl, byAgent bool) {
	if !byCtl && w.ctl.at != 0 {
		w.ctl.stale = true
	}
	if !byAgent && w.agent.at != 0 {
		w.agent.stale = true
	}
}

// controller makes its next move, if it has one.
func (w world) controller(r rules) (world, bool) {
	switch w.ctl.at {
	case 0:
		p := w.pod(r)
		m := Machine{int64(w.announced), int64(w.reported), int64(w.reported)}
		s := Next(w.want(r), p, Cgroup{}, m, Guest{Size: min(m.Told, m.Held), Usage: 1})
		if s.Action == GrowPod && r.refuse && small(s.Pod).req > r.capacity {
			s = Step{Action: Hold}
			said := Refuse(Step{Guest: int64(w.spec), wish: amounts(r.need(w.spec))})
			if smallSaid(said) == w.said {
				return w, false
			}
			w.ctl = pass{at: 1, step: Step{Action: -1}, want: w.spec}
			return w, true
		}
		if smallSaid(Say(s, p)) == w.said && s.Action != GrowPod && s.Action != CutPod && s.Action != RevertPod {
			return w, false
		}
		w.ctl = pass{at: 1, step: s, want: w.spec}
	case 1: // publish, under the lock
		if w.ctl.stale {
			w.ctl = pass{}
			return w, true
		}
		s := w.ctl.step
		said := smallSaid(Say(s, w.pod(r)))
		if s.Action == -1 {
			said = smallSaid(Refuse(Step{Guest: int64(w.spec), wish: amounts(r.need(w.spec))}))
		}
		if said != w.said {
			w.said = said
			w.changed(true, false)
		}
		w.ctl.at = 2
		if s.Action != GrowPod && s.Action != CutPod && s.Action != RevertPod {
			w.ctl = pass{}
		}
	case 2: // look once more, and change the pod
		if !w.ctl.stale {
			// What the kubelet said is about an older spec from now on.
			w.have, w.seen, w.allocated, w.settled, w.pending = small(w.ctl.step.Pod), false, false, false, NotPending
		}
		w.ctl = pass{}
	}
	return w, true
}

// node makes the agent's next move, if it has one.
func (w world) node(r rules) (world, bool) {
	switch w.agent.at {
	case 0:
		m := Machine{int64(w.announced), int64(w.told), int64(w.held)}
		s := Next(Want{Guest: int64(w.spec)}, Pod{Said: w.said.big()}, Cgroup{Known: true, Limit: int64(w.cgroup.lim)}, m,
			Guest{Size: int64(min(w.told, w.held)), Usage: 1})
		switch {
		case s.Action == Announce, s.Action == Plug, s.Action == Unplug:
		case w.reported != max(w.told, w.held):
			s = Step{Action: -1} // write what is true of the machine
		default:
			return w, false
		}
		w.agent = pass{at: 1, step: s}
	case 1:
		s, stale := w.agent.step, w.agent.stale
		w.agent = pass{}
		switch s.Action {
		case Plug, Unplug:
			w.told = int8(s.Guest)
			w.held = max(w.held, w.told) // the worst: all of it at once
		case Announce:
			if !stale {
				w.announced, w.reported = int8(s.Guest), max(w.told, w.held)
				w.changed(false, true)
			}
		default:
			if !stale {
				w.reported = max(w.told, w.held)
				w.changed(false, true)
			}
		}
	}
	return w, true
}

// kubelet are the moves that the kubelet can make.
func (w world) kubelet(r rules) []world {
	var out []world
	add := func(change func(*world)) {
		next := w
		if change(&next); next != w {
			out = append(out, next)
		}
	}
	add(func(w *world) { w.view, w.seen = w.have, true }) // it may see every spec, or skip some
	add(func(w *world) {
		w.allocated, w.pending = w.seen, NotPending
		switch {
		case w.view.req <= r.capacity || w.view.req <= w.alloc.req:
			w.alloc = w.view
		case r.deferred:
			w.pending = Deferred
		default:
			w.pending = Infeasible
		}
		if w.pending != NotPending && !w.seen {
			w.pending = NotPending // about an older spec: its condition does not count
		}
		if w.pending != NotPending {
			w.settled = false
		}
	})
	add(func(w *world) {
		// Limits below what the guest holds are refused for want of reclaimed memory.
		if w.alloc.lim == 0 || w.alloc.lim > w.held {
			w.cgroup = w.alloc
		}
	})
	add(func(w *world) {
		w.actual = w.cgroup
		w.settled = w.allocated && w.pending == NotPending && w.cgroup == w.alloc && w.alloc == w.have
	})
	return out
}

func (w world) moves(r rules) []world {
	out := w.kubelet(r)
	if next, ok := w.controller(r); ok {
		out = append(out, next)
	}
	if next, ok := w.node(r); ok {
		out = append(out, next)
	}
	if w.held != w.told { // the guest gives back
		next := w
		next.held--
		out = append(out, next)
	}
	for g := int8(1); g <= 3 && w.edits > 0; g++ {
		if g != w.spec {
			next := w
			next.spec = g
			next.edits--
			next.changed(false, false)
			out = append(out, next)
		}
	}
	if w.ctl.at != 0 { // killed
		next := w
		next.ctl = pass{}
		out = append(out, next)
	}
	if w.agent.at != 0 {
		next := w
		next.agent = pass{}
		out = append(out, next)
	}
	return out
}

func (w world) unsafe() string {
	hold := max(w.told, w.held)
	switch {
	case w.cgroup.lim != 0 && w.cgroup.lim <= hold:
		return "the cgroup's limit does not cover what the guest holds"
	case w.cgroup.req < hold:
		return "the guest holds more than the node has set aside for it"
	case w.have.req < hold || w.have.lim != 0 && w.have.lim <= hold:
		return "the pod was asked to become smaller than the guest"
	}
	return ""
}

// settle lets everybody but the user go on until nothing changes.
func (w world) settle(r rules) (world, bool) {
	w.edits = 0
	for range 200 {
		before := w
		for w.ctl.at != 0 {
			w, _ = w.controller(r)
		}
		for moved := true; moved; {
			w, moved = w.node(r)
		}
		for w.held > w.told {
			w.held--
		}
		for range 4 {
			if k := w.kubelet(r); len(k) > 0 {
				w = k[0]
			}
		}
		w, _ = w.controller(r)
		if w == before {
			return w, true
		}
	}
	return w, false
}

func (w world) unfinished(r rules) string {
	goal := r.need(w.spec)
	fits := goal.req <= r.capacity
	switch {
	case w.have != w.cgroup && !(r.deferred && !fits):
		return "the pod's spec and its cgroup differ"
	case max(w.told, w.held) != min(w.told, w.held):
		return "the guest is half way"
	case fits && (w.have != goal || w.told != w.spec || w.said.stage != Finished):
		return "it fits and was not done"
	case !fits && r.deferred && w.said.stage != Waits:
		return "it is deferred and does not say so"
	case !fits && !r.deferred && w.said.stage != NoWay && w.said.stage != Refused:
		return "it does not fit and does not say so"
	}
	return ""
}

// Every order of events: the user changes her mind at any point and in both
// directions, each process is killed between any two of its steps, the kubelet
// sees every spec or skips some, takes its time, defers or refuses.
func TestEveryOrder(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]rules{
		"limits":              {limited: true, capacity: 3},
		"no limits":           {capacity: 3},
		"limits, infeasible":  {limited: true, capacity: 2},
		"infeasible":          {capacity: 2},
		"limits, deferred":    {limited: true, capacity: 2, deferred: true},
		"deferred":            {capacity: 2, deferred: true},
		"limits, API refuses": {limited: true, capacity: 2, refuse: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := r.need(1)
			start := world{
				spec: 1, edits: 4, announced: 1, reported: 1, told: 1, held: 1,
				have: p, view: p, alloc: p, actual: p, cgroup: p, seen: true, allocated: true, settled: true,
				said: int8Said{stage: Finished, target: 1, request: 1},
			}
			from := map[world]world{start: start}
			queue := []world{start}
			for len(queue) > 0 {
				w := queue[0]
				queue = queue[1:]
				if bad := w.unsafe(); bad != "" {
					t.Fatalf("%s:\n%s", bad, trace(from, w))
				}
				if w.ctl.at == 0 && w.agent.at == 0 {
					end, still := w.settle(r)
					if !still {
						t.Fatalf("never comes to rest:\n%s→ %+v", trace(from, w), end)
					}
					if bad := end.unfinished(r); bad != "" {
						t.Fatalf("%s:\n%s→ %+v", bad, trace(from, w), end)
					}
				}
				for _, next := range w.moves(r) {
					if _, ok := from[next]; !ok {
						from[next] = w
						queue = append(queue, next)
					}
				}
			}
			t.Logf("%d worlds", len(from))
		})
	}
}

func trace(from map[world]world, w world) string {
	out := ""
	for n := 0; n < 40; n++ {
		out = fmt.Sprintf("%+v\n", w) + out
		if from[w] == w {
			break
		}
		w = from[w]
	}
	return out
}
