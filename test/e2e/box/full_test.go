// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// fill leaves nothing of the data directory's file system free. It may be called
// again when something has become free.
func fill(t *testing.T) (filler string) {
	t.Helper()
	filler = filepath.Join(box.DataDir, "filler")
	f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for step := int64(64 << 20); step >= 4096; {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, st.Size(), step); {
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case err != nil:
			t.Fatalf("fill the disk: %v", err)
		}
	}
	return filler
}

// nodeCondition is a condition of the node, its status Unknown if there is none, and
// whether the node has the taint of a short disk.
func nodeCondition(t *testing.T, kind string) (c corev1.NodeCondition, tainted bool) {
	t.Helper()
	c.Status = corev1.ConditionUnknown
	nodes := &corev1.NodeList{}
	if err := box.Client.List(t.Context(), nodes); err != nil || len(nodes.Items) != 1 {
		c.Message = fmt.Sprint(len(nodes.Items), " nodes, ", err)
		return c, false
	}
	for _, x := range nodes.Items[0].Status.Conditions {
		if string(x.Type) == kind {
			c = x
		}
	}
	for _, x := range nodes.Items[0].Spec.Taints {
		tainted = tainted || x.Key == "skerry.dev/disk-short" && x.Effect == corev1.TaintEffectNoSchedule
	}
	return c, tainted
}

// nodeEvents are the reasons of the Events about the node.
func nodeEvents(t *testing.T) string {
	t.Helper()
	list := &corev1.EventList{}
	if err := box.Client.List(t.Context(), list, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for i := range list.Items {
		if list.Items[i].InvolvedObject.Kind == "Node" {
			reasons = append(reasons, list.Items[i].Reason)
		}
	}
	return strings.Join(reasons, " ")
}

// lastNumber is the number in the last line of a guest's log that begins with word.
func lastNumber(log, word string) int {
	all := regexp.MustCompile(regexp.QuoteMeta(word)+` (\d+)`).FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1][1])
	return n
}

// The disk under the data directory fills up to the last byte. A guest that does not
// write runs on, one that does stands still and loses nothing; the API goes on to
// answer and to store; nothing new is started, and all that is said. When there is
// space again, everything goes on by itself.
func TestDiskFull(t *testing.T) {
	if os.Getenv("SKERRY_CAMPAIGN") == "" {
		t.Log("a disk is filled in the campaign: it takes minutes")
		return
	}
	ownDisk(t, 2560)
	fresh(t)
	quiet := withScript(machine("default", "quiet", v1.RunStrategyAlways), `n=0; while :; do n=$((n+1)); echo SKERRY-TICK $n; sleep 1; done`)
	writer := machine("default", "writer", v1.RunStrategyAlways)
	spec := &writer.Spec.Template.Spec
	spec.Domain.Devices.Disks = []v1.Disk{{Name: "data", Disk: &v1.DiskTarget{Bus: "virtio"}}}
	spec.Volumes = []v1.Volume{{Name: "data", EmptyDisk: &v1.EmptyDiskSource{Capacity: resource.MustParse("1Gi")}}}
	withScript(writer, `head -c 262144 /dev/urandom >/tmp/block
n=0; while dd if=/tmp/block of=/dev/vda bs=262144 seek=$n conv=fsync,notrunc 2>/dev/null; do n=$((n+1)); echo SKERRY-WROTE $n; sleep 1; done; echo SKERRY-FAILED`)
	create(t, quiet, writer)
	before := map[string]*v1.VirtualMachineInstance{}
	before["quiet"], _ = logged(t, "quiet", "SKERRY-TICK 2", nil)
	before["writer"], _ = logged(t, "writer", "SKERRY-WROTE 2", nil)
	if c, tainted := nodeCondition(t, "SkerryDiskShort"); c.Status != corev1.ConditionFalse || tainted {
		t.Fatalf("before: SkerryDiskShort is %s %s, tainted %v", c.Status, c.Message, tainted)
	}
	reserve := filepath.Join(box.DataDir, "reserve")
	waitFor(t, "the reserve", func() (bool, string) {
		st, err := os.Stat(reserve)
		return err == nil && st.Size() == 32<<20, fmt.Sprint(err)
	})
	pid, err := box.PID()
	if err != nil {
		t.Fatal(err)
	}

	fill(t)
	waitFor(t, "the reserve to be given back", func() (bool, string) {
		_, err := os.Stat(reserve)
		return errors.Is(err, os.ErrNotExist), fmt.Sprint(err)
	})
	// Whoever fills the disk takes that, too.
	filler := fill(t)
	waitFor(t, "the node to say that its disk is full", func() (bool, string) {
		c, tainted := nodeCondition(t, "SkerryDiskShort")
		return c.Status == corev1.ConditionTrue && c.Reason == "DiskFull" && tainted, fmt.Sprintf("%s %s: %s; tainted %v", c.Status, c.Reason, c.Message, tainted)
	})
	waitFor(t, "the writing machine to stand still", func() (bool, string) {
		vmi := instance(t, "writer")
		if vmi == nil {
			return false, "no instance"
		}
		c := vmi.Status.Condition(v1.VMIPaused)
		return c != nil && c.Reason == "PausedIOError", fmt.Sprintf("%s %+v", vmi.Status.Phase, vmi.Status.Conditions)
	})
	if c := instance(t, "quiet").Status.Condition(v1.VMIPaused); c != nil {
		t.Errorf("the machine that does not write: %+v", c)
	}
	// More than etcd has ever in store of its own: the database has to grow.
	text := strings.Repeat("0123456789abcdef", 6400)
	for i := range 80 {
		create(t, &corev1.ConfigMap{Data: map[string]string{"text": text}, ObjectMeta: meta(fmt.Sprintf("while-full-%d", i))})
	}
	create(t, machine("default", "late", v1.RunStrategyAlways))
	// The scheduler does not name taints to whoever may not see nodes.
	waitFor(t, "the new machine to be told why it does not start", func() (bool, string) {
		pods := &corev1.PodList{}
		if err := box.Client.List(t.Context(), pods, client.InNamespace("default")); err != nil {
			return false, err.Error()
		}
		said := ""
		for i := range pods.Items {
			for _, c := range pods.Items[i].Status.Conditions {
				if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
					said += c.Message
				}
			}
		}
		return strings.Contains(said, "untolerated taint"), said
	})
	// It exits with 0 when all that should run does.
	if out, err := box.Skerry(t.Context(), "status"); err != nil || !strings.Contains(out, "is full (of") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if events := nodeEvents(t); !strings.Contains(events, "DiskFull") {
		t.Errorf("Events about the node: %s", events)
	}
	ticks := lastNumber(podLog(t, before["quiet"]), "SKERRY-TICK")

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node to say that its disk has space", func() (bool, string) {
		c, tainted := nodeCondition(t, "SkerryDiskShort")
		return c.Status == corev1.ConditionFalse && !tainted, fmt.Sprintf("%s %s: %s; tainted %v", c.Status, c.Reason, c.Message, tainted)
	})
	waitFor(t, "the reserve to be held back again", func() (bool, string) {
		st, err := os.Stat(reserve)
		return err == nil && st.Size() == 32<<20, fmt.Sprint(err)
	})
	stopped := lastNumber(podLog(t, before["writer"]), "SKERRY-WROTE")
	waitFor(t, "both guests to go on", func() (bool, string) {
		q, w := podLog(t, before["quiet"]), podLog(t, before["writer"])
		if strings.Contains(w, "SKERRY-FAILED") {
			t.Fatalf("the guest's write failed: %s", w)
		}
		return lastNumber(q, "SKERRY-TICK") > ticks+2 && lastNumber(w, "SKERRY-WROTE") > stopped+1, q + w
	})
	ready(t, "late", nil)
	for name, was := range before {
		if is := instance(t, name); is == nil || is.UID != was.UID {
			t.Errorf("machine %s was started anew", name)
		}
	}
	if now, err := box.PID(); err != nil || now != pid {
		t.Errorf("the skerry process is %s now, was %s: %v", now, pid, err)
	}
	if events := nodeEvents(t); !strings.Contains(events, "DiskHasSpace") {
		t.Errorf("Events about the node: %s", events)
	}
}
