// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// viewer is what a hostile user of a machine's screen does with each connection:
// shake is whether it speaks RFB (RFC 6143) at first, read whether it takes off what
// it is sent, and talk is what it says again and again.
type viewer struct {
	shake, read bool
	talk        func() []byte
	// rounds and bytes are how often it was connected and what it got rid of.
	rounds, bytes atomic.Int64
}

// viewers are the hostile users.
func viewers() map[string]*viewer {
	junk := func() []byte {
		b := make([]byte, 32<<10)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	cut := func(length uint32, text int) []byte { // ClientCutText
		b := binary.BigEndian.AppendUint32([]byte{6, 0, 0, 0}, length)
		return append(b, bytes.Repeat([]byte("x"), text)...)
	}
	request := []byte{3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff} // FramebufferUpdateRequest, all of it
	return map[string]*viewer{
		"greets with junk":     {talk: junk, read: true},
		"talks junk":           {shake: true, talk: junk, read: true},
		"cuts a lot of text":   {shake: true, talk: func() []byte { return cut(256<<10, 256<<10) }, read: true},
		"cuts endless text":    {shake: true, talk: func() []byte { return cut(1<<31-1, 1<<20) }, read: true},
		"asks and never looks": {shake: true, talk: func() []byte { return bytes.Repeat(request, 1000) }},
	}
}

// run connects and talks until ctx ends.
func (v *viewer) run(ctx context.Context, ns, name string) {
	for ctx.Err() == nil {
		conn, _, err := stream(ctx, shared.REST, ns, name, "vnc")
		if err != nil {
			continue // the last one is still being ended
		}
		v.rounds.Add(1)
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		if !v.shake || shakeHands(conn) == nil {
			v.flood(conn)
		}
		stop()
		conn.Close()
	}
}

func (v *viewer) flood(conn *websocket.Conn) {
	if v.read {
		go func() {
			for {
				if _, _, err := conn.NextReader(); err != nil {
					return
				}
			}
		}()
	}
	for {
		b := v.talk()
		// Who is no longer listened to comes again.
		if err := conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return
		}
		if err := conn.WriteMessage(websocket.BinaryMessage, b); err != nil {
			return
		}
		v.bytes.Add(int64(len(b)))
	}
}

// shakeHands speaks RFB 3.8 up to where the screen would be asked for.
func shakeHands(conn *websocket.Conn) error {
	var have []byte
	take := func(n int) ([]byte, error) {
		for len(have) < n {
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				return nil, err
			}
			_, b, err := conn.ReadMessage()
			if err != nil {
				return nil, err
			}
			have = append(have, b...)
		}
		b := have[:n]
		have = have[n:]
		return b, nil
	}
	for _, step := range []struct {
		expect int // bytes
		answer []byte
	}{
		{12, []byte("RFB 003.008\n")},
		{2, []byte{1}}, // one kind of security: none
		{4, []byte{1}}, // all is well; others may look, too
		{24, nil},      // the screen's size and format; its name may follow
	} {
		if _, err := take(step.expect); err != nil {
			return err
		}
		if step.answer != nil {
			if err := conn.WriteMessage(websocket.BinaryMessage, step.answer); err != nil {
				return err
			}
		}
	}
	return conn.SetReadDeadline(time.Time{})
}

// Users who may look at a machine's screen talk junk, paste without end and ask for
// what they never take off. Another viewer sees the screen meanwhile, both the
// machine's console and its neighbour's answer, and the agent's memory has its
// limits. By itself, as it measures the process that all share: no t.Parallel.
func TestVNCFlood(t *testing.T) {
	ns := namespace(t)
	create(t, tinyVM(ns, "good"), tinyVM(ns, "seen"))
	seen := running(t, ns, "seen")
	for _, name := range []string{"good", "seen"} {
		logContains(t, running(t, ns, name), `SKERRY-GUEST READY`)
	}
	good, own := openConsole(t, ns, "good"), openConsole(t, ns, "seen")
	good.run("true")
	own.run("true")
	pod, before := podOf(t, seen), residentMiB(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	all := viewers()
	for _, v := range all {
		wg.Go(func() { v.run(ctx, ns, "seen") })
	}
	for name, v := range all {
		waitFor(t, "the viewer that "+name, func() (bool, string) {
			return v.rounds.Load() > 0 && v.bytes.Load() > 0, fmt.Sprint(v.rounds.Load(), v.bytes.Load())
		})
	}
	for range 10 {
		for name, c := range map[string]*console{"good": good, "seen": own} {
			if got := c.run("echo $((6 * 7))"); got != "42" {
				t.Errorf("the console of %s says %q", name, got)
			}
		}
	}
	waitFor(t, "another viewer to see the screen", func() (bool, string) {
		out, err := shared.CLI(t.Context(), "vnc", "-n", ns, "screenshot", "seen", "--file", filepath.Join(t.TempDir(), "screen.png"))
		return err == nil, out
	})
	after := residentMiB(t)
	cancel()
	wg.Wait()
	for name, v := range all {
		t.Logf("the viewer that %s: connected %d times, %d kB", name, v.rounds.Load(), v.bytes.Load()>>10)
	}
	t.Logf("memory of the skerry process: %d MiB, then %d MiB", before, after)
	if after > before+150 {
		t.Errorf("the skerry process grew from %d MiB to %d MiB", before, after)
	}
	if now := podOf(t, running(t, ns, "seen")); now.UID != pod.UID || now.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the machine was replaced")
	}
	if got := own.run("echo $((6 * 7))"); got != "42" {
		t.Errorf("the machine's console says %q", got)
	}
}
