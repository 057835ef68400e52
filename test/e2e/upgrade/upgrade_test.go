// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/test/node"
	"github.com/skerry-dev/skerry/test/witness"
)

// deadline bounds every wait; a wait ends as soon as its condition holds.
const deadline = 5 * time.Minute

const (
	guests    = 10
	namespace = "default"
)

// previous and present are the same node, seen through either build.
var previous, present *node.Node

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "upgrade:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if present, err = node.FromEnvironment(); err != nil {
		return 0, err
	}
	old := *present
	old.Bin = filepath.Join(filepath.Dir(present.Bin), "previous", "bin")
	previous = &old
	if _, err := os.Stat(filepath.Join(previous.Bin, "skerry")); err != nil {
		return 0, fmt.Errorf("run `make previous`: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	if err := present.Reset(ctx); err != nil {
		return 0, fmt.Errorf("before the test: %w", err)
	}
	if err := errors.Join(previous.Up(ctx, os.Stderr), present.Connect(), present.ImportTestImages(ctx)); err != nil {
		present.DumpLog(os.Stderr)
		return 0, errors.Join(err, present.Reset(ctx))
	}
	code = m.Run()
	if code != 0 {
		present.DumpLog(os.Stderr)
	}
	return code, present.Reset(context.WithoutCancel(ctx))
}

// waitFor polls until done says true. What done says last is in the failure.
func waitFor(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	node.WaitFor(t, deadline, what, done)
}

// guest is one of the guests that are there before the upgrade.
type guest struct {
	name, ip, qemu string
	vmi            *v1.VirtualMachineInstance
	pod            *corev1.Pod
	report         witness.Report
}

// vmi waits until the instance of that name is as wanted.
func vmi(t *testing.T, name, what string, ok func(*v1.VirtualMachineInstance) bool) (found *v1.VirtualMachineInstance) {
	t.Helper()
	waitFor(t, "instance "+name+" to be "+what, func() (bool, string) {
		found = &v1.VirtualMachineInstance{}
		if err := present.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, found); err != nil {
			return false, err.Error()
		}
		return ok(found), fmt.Sprintf("%+v", found.Status)
	})
	return found
}

func runs(v *v1.VirtualMachineInstance) bool {
	return v.Status.Phase == v1.Running && len(v.Status.Interfaces) > 0 && v.Status.Interfaces[0].IPAddress != ""
}

// look finds the guest's pod and process.
func look(t *testing.T, name string) *guest {
	t.Helper()
	g := &guest{name: name, vmi: vmi(t, name, "Running", runs)}
	g.ip = g.vmi.Status.Interfaces[0].IPAddress
	pods := &corev1.PodList{}
	if err := present.Client.List(t.Context(), pods, client.InNamespace(namespace), client.MatchingLabels{v1.CreatedByLabel: string(g.vmi.UID)}); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 {
		t.Fatalf("instance %s has %d pods, want 1", name, len(pods.Items))
	}
	g.pod = &pods.Items[0]
	for _, pid := range node.PodPIDs(string(g.pod.UID)) {
		if exe, err := os.Readlink("/proc/" + pid + "/exe"); err == nil && strings.Contains(exe, "qemu-system") {
			g.qemu = pid
		}
	}
	return g
}

// ask asks the guest over the network, which needs no console and no API.
func (g *guest) ask(t *testing.T) witness.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	text, err := witness.Ask(ctx, g.ip, "report")
	if err != nil {
		t.Fatal(err)
	}
	r, err := witness.ParseReport(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wire makes a console's websocket a stream.
type wire struct {
	*websocket.Conn
	rest []byte
}

func (w *wire) Read(p []byte) (int, error) {
	for len(w.rest) == 0 {
		_, b, err := w.ReadMessage()
		if err != nil {
			return 0, err
		}
		w.rest = b
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	return len(p), w.WriteMessage(websocket.BinaryMessage, p)
}

// console opens the guest's console over the API.
func console(t *testing.T, name string) *witness.Shell {
	t.Helper()
	tls, err := rest.TLSConfigFor(present.REST)
	if err != nil {
		t.Fatal(err)
	}
	d := websocket.Dialer{TLSClientConfig: tls, Subprotocols: []string{"plain.kubevirt.io"}, HandshakeTimeout: time.Minute}
	url := strings.Replace(present.REST.Host, "https://", "wss://", 1) +
		fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/console", namespace, name)
	var s *witness.Shell
	waitFor(t, "the console of "+name, func() (bool, string) {
		conn, _, err := d.DialContext(t.Context(), url, nil)
		if err != nil {
			return false, err.Error()
		}
		t.Cleanup(func() { conn.Close() })
		s = witness.NewShell(&wire{Conn: conn})
		return true, ""
	})
	return s
}

// typed has the guest's shell run something.
func typed(t *testing.T, s *witness.Shell, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	out, err := s.Run(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// end has the skerry process end in order, as a supervisor does that restarts it.
func end(t *testing.T) {
	t.Helper()
	pid, err := present.PID()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the previous skerry to end", func() (bool, string) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z "), "still there"
	})
}

// A box with guests is upgraded: they run on, in the same processes and pods, and
// are managed as before though their launchers are of an older contract; new ones
// get what is new.
func TestUpgrade(t *testing.T) {
	names := make([]string, guests)
	for i := range names {
		names[i] = fmt.Sprintf("old-%d", i)
		if err := present.Client.Create(t.Context(), witness.VM(namespace, names[i])); err != nil {
			t.Fatal(err)
		}
	}
	before := map[string]*guest{}
	for _, name := range names {
		g := look(t, name)
		if _, err := witness.ParseReport(typed(t, console(t, name), "witness start")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		g.report = g.ask(t)
		before[name] = g
	}

	end(t)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := present.Up(ctx, os.Stderr); err != nil {
		t.Fatal(err)
	}

	oldImage := before[names[0]].pod.Spec.Containers[0].Image
	for _, name := range names {
		was, now := before[name], look(t, name)
		if now.vmi.UID != was.vmi.UID || now.pod.UID != was.pod.UID || now.qemu != was.qemu || now.qemu == "" {
			t.Errorf("%s: instance %s, pod %s, QEMU %s; before the upgrade %s, %s, %s",
				name, now.vmi.UID, now.pod.UID, now.qemu, was.vmi.UID, was.pod.UID, was.qemu)
		}
		if n := now.pod.Status.ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("%s was restarted %d times", name, n)
		}
		if err := now.ask(t).Since(was.report); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		v, err := witness.ParseVerify(mustAsk(t, now, "verify"))
		if err == nil {
			err = v.Check(was.report.Acked)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	// New ones get the new launcher; status tells the two apart.
	if err := present.Client.Create(t.Context(), witness.VM(namespace, "new")); err != nil {
		t.Fatal(err)
	}
	fresh := look(t, "new")
	if image := fresh.pod.Spec.Containers[0].Image; image == oldImage {
		t.Errorf("a new machine runs in the old launcher image %s", image)
	}
	waitFor(t, "skerry status to tell old machines from new ones", func() (bool, string) {
		out, err := present.Skerry(t.Context(), "status")
		return err == nil && strings.Contains(out, "10 of 11 VMs"), fmt.Sprint(out, err)
	})

	// The old ones are still managed, each in its way, all at once.
	var all sync.WaitGroup
	manage := func(name string, f func(t *testing.T, name string)) {
		all.Go(func() { t.Run(name, func(t *testing.T) { f(t, name) }) })
	}
	manage("old-0", pauseAndUnpause)
	manage("old-1", func(t *testing.T, name string) {
		s := console(t, name)
		typed(t, s, "true")
		vm := &v1.VirtualMachine{}
		vm.Namespace, vm.Name = namespace, name
		if err := present.Client.Delete(t.Context(), vm); err != nil {
			t.Fatal(err)
		}
		gone(t, before[name], s)
	})
	manage("old-2", func(t *testing.T, name string) {
		s := console(t, name)
		typed(t, s, "true")
		cli(t, "stop", name)
		gone(t, before[name], s)
		cli(t, "start", name)
		started := look(t, name)
		if image := started.pod.Spec.Containers[0].Image; image == oldImage {
			t.Errorf("started anew, it runs in the old launcher image %s", image)
		}
	})
	manage("old-3", func(t *testing.T, name string) {
		if text := mustAsk(t, before[name], "poweroff"); !strings.Contains(text, "ok") {
			t.Fatal(text)
		}
		vmi(t, name, "another one, running", func(v *v1.VirtualMachineInstance) bool {
			return v.UID != before[name].vmi.UID && v.Status.Phase == v1.Running
		})
	})
	all.Wait()
	last := before["old-9"]
	now := last.ask(t)
	if err := now.Since(last.report); err != nil {
		t.Errorf("old-9, in the end: %v", err)
	}
	t.Logf("longest gap of a guest over the upgrade: %v", now.Gap)
}

func mustAsk(t *testing.T, g *guest, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	text, err := witness.Ask(ctx, g.ip, command)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func cli(t *testing.T, verb string, args ...string) {
	t.Helper()
	if out, err := present.CLI(t.Context(), verb, append([]string{"-n", namespace}, args...)...); err != nil {
		t.Fatal(err)
	} else {
		t.Logf("%s %v: %s", verb, args, out)
	}
}

// pauseAndUnpause has the guest stand still and go on: it is the guest that says so.
func pauseAndUnpause(t *testing.T, name string) {
	paused := func(want bool) func(*v1.VirtualMachineInstance) bool {
		return func(v *v1.VirtualMachineInstance) bool {
			c := v.Status.Condition(v1.VMIPaused)
			return want == (c != nil && c.Status == corev1.ConditionTrue)
		}
	}
	g := look(t, name)
	was := g.ask(t)
	cli(t, "pause", "vm", name)
	vmi(t, name, "paused", paused(true))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if text, err := witness.Ask(ctx, g.ip, "report"); err == nil {
		t.Errorf("paused, the guest says %q", text)
	}
	cli(t, "unpause", "vm", name)
	vmi(t, name, "not paused", paused(false))
	if err := g.ask(t).Since(was); err != nil {
		t.Error(err)
	}
	if got := typed(t, console(t, name), "echo still here"); got != "still here" {
		t.Errorf("after a pause the console says %q", got)
	}
}

// gone waits until the guest's pod and process are gone; the guest must have said
// that it went down in order.
func gone(t *testing.T, g *guest, s *witness.Shell) {
	t.Helper()
	waitFor(t, "the pod of "+g.name+" to go", func() (bool, string) {
		err := present.Client.Get(t.Context(), client.ObjectKeyFromObject(g.pod), &corev1.Pod{})
		return err != nil && client.IgnoreNotFound(err) == nil, fmt.Sprint(err)
	})
	if _, err := os.Stat("/proc/" + g.qemu); err == nil {
		t.Errorf("%s: process %s is still there", g.name, g.qemu)
	}
	if text, _ := s.Text(); !strings.Contains(text, "SKERRY-GUEST POWER-BUTTON") {
		t.Errorf("%s never saw the power button; its console ends with %q", g.name, text[max(0, len(text)-600):])
	}
}
