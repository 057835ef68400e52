// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/renew"
)

// backend is what the node API does.
type backend struct{ *agent }

var _ nodeapi.Backend = backend{}

var vmiResource = schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachineinstances"}

func conflict(ref nodeapi.VMIRef, format string, args ...any) error {
	return apierrors.NewConflict(vmiResource, ref.Name, fmt.Errorf(format, args...))
}

func (b backend) find(ref nodeapi.VMIRef) (*guest, error) {
	g := b.guestOf(ref.UID)
	if g == nil || g.name.Namespace != ref.Namespace || g.name.Name != ref.Name {
		return nil, apierrors.NewNotFound(vmiResource, ref.Name)
	}
	return g, nil
}

// running returns a machine with its monitor.
func (b backend) running(ref nodeapi.VMIRef) (*guest, *qmp.Client, error) {
	g, err := b.find(ref)
	if err != nil {
		return nil, nil, err
	}
	client := g.monitor()
	if client == nil {
		if g.snapshot().up {
			return nil, nil, conflict(ref, "the machine's monitor does not answer at the moment, or the machine has ended")
		}
		return nil, nil, conflict(ref, "the machine is not running yet")
	}
	return g, client, nil
}

func (b backend) Pause(ctx context.Context, ref nodeapi.VMIRef) error {
	g, client, err := b.running(ref)
	if err != nil {
		return err
	}
	if err := client.Stop(ctx); err != nil {
		return err
	}
	return g.recheck(ctx, client)
}

func (b backend) Unpause(ctx context.Context, ref nodeapi.VMIRef) error {
	g, client, err := b.running(ref)
	if err != nil {
		return err
	}
	if err := client.Cont(ctx); err != nil {
		return err
	}
	return g.recheck(ctx, client)
}

// recheck has the new state reported without waiting for the event.
func (g *guest) recheck(ctx context.Context, client *qmp.Client) error {
	run, err := client.QueryStatus(ctx)
	if err != nil {
		return err
	}
	if run != g.snapshot().run {
		g.observe(func(o observed) observed { o.run = run; return o })
	}
	return nil
}

// SoftReboot asks the guest to reboot itself, which only its agent can.
func (b backend) SoftReboot(ctx context.Context, ref nodeapi.VMIRef) error {
	g, _, err := b.running(ref)
	if err != nil {
		return err
	}
	if !g.snapshot().agent {
		return conflict(ref, "a soft reboot needs the guest agent, which is not connected: install qemu-guest-agent in the guest, or use reset")
	}
	ctx, cancel := context.WithTimeout(ctx, g.times.question)
	defer cancel()
	c, err := g.guestAgent(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Reboot(ctx)
}

func (b backend) Reset(ctx context.Context, ref nodeapi.VMIRef) error {
	_, client, err := b.running(ref)
	if err != nil {
		return err
	}
	return client.SystemReset(ctx)
}

// Renew replaces QEMU. That goes on when the caller gives up.
func (b backend) Renew(ctx context.Context, ref nodeapi.VMIRef) error {
	g, _, err := b.running(ref)
	if err != nil {
		return err
	}
	if g.images == nil {
		return conflict(ref, "the node has no launcher image to replace QEMU from: the machine gets a new QEMU when it is restarted")
	}
	done := make(chan error, 1)
	go func() { done <- g.renew(g.ctx) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return fmt.Errorf("QEMU of %s is still being replaced; the instance's Events and its condition Renewable will tell how it ends: %w", ref, context.Cause(ctx))
	}
	var o *renew.Obstacle
	switch {
	case err == nil, errors.Is(err, errUpToDate):
		return nil
	case errors.As(err, &o):
		return conflict(ref, "not renewable (%s): %s", o.Reason, o.Message)
	case errors.Is(err, errRenewing):
		return conflict(ref, "%w", err)
	}
	return fmt.Errorf("QEMU of %s was not replaced, the guest runs on with the old one: %w", ref, err)
}

func (b backend) Console(ctx context.Context, ref nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	g, _, err := b.running(ref)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	serial := g.serial
	g.mu.Unlock()
	if isFalse(serial) {
		return nil, conflict(ref, "the machine has no serial console: spec.domain.devices.autoattachSerialConsole is false")
	}
	return open(ctx, &g.console, ref, "console")
}

func (b backend) VNC(ctx context.Context, ref nodeapi.VMIRef) (io.ReadWriteCloser, error) {
	g, err := b.withScreen(ref)
	if err != nil {
		return nil, err
	}
	return open(ctx, &g.vnc, ref, "vnc")
}

func (b backend) withScreen(ref nodeapi.VMIRef) (*guest, error) {
	g, _, err := b.running(ref)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	screen := g.screen
	g.mu.Unlock()
	if isFalse(screen) {
		return nil, conflict(ref, "the machine has no screen: spec.domain.devices.autoattachGraphicsDevice is false")
	}
	return g, nil
}

func open(ctx context.Context, p *console.Port, ref nodeapi.VMIRef, what string) (io.ReadWriteCloser, error) {
	s, err := p.Open(ctx)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, console.ErrEnded), errors.Is(err, console.ErrTakenOver), errors.Is(err, console.ErrFull):
		return nil, conflict(ref, "%s: %w", what, err)
	}
	return nil, fmt.Errorf("%s of %s: %w", what, ref, err)
}

// Limits of a screenshot.
const (
	maxScreenshot = 16 << 20 // bytes of the file
	maxPixels     = 64 << 20
)

func (b backend) Screenshot(ctx context.Context, ref nodeapi.VMIRef, moveCursor bool) ([]byte, error) {
	g, err := b.withScreen(ref)
	if err != nil {
		return nil, err
	}
	g.screenMu.Lock()
	defer g.screenMu.Unlock()
	client := g.monitor()
	if client == nil {
		return nil, conflict(ref, "the machine's monitor does not answer at the moment, or the machine has ended")
	}
	if moveCursor {
		if err := nudge(ctx, client); err != nil {
			return nil, err
		}
	}
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return nil, err
	}
	// The name is new each time: the pod can't prepare anything in its place.
	name := "screen-" + hex.EncodeToString(r[:]) + ".png"
	dumpErr := client.Screendump(ctx, contract.RunDir, name)
	dir, err := g.runDir()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	defer func() { _ = dir.Remove(name) }() // it may not be there, or be the pod's business
	if dumpErr != nil {
		return nil, dumpErr
	}
	pic, err := dir.ReadFile(name, maxScreenshot)
	if err != nil {
		return nil, err
	}
	// Whoever looks at it shall get a picture, whatever the pod has put there.
	conf, err := png.DecodeConfig(bytes.NewReader(pic))
	if err != nil {
		return nil, fmt.Errorf("screenshot of %s: QEMU's picture is no PNG: %w", ref, err)
	}
	if conf.Width <= 0 || conf.Height <= 0 || conf.Width > maxPixels/conf.Height {
		return nil, fmt.Errorf("screenshot of %s: a picture of %d x %d pixels is too large", ref, conf.Width, conf.Height)
	}
	return pic, nil
}

// nudge moves the mouse a little and back, which wakes a screen saver.
func nudge(ctx context.Context, client *qmp.Client) error {
	for _, by := range []int{1, -1} {
		move := func(axis string) map[string]any {
			return map[string]any{"type": "rel", "data": map[string]any{"axis": axis, "value": by}}
		}
		err := client.Execute(ctx, "input-send-event", map[string]any{"events": []any{move("x"), move("y")}}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}
