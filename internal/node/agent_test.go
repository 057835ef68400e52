// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/qmp/qmptest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// timeless takes the times out of a status, after having checked their order.
func timeless(t *testing.T, st v1.VirtualMachineInstanceStatus) v1.VirtualMachineInstanceStatus {
	t.Helper()
	st = *st.DeepCopy()
	last := time.Time{}
	for i := range st.Stages {
		if at := st.Stages[i].Time.Time; at.Before(last) {
			t.Errorf("stage %s is before its predecessor", st.Stages[i].Stage)
		} else {
			last = at
		}
		st.Stages[i].Time = metav1.MicroTime{}
	}
	for i := range st.PhaseTransitionTimestamps {
		st.PhaseTransitionTimestamps[i].PhaseTransitionTimestamp = nil
	}
	for i := range st.Conditions {
		if st.Conditions[i].LastTransitionTime.IsZero() {
			t.Errorf("condition %s has no time", st.Conditions[i].Type)
		}
		st.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	if m := st.Memory; m != nil {
		if m.MemoryOverhead == nil || m.MemoryOverhead.Value() < 16<<20 {
			t.Errorf("memory overhead = %v", m.MemoryOverhead)
		}
		m.MemoryOverhead = nil // package machine's business
	}
	return st
}

func TestStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	w.start()
	p := w.addPod(testPod)
	p.boot()
	w.until("phase Running", running)
	p.print("Linux version 6.1\n")
	w.until("first output", func(vmi *v1.VirtualMachineInstance) bool {
		return slices.ContainsFunc(vmi.Status.Stages, func(s v1.StageTimestamp) bool { return s.Stage == v1.StageFirstOutput })
	})
	line, err := bufio.NewReader(p.out).ReadString('\n')
	if err != nil || line != "Linux version 6.1\n" {
		t.Errorf("the container's log has %q, %v", line, err)
	}
	b, err := yaml.Marshal(timeless(t, w.vmi().Status))
	must(t, err)
	golden(t, "status-running.yaml", b)
	w.wantEvents("Normal Created", "Normal Started")

	if got := p.machine.Argv[0]; got != contract.QEMU {
		t.Errorf("argv[0] = %s", got)
	}
	if diff := cmp.Diff([]contract.Tap{{Name: "tap0", FD: 30, VnetHdr: true}}, p.machine.Taps); diff != "" {
		t.Error(diff)
	}
	seed, err := os.ReadFile(p.path(contract.MachineVolume, seedFile("seed")))
	must(t, err)
	for _, want := range []string{"#cloud-config", "10.0.2.2/24", "10.96.0.10", "local-hostname"} {
		if !bytes.Contains(seed, []byte(want)) {
			t.Errorf("%q is not in the cloud-init image", want)
		}
	}
	d, ok := w.net.servers()["tap0"]
	if !ok || d.Hostname != "vm1" || d.Address.String() != "10.0.2.2/24" || len(d.DNS) != 1 || len(d.Routes) != 1 {
		t.Errorf("DHCP server: %v, %+v", ok, d)
	}
	if w.patches > 3 {
		t.Errorf("the status was written %d times", w.patches)
	}
}

// However often the agent dies, and wherever, the machine comes up and is
// started once; and a step that fails without a crash is tried again.
func TestKillAnywhere(t *testing.T) {
	t.Parallel()
	steps := []string{
		"agent.start.before-hello", "agent.network.before-setup", "agent.network.after-setup", "agent.machine.before-seeds", "agent.machine.before-json",
		"agent.machine.after-json", "agent.start.before-word", "agent.start.before-result", "agent.start.before-monitor", "agent.monitor.before-refresh",
		"agent.status.before-write", "agent.status.after-write", "agent.adopt.before-network",
	}
	for _, step := range steps {
		for _, crash := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s crash=%v", step, crash), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, testVMI())
				p := w.addPod(testPod)
				hit := make(chan struct{})
				left := 2
				if step == "agent.start.before-result" || step == "agent.start.before-monitor" {
					left = 1 // the machine runs then: the next agent, or attempt, adopts it
				}
				w.fail = func(s string) error {
					if s != step {
						return nil
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					if left == 0 {
						return nil
					}
					left--
					if left == 0 {
						close(hit)
					}
					return errors.New("boom at " + s)
				}
				w.start()
				p.boot()
				if step == "agent.adopt.before-network" {
					// A new agent for a running machine.
					w.until("phase Running", running)
					w.crash()
					w.start()
				}
				<-hit
				if crash {
					w.crash()
					w.start()
				}
				w.until("phase Running", running)
				w.until("no problem", hasNot(v1.VMISynchronized))
				w.until("interfaces", func(vmi *v1.VirtualMachineInstance) bool { return len(vmi.Status.Interfaces) == 1 })
				w.poll(func() bool { return len(w.net.servers()) == 1 }, func() string { return "no DHCP server" })
				if n := p.qemu.Count("quit"); n != 0 {
					t.Errorf("QEMU was told to quit %d times", n)
				}
				w.poll(func() bool { g := w.agent.guestOf(testUID); return g != nil && g.monitor() != nil }, func() string { return "no monitor" })
				must(t, backend{w.agent}.Pause(t.Context(), testRef))
				w.until("paused", has(v1.VMIPaused))
			})
		}
	}
}

// A new agent adopts a machine as it is, tells nothing twice and starts nothing.
func TestAdopt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	p := w.addPod(testPod)
	w.start()
	p.boot()
	w.until("phase Running", running)
	w.crash()
	before, calls := w.vmi(), len(p.qemu.Calls())
	p.print("while nobody looked\n")
	w.start()
	w.poll(func() bool { return p.qemu.Connected() == 1 && len(p.qemu.Calls()) > calls }, func() string { return "not adopted" })
	line, err := bufio.NewReader(p.out).ReadString('\n')
	if err != nil || line != "while nobody looked\n" {
		t.Errorf("the container's log has %q, %v", line, err)
	}
	w.poll(func() bool { return len(w.net.servers()) == 1 }, func() string { return "no DHCP server" })
	after := w.vmi()
	if diff := cmp.Diff(before.Status.Conditions, after.Status.Conditions); diff != "" {
		t.Error(diff)
	}
	w.wantEvents("Normal Created", "Normal Started")
}

func TestPause(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	b := backend{w.agent}
	must(t, b.Pause(t.Context(), testRef))
	vmi := w.until("paused", has(v1.VMIPaused))
	if c := vmi.Status.Condition(v1.VMIPaused); c.Reason != reasonPausedByUser || c.Status != corev1.ConditionTrue {
		t.Errorf("condition = %+v", c)
	}
	// A new agent sees it too.
	w.crash()
	w.start()
	w.poll(func() bool { g := w.agent.guestOf(testUID); return g != nil && g.monitor() != nil }, func() string { return "not adopted" })
	b = backend{w.agent}
	must(t, b.Unpause(t.Context(), testRef))
	w.until("unpaused", hasNot(v1.VMIPaused))
	w.wantEvents("Normal Created", "Normal Started", "Normal Paused", "Normal Unpaused")
	must(t, b.Reset(t.Context(), testRef))
	if p.qemu.Count("system_reset") != 1 {
		t.Error("not reset")
	}
	if err := b.SoftReboot(t.Context(), testRef); !apierrors.IsConflict(err) {
		t.Errorf("soft reboot without an agent: %v", err)
	}
}

func TestDiskError(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	p.qemu.Emit("BLOCK_IO_ERROR", map[string]any{"device": "", "node-name": "d-root", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"})
	p.qemu.SetState(false, "io-error")
	p.qemu.Emit("STOP", nil)
	vmi := w.until("paused", has(v1.VMIPaused))
	c := vmi.Status.Condition(v1.VMIPaused)
	if c.Reason != reasonPausedIOError || !strings.Contains(c.Message, "volume root could not be written: there is no space left") {
		t.Errorf("condition = %+v", c)
	}
	w.wantEvents("Normal Created", "Normal Started", "Warning Paused")
}

// A machine that stands still for want of space goes on by itself, also when the
// first attempts fail, and no user's pause is lifted that way.
func TestMachineGoesOnAfterDiskError(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	p.qemu.SetState(false, "io-error")
	p.qemu.Emit("STOP", nil)
	w.until("stopped", has(v1.VMIPaused))
	w.poll(func() bool { return p.qemu.Count("cont") > 0 }, func() string { return "not resumed" })
	w.until("running", hasNot(v1.VMIPaused))
	must(t, backend{w.agent}.Pause(t.Context(), testRef))
	w.until("paused", has(v1.VMIPaused))
	r := newResumer(w.agent.guestOf(testUID))
	r.armed = true
	if r.look(); r.armed {
		t.Error("a machine that a user paused would be resumed")
	}
}

func runningWorld(t *testing.T, change ...func(*v1.VirtualMachineInstance)) (*world, *pod) {
	t.Helper()
	vmi := testVMI()
	for _, f := range change {
		f(vmi)
	}
	w := newWorld(t, vmi)
	p := w.addPod(testPod)
	w.start()
	p.boot()
	w.until("phase Running", running)
	w.poll(func() bool { return w.agent.guestOf(testUID).monitor() != nil }, func() string { return "no monitor" })
	return w, p
}

func TestMonitorLost(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	before := w.agent.guestOf(testUID).monitor()
	p.qemu.Drop()
	w.poll(func() bool { m := w.agent.guestOf(testUID).monitor(); return m != nil && m != before }, func() string { return "not connected again" })
	must(t, backend{w.agent}.Pause(t.Context(), testRef))
	w.until("paused", has(v1.VMIPaused))
}

func TestDeletion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		grace *int64
		quits int
	}{{new(int64(0)), 1}, {new(int64(30)), 0}, {nil, 0}} {
		w, p := runningWorld(t, func(vmi *v1.VirtualMachineInstance) { vmi.Spec.TerminationGracePeriodSeconds = tc.grace })
		must(t, w.client.Delete(t.Context(), w.vmi()))
		w.kick()
		if tc.quits > 0 {
			<-p.qemu.Exited()
			w.wantEvents("Normal Created", "Normal Started", "Normal ShuttingDown", "Warning Stopped")
		} else {
			w.wantEvents("Normal Created", "Normal Started", "Normal ShuttingDown")
		}
		if n := p.qemu.Count("quit"); n != tc.quits {
			t.Errorf("grace %v: quit %d times", tc.grace, n)
		}
	}
}

// An instance that is deleted before its machine was started is not started.
func TestDeletedBeforeStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	must(t, w.client.Delete(t.Context(), w.vmi()))
	p := w.addPod(testPod)
	w.start()
	p.boot()
	w.poll(func() bool { g := w.agent.guestOf(testUID); return g != nil && g.snapshot().stages == nil }, func() string { return "no guest" })
	if _, err := os.Stat(p.path(contract.MachineVolume, contract.MachineFile)); err == nil {
		t.Error("machine.json was written")
	}
}

func TestEndings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end    func(*pod)
		event  string
		text   string
		reason string
	}{
		"power off": {func(p *pod) {
			p.qemu.Emit("SHUTDOWN", map[string]any{"guest": true, "reason": "guest-shutdown"})
			p.qemu.Shutdown()
		}, "Normal Stopped", "powered off", ""},
		"panic": {func(p *pod) {
			p.qemu.Emit("GUEST_PANICKED", map[string]any{"action": "exit-failure"})
			p.qemu.Emit("SHUTDOWN", map[string]any{"guest": true, "reason": "guest-panic"})
			p.qemu.Shutdown()
		}, "Warning Stopped", "last words", ""},
		"signal": {func(p *pod) {
			p.qemu.Emit("SHUTDOWN", map[string]any{"guest": false, "reason": "host-signal"})
			p.qemu.Shutdown()
		}, "Normal Stopped", "host-signal", ""},
		"killed": {func(p *pod) { p.exit() }, "Warning Stopped", "without a word", reasonCrashed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, p := runningWorld(t)
			if _, err := (backend{w.agent}).Console(t.Context(), testRef); err == nil {
				t.Fatal("a console without a socket")
			}
			ln := p.listen(contract.SerialSocket)
			defer ln.Close()
			s, err := (backend{w.agent}).Console(t.Context(), testRef)
			must(t, err)
			p.print("last words\n")
			tc.end(p)
			w.poll(func() bool {
				return slices.ContainsFunc(w.events.all(), func(e string) bool {
					return strings.HasPrefix(e, tc.event) && strings.Contains(e, tc.text)
				})
			}, func() string { return fmt.Sprint(w.events.all()) })
			w.until("status.reason", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Reason == tc.reason })
			if line, err := bufio.NewReader(p.out).ReadString('\n'); err != nil || line != "last words\n" {
				t.Errorf("the container's log has %q, %v", line, err)
			}
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, console.ErrEnded) && !errors.Is(err, io.EOF) {
				t.Errorf("console: %v", err)
			}
			if err := (backend{w.agent}).Pause(t.Context(), testRef); !apierrors.IsConflict(err) {
				t.Errorf("pause after the end: %v", err)
			}
			w.poll(func() bool { return len(w.net.servers()) == 0 }, func() string { return "the DHCP server still runs" })
			if vmi := w.vmi(); vmi.Status.Phase != v1.Running {
				t.Errorf("the agent wrote phase %s", vmi.Status.Phase)
			}
		})
	}
}

func TestLauncherRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	p := w.addPod(testPod)
	p.refuse = "disk_0: is not a qcow2 image\x1b[31m"
	w.start()
	p.boot()
	vmi := w.until("a problem", has(v1.VMISynchronized))
	c := vmi.Status.Condition(v1.VMISynchronized)
	if c.Status != corev1.ConditionFalse || c.Reason != problemRefused || !strings.Contains(c.Message, "disk_0: is not a qcow2 image[31m") {
		t.Errorf("condition = %+v", c)
	}
	w.wantEvents("Normal Created", "Warning SyncFailed")
	if vmi.Status.Phase != v1.Scheduled {
		t.Errorf("phase = %s", vmi.Status.Phase)
	}
}

func TestNetworkFailsForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testVMI())
	w.net.set(errors.New("eth0: no such link"))
	p := w.addPod(testPod)
	w.start()
	p.boot()
	vmi := w.until("a problem", has(v1.VMISynchronized))
	if c := vmi.Status.Condition(v1.VMISynchronized); c.Reason != problemNetwork || !strings.Contains(c.Message, "eth0: no such link") {
		t.Errorf("condition = %+v", c)
	}
	w.net.set(nil)
	w.until("phase Running", running)
	w.until("no problem", hasNot(v1.VMISynchronized))
	w.wantEvents("Warning SyncFailed", "Normal Created", "Normal Started")
}

func TestMachineThatCannotBe(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	vmi.Spec.Domain.Machine = &v1.Machine{Type: "pc-q35-99.0"}
	w := newWorld(t, vmi)
	p := w.addPod(testPod)
	w.start()
	p.boot()
	vmi = w.until("a problem", has(v1.VMISynchronized))
	if c := vmi.Status.Condition(v1.VMISynchronized); c.Reason != problemSpec || !strings.Contains(c.Message, "spec.domain.machine.type") {
		t.Errorf("condition = %+v", c)
	}
}

func TestHostileLauncher(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ hello, want string }{
		"newer contract": {`{"contract": 99}`, "update the node agent"},
		"no contract":    {`{}`, "version 0 of the contract"},
		"not JSON":       {"SSH-2.0", "greeting"},
		"endless":        {strings.Repeat("x", 1<<20), "greeting"},
		"bad version":    {`{"contract": 1, "image": {"qemuVersion": "../../etc"}}`, "QEMU version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testVMI())
			p := w.addPod(testPod)
			p.hello = tc.hello
			w.start()
			p.boot()
			vmi := w.until("a problem", has(v1.VMISynchronized))
			if c := vmi.Status.Condition(v1.VMISynchronized); !strings.Contains(c.Message, tc.want) {
				t.Errorf("condition = %+v, want %q", c, tc.want)
			}
		})
	}
}

// Only pods that the controller recorded for this node are touched.
func TestNotOurs(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1.VirtualMachineInstance){
		"another node":        func(vmi *v1.VirtualMachineInstance) { vmi.Status.NodeName = "edge-2" },
		"pod of another node": func(vmi *v1.VirtualMachineInstance) { vmi.Status.ActivePods[testPod] = "edge-2" },
		"no pod":              func(vmi *v1.VirtualMachineInstance) { vmi.Status.ActivePods = nil },
		"final":               func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Failed },
	} {
		vmi := testVMI()
		change(vmi)
		w := newWorld(t, vmi)
		w.addPod(testPod).boot()
		w.start()
		r := &reconciler{agent: w.agent, client: w.client}
		req := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(vmi)}
		if _, err := r.Reconcile(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if g := w.agent.guestOf(testUID); g != nil {
			t.Errorf("%s: acted on", name)
		}
	}
}

// The same name, another instance: the old machine is let go.
func TestReplacedInstance(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	g := w.agent.guestOf(testUID)
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Finalizers = nil })
	must(t, w.client.Delete(t.Context(), w.vmi()))
	next := testVMI()
	next.UID = "99999999-0000-4000-8000-3a9a3c1f5e22"
	next.Status.ActivePods = map[string]string{"99999999-aaaa-4b7e-9d0e-3a9a3c1f5e11": testNode}
	must(t, w.client.Create(t.Context(), next))
	w.kick()
	<-g.done
	if w.agent.guestOf(testUID) != nil {
		t.Error("still there")
	}
	w.poll(func() bool { return w.agent.guestOf(next.UID) != nil }, func() string { return "the new one is not there" })
	if n := p.qemu.Count("quit"); n != 0 {
		t.Error("the machine was ended")
	}
	if err := (backend{w.agent}).Pause(t.Context(), testRef); !apierrors.IsNotFound(err) {
		t.Errorf("err = %v", err)
	}
	ref := testRef
	ref.UID, ref.Name = next.UID, "other"
	if err := (backend{w.agent}).Pause(t.Context(), ref); !apierrors.IsNotFound(err) {
		t.Errorf("err = %v", err)
	}
	ref.Name = "vm1"
	if err := (backend{w.agent}).Pause(t.Context(), ref); !apierrors.IsConflict(err) {
		t.Errorf("err = %v", err)
	}
}

// echo answers what it is sent.
func echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(c, c); c.Close() }()
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	for _, s := range []string{contract.SerialSocket, contract.VNCSocket} {
		ln := p.listen(s)
		t.Cleanup(func() { ln.Close() })
		go echo(ln)
	}
	b := backend{w.agent}
	say := func(s io.ReadWriteCloser) {
		t.Helper()
		_, err := io.WriteString(s, "ping")
		must(t, err)
		buf := make([]byte, 4)
		if _, err := io.ReadFull(s, buf); err != nil || string(buf) != "ping" {
			t.Errorf("%q, %v", buf, err)
		}
	}
	first, err := b.Console(t.Context(), testRef)
	must(t, err)
	say(first)
	second, err := b.Console(t.Context(), testRef)
	must(t, err)
	say(second)
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, console.ErrTakenOver) {
		t.Errorf("first console: %v", err)
	}
	for range 2 {
		v, err := b.VNC(t.Context(), testRef)
		must(t, err)
		say(v)
	}
}

func TestNoConsoleNoScreen(t *testing.T) {
	t.Parallel()
	w, _ := runningWorld(t, func(vmi *v1.VirtualMachineInstance) {
		vmi.Spec.Domain.Devices.AutoattachSerialConsole = new(false)
		vmi.Spec.Domain.Devices.AutoattachGraphicsDevice = new(false)
	})
	b := backend{w.agent}
	if _, err := b.Console(t.Context(), testRef); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "autoattachSerialConsole") {
		t.Errorf("console: %v", err)
	}
	if _, err := b.VNC(t.Context(), testRef); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "autoattachGraphicsDevice") {
		t.Errorf("vnc: %v", err)
	}
	if _, err := b.Screenshot(t.Context(), testRef, false); !apierrors.IsConflict(err) {
		t.Errorf("screenshot: %v", err)
	}
}

func TestScreenshot(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	var pic bytes.Buffer
	must(t, png.Encode(&pic, image.NewGray(image.Rect(0, 0, 8, 4))))
	content := pic.Bytes()
	p.qemu.Handle("screendump", func(args json.RawMessage) (any, error) {
		var a struct{ Filename, Format string }
		if err := json.Unmarshal(args, &a); err != nil || a.Format != "png" || filepath.Dir(a.Filename) != contract.RunDir {
			return nil, fmt.Errorf("arguments %s", args)
		}
		return nil, os.WriteFile(p.path(contract.RunVolume, filepath.Base(a.Filename)), content, 0o600)
	})
	p.qemu.Handle("input-send-event", func(json.RawMessage) (any, error) { return nil, nil })
	b := backend{w.agent}
	got, err := b.Screenshot(t.Context(), testRef, true)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Error("another picture")
	}
	if p.qemu.Count("input-send-event") != 2 {
		t.Error("the mouse was not moved")
	}
	content = []byte("#!/bin/sh")
	if _, err := b.Screenshot(t.Context(), testRef, false); err == nil {
		t.Error("something that is no picture was passed on")
	}
	p.qemu.Handle("screendump", func(args json.RawMessage) (any, error) {
		var a struct{ Filename string }
		_ = json.Unmarshal(args, &a)
		return nil, os.Symlink("/etc/passwd", p.path(contract.RunVolume, filepath.Base(a.Filename)))
	})
	if _, err := b.Screenshot(t.Context(), testRef, false); err == nil {
		t.Error("a symbolic link was followed")
	}
	p.qemu.Handle("screendump", func(json.RawMessage) (any, error) {
		return nil, &qmptest.Error{Class: "GenericError", Desc: "there is no console to take a screendump from"}
	})
	if _, err := b.Screenshot(t.Context(), testRef, false); err == nil || !strings.Contains(err.Error(), "no console") {
		t.Errorf("err = %v", err)
	}
	left, err := os.ReadDir(p.path(contract.RunVolume, ""))
	must(t, err)
	for _, e := range left {
		if strings.Contains(e.Name(), "screen") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// guestAgentOf answers as qemu-ga does.
func guestAgentOf(t *testing.T, p *pod, ip string) {
	t.Helper()
	ln := p.listen(contract.GuestAgentSocket)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadBytes('\n')
				if err != nil {
					break
				}
				var req struct {
					Execute   string
					Arguments struct{ ID int64 }
				}
				_ = json.Unmarshal(bytes.TrimLeft(line, "\xff"), &req)
				switch req.Execute {
				case "guest-sync-delimited":
					fmt.Fprintf(c, "\xff{\"return\": %d}\n", req.Arguments.ID)
				case "guest-get-osinfo":
					fmt.Fprintln(c, `{"return": {"id": "debian", "pretty-name": "Debian GNU/Linux 12"}}`)
				case "guest-network-get-interfaces":
					fmt.Fprintf(c, `{"return": [{"name": "enp1s0", "hardware-address": "02:5a:00:00:00:01", "ip-addresses": [{"ip-address": %q}]},`+
						`{"name": "docker0", "hardware-address": "02:42:00:00:00:01", "ip-addresses": [{"ip-address": "172.17.0.1"}]}]}`+"\n", ip)
				}
			}
			c.Close()
		}
	}()
}

func TestGuestAgent(t *testing.T) {
	t.Parallel()
	w, p := runningWorld(t)
	guestAgentOf(t, p, "10.0.2.2")
	p.qemu.SetGuestAgent(agentChardev, agentPort, true)
	vmi := w.until("agent", has(v1.VMIAgentConnected))
	b, err := yaml.Marshal(struct {
		OS         *v1.VirtualMachineInstanceGuestOSInfo
		Interfaces []v1.VirtualMachineInstanceNetworkInterface
	}{vmi.Status.GuestOSInfo, vmi.Status.Interfaces})
	must(t, err)
	golden(t, "status-agent.yaml", b)
	if !slices.ContainsFunc(vmi.Status.Stages, func(s v1.StageTimestamp) bool { return s.Stage == v1.StageGuestAgent }) {
		t.Error("the stage is not stamped")
	}
	// A new agent finds the channel open.
	w.crash()
	w.start()
	w.poll(func() bool {
		g := w.agent.guestOf(testUID)
		return g != nil && g.snapshot().agent && g.snapshot().shape != nil
	}, func() string { return "the channel was not found" })
	p.qemu.SetGuestAgent(agentChardev, agentPort, false)
	vmi = w.until("no agent", hasNot(v1.VMIAgentConnected))
	if len(vmi.Status.Interfaces) != 1 || vmi.Status.Interfaces[0].InterfaceName != "" {
		t.Errorf("interfaces = %+v", vmi.Status.Interfaces)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	vmi := testVMI()
	vmi.Spec.Volumes[1].CloudInitNoCloud = &v1.CloudInitNoCloudSource{SecretRef: &corev1.LocalObjectReference{Name: "my-seed"}}
	w := newWorld(t, vmi)
	p := w.addPod(testPod)
	w.start()
	p.boot()
	vmi = w.until("a problem", has(v1.VMISynchronized))
	if c := vmi.Status.Condition(v1.VMISynchronized); c.Reason != problemCloudInit || !strings.Contains(c.Message, "my-seed") {
		t.Errorf("condition = %+v", c)
	}
	// As the kubelet writes it.
	dir := filepath.Join(p.dir, "kubernetes.io~secret", "seed-udata")
	must(t, os.MkdirAll(filepath.Join(dir, "..1"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "..1", "userdata"), []byte("#cloud-config\nhostname: from-secret\n"), 0o400))
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/userdata", filepath.Join(dir, "userdata")))
	w.until("phase Running", running)
	seed, err := os.ReadFile(p.path(contract.MachineVolume, seedFile("seed")))
	must(t, err)
	if !bytes.Contains(seed, []byte("hostname: from-secret")) {
		t.Error("the Secret is not in the image")
	}
}

func TestLinkDown(t *testing.T) {
	t.Parallel()
	down := testVMI()
	down.Spec.Domain.Devices.Interfaces[0].State = "down"
	w := newWorld(t, down)
	p := w.addPod(testPod)
	var args string
	p.qemu.Handle("set_link", func(a json.RawMessage) (any, error) { args = string(a); return nil, nil })
	w.start()
	p.boot()
	vmi := w.until("phase Running", running)
	if args != `{"name":"ua-default","up":false}` || vmi.Status.Interfaces[0].LinkState != "down" {
		t.Errorf("set_link %s, %+v", args, vmi.Status.Interfaces)
	}
}
