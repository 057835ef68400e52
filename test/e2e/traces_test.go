// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// podTraces are the names under which pods are known on the node: their UIDs and
// the IDs of their containers and sandboxes.
type podTraces map[string]string

// note adds the pods of a namespace that are there now.
func (p podTraces) note(t *testing.T, ns string) {
	t.Helper()
	pods := &corev1.PodList{}
	if err := shared.Client.List(t.Context(), pods, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, pod := range pods.Items {
		names[string(pod.UID)] = pod.Name
		p[string(pod.UID)] = pod.Name
	}
	// A container's cgroup is named by its ID, below its pod's.
	walkCgroups(func(dir string) {
		for uid, name := range names {
			if strings.Contains(strings.ReplaceAll(filepath.Base(filepath.Dir(dir)), "_", "-"), uid) {
				p[filepath.Base(dir)] = name
			}
		}
	})
}

func walkCgroups(f func(dir string)) {
	_ = filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			f(p)
		}
		return nil // a cgroup that goes while we walk is no error
	})
}

// left says what on the node still tells of the pods, or is there beyond what was
// there before. What goes a moment later is waited for.
func (p podTraces) left(t *testing.T, before traces) string {
	t.Helper()
	if len(p) == 0 {
		t.Fatal("no pods were noted")
	}
	end := time.Now().Add(time.Minute)
	for {
		now := takeTraces(t)
		var b strings.Builder
		for kind, things := range now {
			for _, thing := range things {
				if pod := p.mentioned(thing); pod != "" {
					fmt.Fprintf(&b, "  %s, of pod %s: %s\n", kind, pod, thing)
				} else if kind.countsAlone() && !slices.Contains(before[kind], thing) {
					fmt.Fprintf(&b, "  %s: %s\n", kind, thing)
				}
			}
		}
		if b.Len() == 0 || time.Now().After(end) {
			return b.String()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (p podTraces) mentioned(thing string) string {
	thing = strings.ReplaceAll(thing, "_", "-")
	for id, pod := range p {
		if strings.Contains(thing, id) {
			return pod
		}
	}
	return ""
}

// kind is a kind of thing that pods have on a node.
type kind string

const (
	traceMount   kind = "mount"
	traceCgroup  kind = "cgroup"
	traceProcess kind = "process"
	traceFile    kind = "file or socket"
	traceOpen    kind = "open file of skerry or containerd"
	traceLink    kind = "network device"
	traceNetNS   kind = "network namespace"
	traceLease   kind = "address"
)

// countsAlone tells of things that do not name their pod.
func (k kind) countsAlone() bool {
	return k == traceLink || k == traceNetNS || k == traceLease
}

// traces is what a node's pods could leave behind.
type traces map[kind][]string

func takeTraces(t *testing.T) traces {
	t.Helper()
	s := traces{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(mounts)) {
		if f := strings.Fields(l); len(f) > 4 {
			s[traceMount] = append(s[traceMount], f[4])
		}
	}
	walkCgroups(func(dir string) { s[traceCgroup] = append(s[traceCgroup], dir) })
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range procs {
		cmdline, err := os.ReadFile(dir + "/cmdline")
		cgroup, err2 := os.ReadFile(dir + "/cgroup")
		if err == nil && err2 == nil && !dead(filepath.Base(dir)) {
			s[traceProcess] = append(s[traceProcess], fmt.Sprintf("%s %q in %q", filepath.Base(dir), cmdline, cgroup))
		}
	}
	if s[traceLink], err = lines(regexp.MustCompile(`^\d+: ([^:@]+)`), "ip", "-o", "link"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{shared.RunDir, shared.DataDir} {
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it went while we walked
			}
			s[traceFile] = append(s[traceFile], p)
			switch filepath.Base(filepath.Dir(p)) {
			case "netns":
				s[traceNetNS] = append(s[traceNetNS], p)
			default:
				// host-local names a file after each address that is taken.
				if addressFile.MatchString(filepath.Base(p)) {
					s[traceLease] = append(s[traceLease], p)
				}
			}
			if d.IsDir() && (d.Name() == "io.containerd.snapshotter.v1.overlayfs" || d.Name() == "io.containerd.content.v1.content") {
				return filepath.SkipDir // images
			}
			return nil
		})
	}
	skerry, err := shared.PID()
	containerd, err2 := containerdPID()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, pid := range []string{skerry, containerd} {
		fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil {
				s[traceOpen] = append(s[traceOpen], to)
			}
		}
	}
	return s
}

var addressFile = regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+$`)

// deleteNamespace deletes it and waits until it is gone, with all in it.
func deleteNamespace(t *testing.T, name string) {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.Name = name
	if err := shared.Client.Delete(context.Background(), ns); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	waitFor(t, "namespace "+name+" to be gone", func() (bool, string) {
		got := &corev1.Namespace{}
		err := shared.Client.Get(t.Context(), client.ObjectKeyFromObject(ns), got)
		return err != nil && client.IgnoreNotFound(err) == nil, fmt.Sprintf("%v %+v", err, got.Status)
	})
}
