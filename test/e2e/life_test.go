// SPDX-License-Identifier: Apache-2.0

//go:build e2e && failpoints

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/failpoint/source"
	"github.com/skerry-dev/skerry/test/node"
)

// The stages of a machine's life in which its surroundings are killed.
const (
	booting  = "boot"   // created, until it is ready
	runs     = "run"    // skerry is killed and takes it over, until it has paused it
	paused   = "pause"  // skerry is killed and takes it over, until it has gone on
	stopping = "stop"   // by its run strategy, until it is stopped
	again    = "again"  // by its run strategy, until it is ready
	deleting = "delete" // until it is gone
)

var stagesOfLife = []string{booting, runs, paused, stopping, again, deleting}

// TestFailpointsOfALife kills skerry and the launcher at a few places, in each
// stage of a machine's life at one or two.
func TestFailpointsOfALife(t *testing.T) {
	f := newInjector(t)
	f.reachLaunchers()
	plan := map[string][]string{
		booting:  {"controller.vmi.after-create-pod", "agent.start.before-result"},
		runs:     {"agent.adopt.before-network"},
		paused:   {"agent.monitor.before-refresh"},
		stopping: {"controller.vmi.after-delete-pod"},
		again:    {"launcher.disk.before-rename"},
		deleting: {"controller.vm.after-delete-instance"},
	}
	hit := f.live(t, "sample", plan)
	for stage, points := range plan {
		for _, p := range points {
			if !hit[stage][p] {
				t.Errorf("%s was not reached in the stage %s", p, stage)
			}
		}
	}
}

// TestFailpointCampaign kills at every place in the source, in each stage of a
// machine's life: a life for each noun, with all of its places armed, and for each
// place of the launcher. Without
// SKERRY_CAMPAIGN there is nothing to do.
func TestFailpointCampaign(t *testing.T) {
	if os.Getenv("SKERRY_CAMPAIGN") == "" {
		return
	}
	f := newInjector(t)
	f.reachLaunchers()
	nouns := map[string][]string{}
	for _, p := range points(t) {
		if inFirstStart(p) {
			continue
		}
		w := strings.SplitN(p, ".", 3)
		key := w[0] + "-" + w[1]
		if w[0] == "launcher" {
			key += "-" + w[2] // it runs once: the first place would hide the others
		}
		nouns[key] = append(nouns[key], p)
	}
	reached, all := map[string]bool{}, 0
	for _, noun := range slices.Sorted(maps.Keys(nouns)) {
		t.Run(noun, func(t *testing.T) {
			g := *f
			g.t = t
			plan := map[string][]string{}
			for _, s := range stagesOfLife {
				if strings.HasPrefix(noun, "launcher-") && (s == runs || s == paused) {
					continue // nothing of it runs beside QEMU
				}
				plan[s] = nouns[noun]
			}
			hit := g.live(t, noun, plan)
			all += len(nouns[noun])
			for _, p := range nouns[noun] {
				var in []string
				for _, s := range stagesOfLife {
					if hit[s][p] {
						in = append(in, s)
						reached[p] = true
					}
				}
				t.Logf("%s: killed in the stages %v", p, in)
			}
		})
	}
	t.Logf("killed at %d places of %d", len(reached), all)
	if all > 25 && len(reached) < 25 {
		t.Errorf("%d places were reached, want at least 25", len(reached))
	}
}

// points are the names in the source.
func points(t *testing.T) []string {
	t.Helper()
	root, err := source.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := source.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range all {
		out = append(out, p.Name)
	}
	return out
}

// life is one machine and what was seen of it.
type life struct {
	*injector
	vm        *v1.VirtualMachine
	instances map[types.UID]bool
	pods      map[types.UID]bool
}

// live leads a machine through all stages, with the plan's places armed at the
// beginning of each. It returns those that were hit. Afterwards the machine has
// reached every stage, the guest has run on wherever it ran, and nothing is left.
func (f *injector) live(t *testing.T, name string, plan map[string][]string) map[string]map[string]bool {
	t.Helper()
	before := f.machineState()
	ns := namespace(t)
	l := &life{injector: f, vm: witnessVM(ns, name), instances: map[types.UID]bool{}, pods: map[types.UID]bool{}}
	hit := map[string]map[string]bool{}
	stage := func(name string, do func()) {
		t.Helper()
		l.arm(plan[name])
		do()
		hit[name] = l.settle()
	}

	stage(booting, func() { l.create(); l.untilReady() })
	l.sameInstance(plan[booting])
	w := startWitness(t, ns, l.vm.Name)
	qemu := podProcesses(t, string(podOf(t, w.vmi).UID))
	report := w.report()

	stage(runs, func() { l.killSkerry(); l.untilPaused(true) })
	stage(paused, func() { l.killSkerry(); l.untilPaused(true); l.untilPaused(false) })
	w.reconnect()
	report = w.ranOn(report)
	l.sameMachine(w, qemu)

	stage(stopping, func() { l.strategy(v1.RunStrategyHalted); l.untilStopped() })
	w.diskFromOutside(report.Acked)
	l.instances = map[types.UID]bool{}
	stage(again, func() { l.strategy(v1.RunStrategyAlways); l.untilReady() })
	l.sameInstance(plan[again])
	stage(deleting, func() { l.remove(); l.untilGone() })
	l.nothingLeft(before)
	return hit
}

// create makes the machine. A request whose answer was lost counts when it worked.
func (l *life) create() {
	l.t.Helper()
	l.until("the machine to be created", func() (bool, string) {
		err := shared.Client.Create(l.t.Context(), l.vm.DeepCopy())
		return err == nil || apierrors.IsAlreadyExists(err), fmt.Sprint(err)
	})
}

func (l *life) strategy(s v1.VirtualMachineRunStrategy) {
	l.t.Helper()
	l.until("the run strategy to be "+string(s), func() (bool, string) {
		vm, err := l.get()
		if err != nil {
			return false, err.Error()
		}
		if vm.Spec.RunStrategy != nil && *vm.Spec.RunStrategy == s {
			return true, ""
		}
		patch := client.MergeFrom(vm.DeepCopy())
		vm.Spec.RunStrategy = &s
		return false, fmt.Sprint(shared.Client.Patch(l.t.Context(), vm, patch))
	})
}

func (l *life) remove() {
	l.t.Helper()
	l.until("the machine to be deleted", func() (bool, string) {
		err := shared.Client.Delete(l.t.Context(), l.vm.DeepCopy())
		return err == nil || apierrors.IsNotFound(err), fmt.Sprint(err)
	})
}

func (l *life) get() (*v1.VirtualMachine, error) {
	vm := &v1.VirtualMachine{}
	return vm, shared.Client.Get(l.t.Context(), client.ObjectKeyFromObject(l.vm), vm)
}

// instance is the machine's, or nil. It remembers every one, and its pods.
func (l *life) instance() (*v1.VirtualMachineInstance, error) {
	vmi := &v1.VirtualMachineInstance{}
	if err := shared.Client.Get(l.t.Context(), client.ObjectKeyFromObject(l.vm), vmi); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	l.instances[vmi.UID] = true
	for uid := range vmi.Status.ActivePods {
		l.pods[types.UID(uid)] = true
	}
	return vmi, nil
}

func (l *life) untilReady() {
	l.t.Helper()
	l.until("the machine to be ready", func() (bool, string) {
		vmi, err := l.instance()
		if err != nil || vmi == nil {
			return false, fmt.Sprint("no instance: ", err)
		}
		c := vmi.Status.Condition(v1.VMIReady)
		ready := vmi.Status.Phase == v1.Running && c != nil && c.Status == corev1.ConditionTrue
		if vm, err := l.get(); err != nil || vm.Status.Ready == nil || !*vm.Status.Ready {
			ready = false
		}
		return ready, fmt.Sprintf("%s %+v", vmi.Status.Phase, vmi.Status.Conditions)
	})
}

// untilPaused pauses the machine, or lets it go on, until its instance says so.
func (l *life) untilPaused(want bool) {
	l.t.Helper()
	what := map[bool]string{true: "pause", false: "unpause"}[want]
	l.until("the machine to "+what, func() (bool, string) {
		vmi, err := l.instance()
		if err != nil || vmi == nil {
			return false, fmt.Sprint("no instance: ", err)
		}
		c := vmi.Status.Condition(v1.VMIPaused)
		if is := c != nil && c.Status == corev1.ConditionTrue; is == want {
			return true, ""
		}
		return false, fmt.Sprint(verb(l.t.Context(), vmi.Namespace, vmi.Name, what))
	})
}

func (l *life) untilStopped() {
	l.t.Helper()
	l.until("the machine to be stopped", func() (bool, string) {
		vmi, err := l.instance()
		if err != nil || vmi != nil {
			return false, fmt.Sprint("there is an instance: ", err)
		}
		vm, err := l.get()
		return err == nil && vm.Status.PrintableStatus == v1.StatusStopped, fmt.Sprint(vm.Status.PrintableStatus, err)
	})
}

func (l *life) untilGone() {
	l.t.Helper()
	l.until("the machine to be gone", func() (bool, string) {
		vmi, err := l.instance()
		if err != nil || vmi != nil {
			return false, fmt.Sprint("there is an instance: ", err)
		}
		if _, err = l.get(); !apierrors.IsNotFound(err) {
			return false, fmt.Sprint("it is there: ", err)
		}
		pods := &corev1.PodList{}
		err = shared.Client.List(l.t.Context(), pods, client.InNamespace(l.vm.Namespace))
		return err == nil && len(pods.Items) == 0, fmt.Sprintf("%d pods: %v", len(pods.Items), err)
	})
}

// sameInstance fails the test if the machine was given up and started anew while
// only skerry died, and not the launcher in its pod.
func (l *life) sameInstance(armed []string) {
	l.t.Helper()
	launcher := slices.ContainsFunc(armed, func(p string) bool { return strings.HasPrefix(p, "launcher.") })
	if len(l.instances) != 1 && !launcher {
		l.t.Errorf("the machine had %d instances, want 1", len(l.instances))
	}
}

// sameMachine fails the test if QEMU is another process than it was.
func (l *life) sameMachine(w *witnessed, was []map[string]string) {
	l.t.Helper()
	vmi := running(l.t, l.vm.Namespace, l.vm.Name)
	pod := podOf(l.t, vmi)
	is := podProcesses(l.t, string(pod.UID))
	if vmi.UID != w.vmi.UID || len(was) != 1 || len(is) != 1 || was[0]["Pid"] != is[0]["Pid"] {
		l.t.Errorf("QEMU is another one: instance %s, processes %v; was %s, %v", vmi.UID, is, w.vmi.UID, was)
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.RestartCount != 0 {
			l.t.Errorf("container %s was restarted %d times", c.Name, c.RestartCount)
		}
	}
}

// machineState is what pods have on this machine beside what has their UID in its
// name: network links, namespaces, addresses given out, shims.
func (f *injector) machineState() snapshot {
	f.t.Helper()
	all, err := takeSnapshot()
	if err != nil {
		f.t.Fatal(err)
	}
	s := snapshot{"links": all["links"]}
	for _, p := range all["processes"] {
		if strings.Contains(p, "containerd-shim") || strings.Contains(p, "qemu-system") {
			s["processes"] = append(s["processes"], p)
		}
	}
	for kind, pattern := range map[string]string{
		"addresses given out": filepath.Join(shared.DataDir, "cni/networks/*/[0-9]*"),
		"CNI results":         "/var/lib/cni/results/*",
		"tasks":               filepath.Join(shared.RunDir, "ctrd/io.containerd.runtime.v2.task/k8s.io/*"),
		"shims' sockets":      filepath.Join(shared.RunDir, "ctrd/s/*"),
		"containers":          filepath.Join(shared.RunDir, "ctrd/io.containerd.grpc.v1.cri/containers/*"),
		"sandboxes":           filepath.Join(shared.RunDir, "ctrd/io.containerd.grpc.v1.cri/sandboxes/*"),
		"namespaces":          filepath.Join(shared.RunDir, "ctrd/io.containerd.grpc.v1.cri/netns/*"),
	} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.t.Fatal(err)
		}
		s[kind] = files
	}
	return s
}

// nothingLeft fails the test unless everything of the machine's pods is gone.
func (l *life) nothingLeft(before snapshot) {
	l.t.Helper()
	l.until("all that the machine had to be gone", func() (bool, string) {
		var left []string
		for kind, now := range l.machineState() {
			for _, x := range now {
				if !slices.Contains(before[kind], x) {
					left = append(left, kind+": "+x)
				}
			}
		}
		for uid := range l.pods {
			for _, pid := range node.PodPIDs(string(uid)) {
				left = append(left, "process: "+pid)
			}
			left = append(left, named(l.t, string(uid))...)
		}
		return len(left) == 0, strings.Join(left, "\n")
	})
}

// named lists mounts, cgroups and the kubelet's files of a pod.
func named(t *testing.T, podUID string) []string {
	t.Helper()
	var left []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for m := range strings.Lines(string(mounts)) {
		if strings.Contains(m, podUID) {
			left = append(left, "mount: "+strings.TrimSpace(m))
		}
	}
	dir := filepath.Join(shared.DataDir, "kubelet", "pods", podUID)
	if _, err := os.Lstat(dir); err == nil {
		left = append(left, "directory: "+dir)
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(strings.ReplaceAll(d.Name(), "_", "-"), podUID) {
			left = append(left, "cgroup: "+p)
		}
		return nil // a cgroup that goes while we walk is no error
	})
	return left
}
