// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/guestagent"
)

// A channel that the guest opens is asked at once so many times, and then once
// more each interval.
const (
	openBurst    = 10
	openInterval = 10 * time.Second
)

// talk asks a machine's guest agent questions from time to time, while the guest
// has its channel open. Its methods are for one goroutine, the pump.
type talk struct {
	g       *guest
	ctx     context.Context
	cancel  context.CancelFunc
	timer   *time.Timer
	answers chan answers

	open   bool
	openAt time.Time
	asking bool
	asked  int
	// opens bounds what a guest that opens and closes its channel all day makes us ask.
	opens bucket
}

// answers are what the guest says of itself.
type answers struct {
	os   guestagent.OSInfo
	nics []guestagent.Interface
	err  error
}

func newTalk(g *guest, ctx context.Context) *talk {
	ctx, cancel := context.WithCancel(ctx)
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &talk{g: g, ctx: ctx, cancel: cancel, timer: t, answers: make(chan answers, 1)}
}

func (t *talk) stop() {
	t.cancel()
	t.timer.Stop()
}

// channel notes that the guest has opened or closed the agent's channel.
func (t *talk) channel(open bool) {
	switch {
	case open && !t.open:
		t.open, t.openAt, t.asked = true, t.g.now(), 0
		if wait := t.opens.take(t.openAt, openBurst, openInterval); wait > 0 {
			t.timer.Reset(wait)
			return
		}
		t.ask()
	case !open:
		t.open = false
		t.timer.Stop()
		if t.g.snapshot().agent {
			t.g.observe(func(o observed) observed {
				o.agent, o.guestOS, o.guestNICs = false, nil, nil
				return o
			})
		}
	}
}

// ask asks now, unless the last question is not answered yet.
func (t *talk) ask() {
	if !t.open || t.asking {
		return
	}
	t.asking = true
	go func() {
		ctx, cancel := context.WithTimeout(t.ctx, t.g.times.question)
		defer cancel()
		t.answers <- t.g.question(ctx)
	}()
}

// answered takes the answers and sets the time of the next question.
func (t *talk) answered(a answers) {
	t.asking = false
	if !t.open {
		return
	}
	again := t.g.times.askAgain
	t.timer.Reset(again[min(t.asked, len(again)-1)])
	t.asked++
	if a.err != nil {
		t.g.log.Debug("guest agent", "error", a.err)
		return
	}
	t.g.observe(func(o observed) observed {
		o.agent, o.guestOS, o.guestNICs = true, &a.os, a.nics
		return o.withStage(v1.StageGuestAgent, t.openAt)
	})
}

func (g *guest) question(ctx context.Context) (a answers) {
	c, err := g.guestAgent(ctx)
	if err != nil {
		return answers{err: err}
	}
	defer c.Close()
	// An agent that may not answer a question is an agent all the same.
	var refused *guestagent.Error
	if a.os, err = c.OSInfo(ctx); err != nil && !errors.As(err, &refused) {
		return answers{err: err}
	}
	if a.nics, err = c.Interfaces(ctx); err != nil && !errors.As(err, &refused) {
		return answers{err: err}
	}
	return a
}

func (g *guest) guestAgent(ctx context.Context) (*guestagent.Client, error) {
	conn, err := g.dialer(contract.GuestAgentSocket)(ctx)
	if err != nil {
		return nil, err
	}
	return guestagent.New(ctx, conn)
}
