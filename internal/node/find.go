// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// contact is a connection to what runs in the pod: to QEMU's monitor, or to the
// launcher that waits to become QEMU.
type contact struct {
	proc     process
	client   *qmp.Client // nil: the launcher
	launcher net.Conn
	at       time.Time
}

func (c *contact) close() {
	if c.client != nil {
		c.client.Close()
	}
	if c.launcher != nil {
		c.launcher.Close()
	}
	c.proc.Close()
}

// away tells whether an error means that nobody is there (yet).
func away(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EAGAIN) || errors.Is(err, podfs.ErrExited)
}

// runDir opens the pod's directory of sockets. It must be closed soon: an open
// one keeps the kubelet from unmounting it.
func (g *guest) runDir() (*podfs.Dir, error) {
	return g.emptyDir(contract.RunVolume)
}

func (g *guest) emptyDir(volume string) (*podfs.Dir, error) {
	pod, err := podfs.OpenPod(g.kubeletRoot, g.podUID)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	return pod.EmptyDir(volume)
}

// dialer connects to a socket of the pod.
func (g *guest) dialer(socket string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, p, err := g.connect(ctx, socket)
		if err != nil {
			return nil, err
		}
		p.Close()
		return conn, nil
	}
}

func (g *guest) connect(ctx context.Context, socket string) (net.Conn, process, error) {
	dir, err := g.runDir()
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	return g.dial(ctx, dir, socket, g.podUID)
}

// hintBurst is how many hints of a change in the pod's directory are followed at once.
const hintBurst = 100

// find waits until the launcher or QEMU can be reached. The directory comes into
// being while it waits, and a tmpfs is mounted over it, so that it is opened anew
// for each look; the kubelet's word that the container runs would come a second
// later.
func (g *guest) find() (*contact, error) {
	look := backoff{first: g.times.look[0], max: g.times.look[1]}
	since := g.now()
	var hints bucket
	for {
		c, watch, err := g.look()
		if c != nil || err != nil {
			if watch != nil {
				watch.Close()
			}
			return c, err
		}
		var hint <-chan struct{}
		// The first hints count at once; whoever makes files all day gets no more
		// than a look each interval.
		if watch != nil && hints.take(g.now(), hintBurst, g.times.look[0]) == 0 {
			hint = watch.C
		}
		// Look often in the first minute: somebody waits for the machine.
		wait := look.first
		if g.now().Sub(since) > time.Minute {
			wait = look.next()
		}
		t := time.NewTimer(wait)
		select {
		case <-hint:
		case <-t.C:
		case <-g.ctx.Done():
			err = g.ctx.Err()
		}
		t.Stop()
		if watch != nil {
			watch.Close()
		}
		if err != nil {
			return nil, err
		}
	}
}

// look looks once. Without a contact it may return a watch of the directory.
func (g *guest) look() (*contact, *podfs.Watch, error) {
	dir, err := g.runDir()
	if err != nil {
		if away(err) {
			return nil, nil, nil
		}
		return nil, nil, failed(problemLauncher, "%w", err)
	}
	defer dir.Close()
	var watch *podfs.Watch
	if g.notify != nil {
		// Before the look, so that nothing is missed. Without it, polling does.
		watch, _ = g.notify.WatchDir(dir)
	}
	conn, p, err := g.dial(g.ctx, dir, contract.QMPSocket, g.podUID)
	if err == nil {
		client, err := g.handshake(g.ctx, conn)
		if err != nil {
			p.Close()
			return nil, watch, failed(problemMonitor, "%w", err)
		}
		return &contact{proc: p, client: client, at: g.now()}, watch, nil
	}
	if !away(err) {
		return nil, watch, failed(problemLauncher, "reach the machine's monitor: %w", err)
	}
	conn, p, err = g.dial(g.ctx, dir, contract.LauncherSocket, g.podUID)
	if err == nil {
		return &contact{proc: p, launcher: conn, at: g.now()}, watch, nil
	}
	if !away(err) {
		return nil, watch, failed(problemLauncher, "reach the launcher: %w", err)
	}
	return nil, watch, nil
}

func (g *guest) handshake(ctx context.Context, conn net.Conn) (*qmp.Client, error) {
	return qmp.New(ctx, conn, qmp.Options{HandshakeTimeout: g.times.handshake, CommandTimeout: g.times.command, MaxLine: 1 << 20})
}
