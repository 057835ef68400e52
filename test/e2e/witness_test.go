// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/test/witness"
)

// witnessVM is tinyVM with a disk for the witness.
func witnessVM(namespace, name string) *v1.VirtualMachine {
	vm := tinyVM(namespace, name)
	witness.AddDisk(&vm.Spec.Template.Spec)
	return vm
}

// witnessed is a running guest with the witness in it (package witness).
type witnessed struct {
	t               *testing.T
	namespace, name string
	// vmi is as it was when the witness started.
	vmi *v1.VirtualMachineInstance
	con *console
	// first is the first report.
	first witness.Report
	// disk is the witness's qcow2 file, held open so that it can be read when the
	// guest and its pod are gone. Nil without a disk.
	disk *os.File
}

// startWitness waits until the guest runs and starts the witness in it.
func startWitness(t *testing.T, namespace, name string) *witnessed {
	t.Helper()
	w := &witnessed{t: t, namespace: namespace, name: name, vmi: running(t, namespace, name), con: openConsole(t, namespace, name)}
	text := w.con.run("witness start")
	r, err := witness.ParseReport(text)
	if err != nil {
		t.Fatalf("start the witness in %s: %v", name, err)
	}
	w.first = r
	if r.Disk != "none" {
		w.disk = openWitnessDisk(t, w.vmi)
	}
	return w
}

// openWitnessDisk opens the qcow2 file of the pod's empty disk.
func openWitnessDisk(t *testing.T, vmi *v1.VirtualMachineInstance) *os.File {
	t.Helper()
	dir := filepath.Join(shared.DataDir, "kubelet", "pods", string(podOf(t, vmi).UID), "volumes", "kubernetes.io~empty-dir", contract.DiskVolume)
	files, err := filepath.Glob(filepath.Join(dir, "*"+witness.DiskName+"*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the witness's disk in %s: %v %v, want one", dir, files, err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// reconnect opens the console anew, after what served it has died.
func (w *witnessed) reconnect() {
	w.t.Helper()
	w.con.conn.Close()
	w.con = openConsole(w.t, w.namespace, w.name)
}

// report asks the guest over its console.
func (w *witnessed) report() witness.Report {
	w.t.Helper()
	return w.parse("witness report")
}

// reset is report, and the longest gap is forgotten.
func (w *witnessed) reset() witness.Report {
	w.t.Helper()
	return w.parse("witness reset")
}

// longestGap is the longest time between two heartbeats since the last reset.
func (w *witnessed) longestGap() time.Duration {
	w.t.Helper()
	return w.report().Gap
}

func (w *witnessed) parse(command string) witness.Report {
	w.t.Helper()
	r, err := witness.ParseReport(w.con.run(command))
	if err != nil {
		w.t.Fatalf("%s in %s: %v", command, w.name, err)
	}
	return r
}

// ranOn fails the test unless the guest has run on since an earlier report, and
// has on its disk what it had called acknowledged. It returns a new report.
func (w *witnessed) ranOn(before witness.Report) witness.Report {
	w.t.Helper()
	now := w.report()
	if err := now.Since(before); err != nil {
		w.t.Errorf("guest %s: %v", w.name, err)
	}
	if now.Disk == "none" {
		return now
	}
	v, err := witness.ParseVerify(w.con.run("witness verify"))
	if err == nil {
		err = v.Check(now.Acked)
	}
	if err != nil {
		w.t.Errorf("disk of guest %s: %v", w.name, err)
	}
	return now
}

// diskFromOutside reads the log out of the qcow2 file once the guest has ended. It
// fails the test unless all is there up to acked.
func (w *witnessed) diskFromOutside(acked uint64) witness.Log {
	w.t.Helper()
	disk, size, err := witness.OpenQcow2(w.disk)
	if err != nil {
		w.t.Fatalf("disk of guest %s: %v", w.name, err)
	}
	l, err := witness.ReadLog(disk, size)
	if err == nil {
		err = l.Check(acked)
	}
	if err != nil {
		w.t.Errorf("disk of guest %s, seen from outside: %v", w.name, err)
	}
	return l
}

// ip is where the guest can be asked while nobody serves its console.
func (w *witnessed) ip() string {
	w.t.Helper()
	vmi := vmiWhen(w.t, w.namespace, w.name, "showing its address", func(v *v1.VirtualMachineInstance) bool {
		return len(v.Status.Interfaces) > 0 && v.Status.Interfaces[0].IPAddress != ""
	})
	return vmi.Status.Interfaces[0].IPAddress
}

// ask sends the witness a command over the network; see ip.
func (w *witnessed) ask(ip, command string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	return witness.Ask(ctx, ip, command)
}

// The witness notices what it is there for: a machine that stands still. What its
// counters and its log say agrees, in the guest and from outside.
func TestWitness(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	vm := witnessVM(ns, "watched")
	vm.Spec.RunStrategy = ptr(v1.RunStrategyOnce)
	create(t, vm)
	w := startWitness(t, ns, "watched")
	ip := w.ip()
	waitFor(t, "the witness to be reached over the network", func() (bool, string) {
		text, err := w.ask(ip, "report")
		return err == nil, fmt.Sprint(text, err)
	})
	traffic, err := witness.StartTraffic(t.Context(), ip)
	if err != nil {
		t.Fatal(err)
	}
	before := w.reset()
	waitFor(t, "writes and traffic", func() (bool, string) {
		r := w.report()
		return r.Acked > before.Acked+20 && r.TCPOut > 20*1024 && r.UDPOut > 20, fmt.Sprintf("%+v", r)
	})
	quiet := w.ranOn(before)
	pid := podProcesses(t, string(podOf(t, w.vmi).UID))[0]["Pid"]
	if err := signalProcess(pid, stopSignal); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // this is how long the machine stands still
	if err := signalProcess(pid, continueSignal); err != nil {
		t.Fatal(err)
	}
	stopped := w.ranOn(quiet)
	if stopped.Gap < 2*time.Second {
		t.Errorf("the machine stood still for 3 s, the guest's longest gap is %v", stopped.Gap)
	}
	t.Logf("gap %v, over 3 s of standstill %v; %d records, slowest write %v", quiet.Gap, stopped.Gap, stopped.Acked, stopped.Slowest)
	if n, err := traffic.Stop(); err != nil || n.DatagramsIn == 0 {
		t.Errorf("traffic with the guest: %+v %v", n, err)
	}
	if text, err := w.ask(ip, "poweroff"); err != nil {
		t.Fatal(text, err)
	}
	vmiWhen(t, ns, "watched", "Succeeded", func(v *v1.VirtualMachineInstance) bool { return v.Status.Phase == v1.Succeeded })
	w.diskFromOutside(stopped.Acked)
}
