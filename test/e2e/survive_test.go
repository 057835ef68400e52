// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/witness"
)

// blow is what happens to the node's software.
type blow struct {
	signal  syscall.Signal
	victims []string
}

func (b blow) String() string {
	return fmt.Sprintf("%v of %s", b.signal, strings.Join(b.victims, " and "))
}

// blows are dealt one after another, those of one lap to guests that were started
// together. Stopped processes are let go on after the time that stopFor gives.
func blows() (laps [][]blow) {
	kill, stop := syscall.SIGKILL, syscall.SIGSTOP
	all := []blow{
		{kill, []string{"skerry"}}, {kill, []string{"containerd"}}, {kill, []string{"containerd", "skerry"}},
		{stop, []string{"skerry"}}, {stop, []string{"containerd"}}, {stop, []string{"containerd", "skerry"}},
	}
	if os.Getenv("SKERRY_CAMPAIGN") == "" {
		// Stopping both covers what stopping either does.
		return [][]blow{{all[0], all[1], all[2], all[5]}}
	}
	for range 5 {
		laps = append(laps, all)
	}
	return laps
}

func stopFor() time.Duration {
	if os.Getenv("SKERRY_CAMPAIGN") == "" {
		return 20 * time.Second // longer than any lease in the cluster
	}
	return time.Minute
}

// The skerry process, containerd, or both are killed or stand still, while one
// guest prints megabytes, writes to its disk and talks over the network, another idles,
// a container runs, one guest powers off and one panics. Whoever runs on has not
// noticed; who ended is known to have ended, and how; no write is lost; and nothing
// is left when all are deleted. It must run by itself, since it takes the API away
// from the others: no t.Parallel.
func TestSurvive(t *testing.T) {
	before := takeTraces(t)
	ns := namespace(t)
	pods := podTraces{}
	if !t.Run("blows", func(t *testing.T) {
		busy, idle := witnessVM(ns, "busy"), witnessVM(ns, "idle")
		create(t, busy, idle, toolsPod(ns, "web"))
		var s *survival
		for lap, blows := range blows() {
			for i := range blows {
				off, crash := witnessVM(ns, fmt.Sprintf("off-%d-%d", lap, i)), witnessVM(ns, fmt.Sprintf("crash-%d-%d", lap, i))
				off.Spec.RunStrategy = ptr(v1.RunStrategyOnce)
				crash.Spec.RunStrategy = ptr(v1.RunStrategyRerunOnFailure)
				create(t, off, crash)
			}
			if s == nil {
				s = newSurvival(t, ns)
			}
			ends := make([][2]*ending, len(blows))
			for i := range blows {
				ends[i] = [2]*ending{newEnding(t, ns, fmt.Sprintf("off-%d-%d", lap, i)), newEnding(t, ns, fmt.Sprintf("crash-%d-%d", lap, i))}
			}
			pods.note(t, ns)
			for i, b := range blows {
				s.deal(t, b, ends[i][0], ends[i][1])
			}
			pods.note(t, ns)
		}
		s.untouched(t)
	}) {
		return
	}
	deleteNamespace(t, ns)
	if left := pods.left(t, before); left != "" {
		t.Errorf("all is deleted, and yet there is:\n%s", left)
	}
}

// ending is a guest that ends while nobody looks.
type ending struct {
	*witnessed
	addr, pid string
}

func newEnding(t *testing.T, ns, name string) *ending {
	t.Helper()
	w := startWitness(t, ns, name)
	return &ending{w, w.ip(), qemuPID(t, w.vmi)}
}

// qemuPID is the one process of the machine's pod.
func qemuPID(t *testing.T, vmi *v1.VirtualMachineInstance) string {
	t.Helper()
	procs := podProcesses(t, string(podOf(t, vmi).UID))
	if len(procs) != 1 {
		t.Fatalf("instance %s has %d processes, want QEMU alone: %+v", vmi.Name, len(procs), procs)
	}
	return procs[0]["Pid"]
}

// end has the guest end by a command of its witness, waits until QEMU is gone, and
// returns the number of the last write that it had acknowledged before.
func (e *ending) end(command string) uint64 {
	e.t.Helper()
	r := e.parseAsked("report")
	if err := r.Since(e.first); err != nil {
		e.t.Errorf("guest %s: %v", e.name, err)
	}
	if text, err := e.ask(e.addr, command); err != nil {
		e.t.Fatal(text, err)
	}
	waitFor(e.t, "the QEMU of "+e.name+" to end", func() (bool, string) { return dead(e.pid), "still there" })
	return r.Acked
}

// parseAsked asks for a report over the network.
func (e *ending) parseAsked(command string) witness.Report {
	e.t.Helper()
	text, err := e.ask(e.addr, command)
	if err != nil {
		e.t.Fatal(err)
	}
	r, err := witness.ParseReport(text)
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

// survival is what outlives all blows.
type survival struct {
	ns         string
	busy, idle *ending
	control    *witness.Control
	printing   chan error // nil: it has not begun
	pods       map[string]*corev1.Pod
}

func newSurvival(t *testing.T, ns string) *survival {
	t.Helper()
	s := &survival{ns: ns, busy: newEnding(t, ns, "busy"), idle: newEnding(t, ns, "idle"), pods: map[string]*corev1.Pod{}}
	var err error
	if s.control, err = witness.StartControl(t.Context(), s.busy.pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.control.Stop)
	for _, vmi := range []*v1.VirtualMachineInstance{s.busy.vmi, s.idle.vmi} {
		p := podOf(t, vmi)
		s.pods[p.Name] = p
	}
	waitFor(t, "the container to run", func() (bool, string) {
		p := &corev1.Pod{}
		err := shared.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "web"}, p)
		s.pods["web"] = p
		return err == nil && p.Status.Phase == corev1.PodRunning, fmt.Sprint(p.Status.Phase, err)
	})
	return s
}

// printed is how much the busy guest prints at a time, in bytes.
const printed = 5_000_000

// print has the busy guest print, unless it still does from the blow before.
func (s *survival) print(t *testing.T) {
	t.Helper()
	if s.printing != nil {
		select {
		case err := <-s.printing:
			if err != nil {
				t.Error(err)
			}
		default:
			return
		}
	}
	s.printing = make(chan error, 1)
	go func() {
		text, err := witness.Ask(t.Context(), s.busy.addr, fmt.Sprintf("print %d", printed))
		if err == nil && !strings.Contains(text, "SKERRY-WITNESS printed") {
			err = fmt.Errorf("print: %s", text)
		}
		s.printing <- err
	}()
}

func (s *survival) deal(t *testing.T, b blow, off, crash *ending) {
	t.Helper()
	began := time.Now()
	control, err := s.control.Reset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	busy, idle := s.busy.parseAsked("reset"), s.idle.reset()
	traffic, err := witness.StartTraffic(t.Context(), s.busy.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.print(t)

	pids := strike(t, b)
	acked := map[*ending]uint64{off: off.end("poweroff"), crash: crash.end("panic")}
	if b.signal == syscall.SIGSTOP {
		// Nothing can be watched for here: that it lasts is the point.
		time.Sleep(stopFor() - time.Since(began))
		for _, pid := range pids {
			if err := signalProcess(pid, syscall.SIGCONT); err != nil {
				t.Fatalf("%v: %s does not live any more: %v", b, pid, err)
			}
		}
	}
	if b.signal == syscall.SIGKILL && strings.Contains(b.String(), "skerry") {
		if err := up(shared); err != nil {
			t.Fatalf("skerry up after %v: %v", b, err)
		}
	}

	// Who ended is known to have ended, and how.
	vmiWhen(t, s.ns, off.name, "Succeeded", func(v *v1.VirtualMachineInstance) bool {
		if v.Status.Phase == v1.Failed {
			// containerd does not tell the exit code of what ended while it was dead.
			if b.signal == syscall.SIGKILL && strings.Contains(b.String(), "containerd") {
				t.Logf("%v: %s powered off and is called Failed: its exit code was lost", b, off.name)
				return v.UID == off.vmi.UID
			}
			t.Fatalf("%v: %s powered off and is called Failed", b, off.name)
		}
		return v.UID == off.vmi.UID && v.Status.Phase == v1.Succeeded
	})
	again := vmiWhen(t, s.ns, crash.name, "another one, since the first failed", func(v *v1.VirtualMachineInstance) bool {
		if v.UID == crash.vmi.UID && v.Status.Phase == v1.Succeeded {
			t.Fatalf("%v: %s panicked and is called Succeeded", b, crash.name)
		}
		return v.UID != crash.vmi.UID && v.Status.Phase == v1.Running
	})
	for e, n := range acked {
		e.diskFromOutside(n)
	}
	// Who did not has not noticed.
	exchanged, err := traffic.Stop()
	if err != nil {
		t.Errorf("%v: %v", b, err)
	}
	s.idle.reconnect()
	was, now := busy, s.busy.parseAsked("report")
	if err := now.Since(was); err != nil {
		t.Errorf("%v: guest %s: %v", b, s.busy.name, err)
	}
	quiet := s.idle.ranOn(idle)
	if now.Printed == was.Printed || exchanged.StreamIn == 0 || exchanged.DatagramsIn == 0 || now.Acked == was.Acked {
		t.Errorf("%v: the busy guest printed %d bytes, exchanged %+v, wrote %d times", b, now.Printed-was.Printed, exchanged, now.Acked-was.Acked)
	}
	waitFor(t, "kubectl exec", func() (bool, string) {
		out, err := podExec(t, s.ns, "web", "echo", "exec works")
		return err == nil && strings.Contains(out, "exec works"), out
	})
	last, err := s.control.Report(t.Context())
	if err == nil {
		err = last.Since(control)
	}
	if err != nil {
		t.Errorf("control guest: %v", err)
	}
	t.Logf("%v: %v; longest gap of the busy guest %v, the idle one %v, the control %v; %d writes, %d of %d datagrams, %d bytes over TCP",
		b, time.Since(began).Round(time.Second), now.Gap, quiet.Gap, last.Gap, now.Acked-was.Acked,
		exchanged.DatagramsIn, exchanged.DatagramsOut, exchanged.StreamIn)
	for _, name := range []string{off.name, again.Name} {
		vm := &v1.VirtualMachine{}
		vm.Namespace, vm.Name = s.ns, name
		if err := shared.Client.Delete(t.Context(), vm); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
}

// strike sends the signal to all victims and returns their PIDs; the killed are
// dead by then.
func strike(t *testing.T, b blow) (pids []string) {
	t.Helper()
	for _, name := range b.victims {
		pid, err := shared.PID()
		if name == "containerd" {
			pid, err = containerdPID()
		}
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := signalProcess(pid, b.signal); err != nil {
			t.Fatalf("%v: %s: %v", b, pid, err)
		}
	}
	if b.signal == syscall.SIGSTOP {
		// Should the test fail now, the node must still be able to go.
		t.Cleanup(func() {
			for _, pid := range pids {
				_ = signalProcess(pid, syscall.SIGCONT) // it may have ended
			}
		})
		return pids
	}
	for _, pid := range pids {
		waitFor(t, "process "+pid+" to be dead", func() (bool, string) { return dead(pid), "still there" })
	}
	return pids
}

// dead tells whether a process has ended; it may not have been waited for yet.
func dead(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// untouched fails unless pods and processes are the same as at first, the busy guest
// has printed all that it had to, and its console answers.
func (s *survival) untouched(t *testing.T) {
	t.Helper()
	if err := <-s.printing; err != nil {
		t.Error(err)
	}
	s.busy.reconnect()
	if r := s.busy.ranOn(s.busy.first); r.Printed < printed {
		t.Errorf("the busy guest printed %d bytes, want %d", r.Printed, printed)
	}
	for _, e := range []*ending{s.busy, s.idle} {
		vmi := running(t, s.ns, e.name)
		if pid := qemuPID(t, vmi); vmi.UID != e.vmi.UID || pid != e.pid {
			t.Errorf("guest %s: instance %s in process %s, was %s in %s", e.name, vmi.UID, pid, e.vmi.UID, e.pid)
		}
	}
	for name, was := range s.pods {
		p := &corev1.Pod{}
		if err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(was), p); err != nil {
			t.Errorf("pod %s: %v", name, err)
			continue
		}
		if n := p.Status.ContainerStatuses[0].RestartCount; p.UID != was.UID || n != 0 {
			t.Errorf("pod %s: %s, restarted %d times; was %s", name, p.UID, n, was.UID)
		}
	}
}
