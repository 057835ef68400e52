// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/nodeapi"
)

// runtimeSocket is a socket of the host's, such as the container runtime's, that
// counts who connects.
func runtimeSocket(t *testing.T) (path string, connected *atomic.Int32) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rt")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "containerd.sock")
	ln, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	connected = new(atomic.Int32)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			c.Close()
		}
	}()
	return path, connected
}

// tricks are what a pod can put where the agent expects something of its own. Each
// gets the path to fill, a secret of the host's and a socket of the host's.
var tricks = map[string]func(t *testing.T, path, secret, socket string){
	"link to a file":   func(t *testing.T, path, secret, _ string) { must(t, os.Symlink(secret, path)) },
	"link to a socket": func(t *testing.T, path, _, socket string) { must(t, os.Symlink(socket, path)) },
	"link out by dots": func(t *testing.T, path, _, socket string) { must(t, os.Symlink("../../../../../../.."+socket, path)) },
	"link to itself":   func(t *testing.T, path, _, _ string) { must(t, os.Symlink(filepath.Base(path), path)) },
	"FIFO":             func(t *testing.T, path, _, _ string) { must(t, unix.Mkfifo(path, 0o666)) },
	"directory":        func(t *testing.T, path, _, _ string) { must(t, os.Mkdir(path, 0o777)) },
	"hard link":        func(t *testing.T, path, secret, _ string) { must(t, os.Link(secret, path)) },
}

const secretText = "the host's secret\n"

// A console log that is something else is neither read, written nor waited for; the
// machine goes on.
func TestHostileConsoleLog(t *testing.T) {
	t.Parallel()
	for name, trick := range tricks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, connected := runtimeSocket(t)
			w := newWorld(t, testVMI())
			p := w.addPod(testPod)
			secret := filepath.Join(w.root, "secret") // on one file system with the volumes, for links
			must(t, os.WriteFile(secret, []byte(secretText), 0o600))
			trick(t, p.path(contract.LogVolume, contract.ConsoleLog), secret, socket)
			p.qemu.ServeListener(p.listen(contract.QMPSocket))
			w.start()
			w.until("phase Running", running)
			w.poll(func() bool { g := w.agent.guestOf(testUID); return g != nil && g.monitor() != nil }, func() string { return "no monitor" })
			must(t, backend{w.agent}.Pause(t.Context(), testRef))
			p.exit() // the log's copier has had its chance then
			w.poll(func() bool { return w.agent.guestOf(testUID).monitor() == nil }, func() string { return "not let go" })
			w.crash()
			p.stdout.Close()
			if b, err := io.ReadAll(p.out); err != nil || strings.Contains(string(b), "secret") {
				t.Errorf("the container's log has %q, %v", b, err)
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != secretText {
				t.Errorf("the host's file is now %q, %v", b, err)
			}
			if n := connected.Load(); n != 0 {
				t.Errorf("the host's socket was connected to %d times", n)
			}
		})
	}
}

// A socket that is something else is not connected to (CVE-2026-7374: the console's
// pointed at the container runtime's; CVE-2025-64437: the launcher's a symbolic
// link), and whoever asked for it hears so at once.
func TestHostileSockets(t *testing.T) {
	t.Parallel()
	for name, trick := range tricks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, connected := runtimeSocket(t)
			w := newWorld(t, testVMI())
			p := w.addPod(testPod)
			secret := filepath.Join(w.root, "secret")
			must(t, os.WriteFile(secret, []byte(secretText), 0o600))
			// First it is the launcher's socket.
			at := p.path(contract.RunVolume, contract.LauncherSocket)
			trick(t, at, secret, socket)
			w.start()
			if name != "link out by dots" { // may dangle, that is nobody there
				w.until("a problem", has(v1.VMISynchronized))
			}
			must(t, os.RemoveAll(at))
			p.boot()
			w.until("phase Running", running)
			w.poll(func() bool { return w.agent.guestOf(testUID).monitor() != nil }, func() string { return "no monitor" })
			for _, s := range []string{contract.SerialSocket, contract.VNCSocket, contract.GuestAgentSocket} {
				trick(t, p.path(contract.RunVolume, s), secret, socket)
			}
			b := backend{w.agent}
			if c, err := b.Console(t.Context(), testRef); err == nil {
				c.Close()
				t.Error("the console was opened")
			}
			if c, err := b.VNC(t.Context(), testRef); err == nil {
				c.Close()
				t.Error("the screen was opened")
			}
			if _, err := w.agent.guestOf(testUID).guestAgent(t.Context()); err == nil {
				t.Error("the guest agent was reached")
			}
			must(t, b.Pause(t.Context(), testRef))
			if n := connected.Load(); n != 0 {
				t.Errorf("the host's socket was connected to %d times", n)
			}
		})
	}
}

// A picture that is something else is not taken for one, nor waited for.
func TestHostileScreenshot(t *testing.T) {
	t.Parallel()
	for name, trick := range tricks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, _ := runtimeSocket(t)
			w, p := runningWorld(t)
			secret := filepath.Join(w.root, "secret")
			must(t, os.WriteFile(secret, []byte(secretText), 0o600))
			p.qemu.Handle("screendump", func(args json.RawMessage) (any, error) {
				var a struct{ Filename string }
				_ = json.Unmarshal(args, &a)
				trick(t, p.path(contract.RunVolume, filepath.Base(a.Filename)), secret, socket)
				return nil, nil
			})
			if b, err := (backend{w.agent}).Screenshot(t.Context(), testRef, false); err == nil {
				t.Errorf("a picture of %d bytes", len(b))
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != secretText {
				t.Errorf("the host's file is now %q, %v", b, err)
			}
		})
	}
	t.Run("huge", func(t *testing.T) {
		t.Parallel()
		w, p := runningWorld(t)
		p.qemu.Handle("screendump", func(args json.RawMessage) (any, error) {
			var a struct{ Filename string }
			_ = json.Unmarshal(args, &a)
			path := p.path(contract.RunVolume, filepath.Base(a.Filename))
			must(t, os.WriteFile(path, nil, 0o600))
			return nil, os.Truncate(path, 1<<40)
		})
		if _, err := (backend{w.agent}).Screenshot(t.Context(), testRef, false); err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("err = %v", err)
		}
	})
}

// neighbour is a second machine on the node, which must be served whatever the
// first one's pod does.
func neighbour(t *testing.T) (*v1.VirtualMachineInstance, string, nodeapi.VMIRef) {
	t.Helper()
	vmi := testVMI()
	const pod = "11111111-1c0e-4b7e-9d0e-3a9a3c1f5e11"
	vmi.Name, vmi.UID = "vm2", "22222222-0000-4000-8000-3a9a3c1f5e22"
	vmi.Status.ActivePods = map[string]string{pod: testNode}
	return vmi, pod, nodeapi.VMIRef{Namespace: vmi.Namespace, Name: vmi.Name, UID: vmi.UID}
}

// liar accepts connections and hands each to talk.
func liar(t *testing.T, p *pod, socket string, talk func(net.Conn)) {
	t.Helper()
	ln := p.listen(socket)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); talk(c) }()
		}
	}()
}

// flood writes the same until nobody listens.
func flood(c net.Conn, s string) {
	b := []byte(strings.Repeat(s, 1+(32<<10)/len(s)))
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

const greeting = `{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": ""}, "capabilities": []}}` + "\r\n"

// Whatever a pod has behind its monitor and its launcher's socket, the agent says
// that this machine is in trouble and serves the others.
func TestHostileMonitors(t *testing.T) {
	t.Parallel()
	for name, talk := range map[string]func(net.Conn){
		"nonsense":        func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") },
		"silence":         func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"ends at once":    func(net.Conn) {},
		"endless line":    func(c net.Conn) { flood(c, "x") },
		"empty lines":     func(c net.Conn) { flood(c, "\n") },
		"nested":          func(c net.Conn) { flood(c, "[") },
		"greeting twice":  func(c net.Conn) { _, _ = io.WriteString(c, greeting+greeting) },
		"events only":     func(c net.Conn) { _, _ = io.WriteString(c, greeting); flood(c, `{"event":"STOP"}`+"\n") },
		"answers nothing": func(c net.Conn) { _, _ = io.WriteString(c, greeting); _, _ = io.Copy(io.Discard, c) },
		"ends after the handshake": func(c net.Conn) {
			_, _ = io.WriteString(c, greeting+`{"return": {}}`+"\n")
		},
		"a huge version": func(c net.Conn) {
			_, _ = io.WriteString(c, `{"QMP": {"version": {"qemu": {"major": 1e99}}}}`+"\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vmi, pod, ref := neighbour(t)
			w := newWorld(t, testVMI(), vmi)
			bad, good := w.addPod(testPod), w.addPod(pod)
			liar(t, bad, contract.QMPSocket, talk)
			// Long enough for the neighbour's answers on a busy machine.
			w.tune = func(l *times) { l.handshake, l.command = 2*time.Second, 2*time.Second }
			w.start()
			good.boot()
			w.poll(func() bool { g := w.agent.guestOf(ref.UID); return g != nil && g.monitor() != nil }, func() string { return "the neighbour is not served" })
			must(t, backend{w.agent}.Pause(t.Context(), ref))
			if name != "ends after the handshake" { // which is QEMU's right
				w.until("a problem", has(v1.VMISynchronized))
			}
			if g := w.agent.guestOf(testUID); g.snapshot().up {
				t.Error("the machine counts as running")
			}
			must(t, backend{w.agent}.Unpause(t.Context(), ref))
		})
	}
}

// flip has QEMU tell another run state and waits until the agent has heard of it,
// and so of every event before.
func flip(w *world, p *pod, run bool) {
	w.t.Helper()
	state, event := "running", "RESUME"
	if !run {
		state, event = "paused", "STOP"
	}
	p.qemu.SetState(run, state)
	p.qemu.Emit(event, nil)
	g := w.agent.guestOf(testUID)
	w.poll(func() bool { return g.snapshot().run.Running == run }, func() string { return "the state is not known: " + state })
}

// A monitor that tells another state each time it is asked makes the agent write
// the status now and then, not each time.
func TestFlappingMonitor(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	began := time.Now()
	for i := range 300 {
		flip(w, p, i%2 != 0)
	}
	w.mu.Lock()
	patches := w.patches
	w.mu.Unlock()
	// Before it were those of the start.
	if patches > urgentBurst+quietBurst+5+int(time.Since(began)/urgentInterval) {
		t.Errorf("the status was written %d times", patches)
	}
}

// A guest that opens and closes its agent's channel all day is asked now and then.
func TestFlappingGuestAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	w.tune = func(l *times) { l.askAgain = []time.Duration{time.Hour} }
	p := w.addPod(testPod)
	w.start()
	p.boot()
	w.poll(func() bool { g := w.agent.guestOf(testUID); return g != nil && g.monitor() != nil }, func() string { return "no monitor" })
	var asked atomic.Int32
	began := time.Now()
	liar(t, p, contract.GuestAgentSocket, func(net.Conn) { asked.Add(1) })
	g := w.agent.guestOf(testUID)
	for range 100 {
		p.qemu.SetGuestAgent(agentChardev, agentPort, true)
		flip(w, p, false)
		p.qemu.SetGuestAgent(agentChardev, agentPort, false)
		flip(w, p, true)
	}
	if n := asked.Load(); int(n) > openBurst+2+int(time.Since(began)/openInterval) {
		t.Errorf("asked %d times", n)
	}
	if g.snapshot().agent {
		t.Error("an agent that never answered counts as connected")
	}
}

// A monitor that ends each time it was reached is not reached ever faster.
func TestMonitorThatEnds(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	for range 3 {
		before := w.agent.guestOf(testUID).monitor()
		p.qemu.Drop()
		w.poll(func() bool { m := w.agent.guestOf(testUID).monitor(); return m != nil && m != before }, func() string { return "not connected again" })
	}
	must(t, backend{w.agent}.Pause(t.Context(), testRef))
}

func TestBucket(t *testing.T) {
	t.Parallel()
	var b bucket
	at := time.Unix(1e9, 0)
	for i := range 5 {
		if wait := b.take(at, 5, time.Minute); wait != 0 {
			t.Fatalf("number %d of the burst waits %v", i, wait)
		}
	}
	if wait := b.take(at, 5, time.Minute); wait != time.Minute {
		t.Errorf("the next waits %v", wait)
	}
	if wait := b.take(at.Add(-time.Hour), 5, time.Minute); wait != time.Minute {
		t.Errorf("with the clock set back: %v", wait)
	}
	if wait := b.take(at.Add(time.Hour), 5, time.Minute); wait != 0 {
		t.Errorf("after an hour: %v", wait)
	}
}
