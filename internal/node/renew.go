// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/launcherimage"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/renew"
)

const (
	// renewLimit bounds a renewal. The guest stands still for a fraction of a
	// second of it, or for rehearsalLimit if the new QEMU hangs.
	renewLimit     = 2 * time.Minute
	rehearsalLimit = 10 * time.Second
	// renewPoll is how often QEMU is asked how far it is: it has no event for it.
	renewPoll = 10 * time.Millisecond
)

// Reasons of Events.
const (
	eventRenewed     = "Renewed"
	eventRenewFailed = "RenewFailed"
)

var (
	errRenewing = errors.New("the machine's QEMU is being replaced already")
	errUpToDate = errors.New("the machine runs the node's newest QEMU")
)

// renewFailure remembers that an image was tried in vain.
type renewFailure struct{ image, message string }

// renew replaces the machine's QEMU by that of the node's launcher image. When it
// fails the guest runs on with the old one, except in the cases that
// docs/operations.md names. It may be interrupted at any point: what is left is
// either a QEMU that knows nothing of it, or one of the two that runs.
func (g *guest) renew(ctx context.Context) error {
	if !g.renewing.TryLock() {
		return errRenewing
	}
	defer g.renewing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	err := g.renewOnce(ctx)
	var o *renew.Obstacle
	switch {
	case err == nil, errors.Is(err, errUpToDate):
		return err
	case errors.As(err, &o):
		// Nothing was done. The condition says the same.
		return err
	}
	name, _, nerr := g.images.Newest()
	if nerr != nil {
		name = ""
	}
	if g.ctx.Err() == nil {
		g.mu.Lock()
		g.renewFailure = renewFailure{name, err.Error()}
		vmi := g.vmi
		g.mu.Unlock()
		g.events.Eventf(vmi, nil, corev1.EventTypeWarning, eventRenewFailed, eventAction, "%s", printable("QEMU was not replaced, the guest runs on with the old one: "+err.Error()))
		g.log.Warn("QEMU was not replaced", "error", err)
		g.reassess(ctx)
	}
	return err
}

// reassess brings the condition up to date.
func (g *guest) reassess(ctx context.Context) {
	client := g.monitor()
	if client == nil {
		return // the next monitor does
	}
	q, r := g.assess(ctx, client)
	g.observe(func(o observed) observed { o.qemu, o.renewable = q, r; return o })
}

func (g *guest) renewOnce(ctx context.Context) error {
	client := g.monitor()
	g.mu.Lock()
	proc := g.proc
	g.mu.Unlock()
	if client == nil || proc == nil {
		return &renew.Obstacle{Reason: v1.RenewableState, Message: "the machine's monitor does not answer at the moment"}
	}
	exe, err := proc.Exe()
	if err != nil {
		return err
	}
	from := contract.NextOf(exe)
	before, err := runningImage(proc, from)
	if err != nil {
		return fmt.Errorf("find out which QEMU runs: %w", err)
	}
	name, newest, err := g.images.Newest()
	if err != nil {
		return err
	}
	if name == from || !renew.Newer(newest, before) {
		return errUpToDate
	}

	// First what costs nothing.
	if o := g.obstacle(ctx, client, renew.Candidate{Version: newest.QEMUVersion}); o != nil {
		return o
	}
	candidate, err := g.images.Try(ctx)
	if err != nil {
		return err
	}
	if err := g.step(ctx, "agent.renew.before-place"); err != nil {
		return err
	}
	img, err := g.images.Open()
	if err != nil {
		return err
	}
	volume, err := g.nextVolume()
	if err != nil {
		return err
	}
	defer volume.Close()
	// What a renewal left that failed, or that nobody saw the end of.
	if err := launcherimage.Tidy(volume, from, name); err != nil {
		return err
	}
	if err := img.Place(volume); err != nil {
		return err
	}

	// Nothing may be plugged in or out from here on: a device that is not in the
	// new line costs the guest its life.
	g.changing.Lock()
	defer g.changing.Unlock()
	record, commands, err := g.prepareRenewal(ctx, client, candidate, from, name)
	if err != nil {
		return err
	}
	was, err := client.QueryStatus(ctx)
	if err != nil {
		return err
	}
	if err := g.writeRecord(pendingFile, record); err != nil {
		return fmt.Errorf("record the new command line: %w", err)
	}
	if err := g.step(ctx, "agent.renew.before-migrate"); err != nil {
		return err
	}
	g.observe(func(o observed) observed { o.renewing = true; return o })
	failure := g.exchange(ctx, client, commands)
	err = g.takeStock(ctx, proc, was, name, failure)
	g.observe(func(o observed) observed { o.renewing = false; return o })
	if client := g.monitor(); client != nil {
		g.lookAtRun(ctx, client) // or the next monitor
	}
	if err := launcherimage.Tidy(volume, g.renewedFrom(proc, from)); err != nil {
		g.log.Warn("after QEMU was replaced", "error", err)
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.renewFailure = renewFailure{}
	vmi := g.vmi
	g.mu.Unlock()
	g.reassess(ctx)
	note := fmt.Sprintf("QEMU %s was replaced by %s while the guest ran.", describe(before), describe(newest))
	g.events.Eventf(vmi, nil, corev1.EventTypeNormal, eventRenewed, eventAction, "%s", printable(note))
	g.log.Info("QEMU was replaced", "from", describe(before), "to", describe(newest), "image", name)
	return nil
}

func (g *guest) nextVolume() (*os.Root, error) {
	dir, err := g.emptyDir(contract.NextVolume)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenRoot()
}

// prepareRenewal judges the machine as it is now and works out the command lines.
func (g *guest) prepareRenewal(ctx context.Context, client *qmp.Client, candidate renew.Candidate, from, to string) (contract.Machine, contract.Renewal, error) {
	var none contract.Renewal
	record, err := g.readRecord(contract.MachineFile)
	if err != nil {
		return record, none, err
	}
	l, err := live(ctx, client)
	if err != nil {
		return record, none, fmt.Errorf("ask QEMU what it has: %w", err)
	}
	if o := renew.Judge(record.Argv, l, candidate); o != nil {
		return record, none, o
	}
	argv, err := renew.Argv(record.Argv, l.Plugged)
	if err != nil {
		return record, none, err
	}
	commands, err := renew.Commands(argv, from, to)
	if err != nil {
		return record, none, err
	}
	commands.Limit = rehearsalLimit
	record.Version, record.Argv, record.Next = contract.Version, argv, to
	return record, commands, g.clearRun()
}

// clearRun removes what an earlier renewal left among the pod's sockets.
func (g *guest) clearRun() error {
	dir, err := g.runDir()
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range []string{contract.RenewState, contract.RenewResult} {
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// exchange has QEMU write its state and exec the launcher. It returns nil when
// QEMU's monitor is gone: something else runs in its place.
func (g *guest) exchange(ctx context.Context, client *qmp.Client, commands contract.Renewal) error {
	launcher := contract.NextRoot(contract.NextOf(commands.New[0])) + contract.Launcher
	parameters := map[string]any{"mode": "cpr-exec", "cpr-exec-command": append([]string{launcher}, commands.Args()...)}
	if err := client.Execute(ctx, "migrate-set-parameters", parameters, nil); err != nil {
		return fmt.Errorf("prepare QEMU: %w", err)
	}
	if err := g.step(ctx, "agent.renew.before-exec"); err != nil {
		return err
	}
	err := client.Execute(ctx, "migrate", map[string]any{"uri": "file:" + contract.RunDir + "/" + contract.RenewState}, nil)
	if err != nil && !errors.Is(err, qmp.ErrClosed) {
		return fmt.Errorf("have QEMU write its state: %w", err)
	}
	if err := g.step(ctx, "agent.renew.after-exec"); err != nil {
		return err
	}
	tick := time.NewTicker(renewPoll)
	defer tick.Stop()
	for {
		select {
		case <-client.Done():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		var m struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := client.Execute(ctx, "query-migrate", nil, &m); err != nil {
			continue // it is about to go
		}
		if m.Status == "failed" || m.Status == "cancelled" {
			return fmt.Errorf("QEMU could not write its state or execute the launcher: %s", printable(m.Error))
		}
	}
}

// takeStock waits until the guest is as it was, and says what speaks against
// having a new QEMU.
func (g *guest) takeStock(ctx context.Context, proc process, was qmp.Status, want string, failure error) error {
	client, err := g.settled(ctx, was)
	if err != nil {
		return errors.Join(failure, err)
	}
	exe, err := proc.Exe()
	if err != nil {
		return errors.Join(failure, err)
	}
	renewed := contract.NextOf(exe) == want
	if failure == nil && !renewed {
		failure = g.refusal()
	}
	// The parameters of a QEMU that stayed; a new one has none.
	if !renewed {
		err := client.Execute(ctx, "migrate-set-parameters", map[string]any{"mode": "normal"}, nil)
		if err != nil {
			g.log.Debug("after QEMU was not replaced", "error", err)
		}
	}
	if err := g.settle(contract.NextOf(exe)); err != nil {
		return fmt.Errorf("record which QEMU runs: %w", err)
	}
	if err := g.clearRun(); err != nil {
		g.log.Warn("after QEMU was replaced", "error", err)
	}
	if dir, err := g.emptyDir(contract.MachineVolume); err == nil {
		_ = dir.Remove(pendingFile) // of no meaning once machine.json is right
		dir.Close()
	}
	if renewed {
		return nil // whatever was said on the way
	}
	return failure
}

// settled waits for a monitor of a QEMU whose guest is in the state that it was in.
func (g *guest) settled(ctx context.Context, was qmp.Status) (*qmp.Client, error) {
	last := errors.New("its monitor does not answer")
	woken := false
	tick := time.NewTicker(renewPoll)
	defer tick.Stop()
	for {
		if client := g.monitor(); client != nil {
			now, err := client.QueryStatus(ctx)
			switch {
			case err != nil:
				last = err
			case now.Status == was.Status:
				return client, nil
			case was.Running && !woken && (now.Status == qmp.StatePaused || now.Status == qmp.StatePostMigrate):
				// It took the guest over, or came back from a failure, and stands.
				woken = client.Cont(ctx) == nil
			case now.Status == qmp.StateInMigrate, now.Status == qmp.StateFinishMigrate, now.Status == qmp.StatePostMigrate:
				last = fmt.Errorf("it is still %q", now.Status)
			default:
				return client, nil // the guest went on to something else: reset, crash, power-off
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("QEMU did not come back: %w (%w)", last, context.Cause(ctx))
		case <-g.done:
			return nil, errors.New("the machine has ended")
		}
	}
}

// refusal is why the launcher did not become the new QEMU.
func (g *guest) refusal() error {
	const what = "the new QEMU could not take the machine over"
	dir, err := g.runDir()
	if err != nil {
		return errors.New(what)
	}
	defer dir.Close()
	b, err := dir.ReadFile(contract.RenewResult, maxResult)
	var r contract.Renewed
	if err != nil || json.Unmarshal(b, &r) != nil || r.Error == "" {
		return errors.New(what)
	}
	return fmt.Errorf("%s: %s", what, printable(r.Error))
}

// renewedFrom is the image that QEMU runs from, or else the one that it ran from.
func (g *guest) renewedFrom(proc process, from string) string {
	if exe, err := proc.Exe(); err == nil {
		return contract.NextOf(exe)
	}
	return from
}
