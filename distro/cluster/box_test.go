// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/distro/box"
)

func TestConditionsOfTheNode(t *testing.T) {
	t.Parallel()
	before, now := metav1.Unix(1000, 0), metav1.Unix(2000, 0)
	is := map[string]box.Condition{
		"A": {Type: "A", Reason: "Good", Message: "good"},
		"B": {Type: "B", True: true, Reason: "Bad", Message: "bad"},
	}
	node := func(kind string, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: corev1.NodeConditionType(kind), Status: status, Reason: reason, Message: message, LastTransitionTime: before, LastHeartbeatTime: before}
	}
	said := []corev1.NodeCondition{node("Ready", "True", "", ""), node("A", "False", "Good", "good"), node("B", "True", "Bad", "bad")}
	for name, c := range map[string]struct {
		have  []corev1.NodeCondition
		news  []string
		other bool
		since map[string]metav1.Time
	}{
		"new node":             {nil, []string{"B"}, true, map[string]metav1.Time{"A": now, "B": now}},
		"said already":         {said, nil, false, map[string]metav1.Time{"A": before, "B": before}},
		"one is gone":          {said[:2], []string{"B"}, true, map[string]metav1.Time{"A": before, "B": now}},
		"worse in another way": {[]corev1.NodeCondition{said[1], node("B", "True", "Bad", "worse")}, []string{"B"}, true, map[string]metav1.Time{"A": before, "B": before}},
		"one has ended":        {[]corev1.NodeCondition{node("A", "True", "Bad", "bad"), said[2]}, []string{"A"}, true, map[string]metav1.Time{"A": now, "B": before}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, news, other := conditionsOf(c.have, is, now)
			var types []string
			for _, n := range news {
				types = append(types, n.Type)
			}
			since := map[string]metav1.Time{}
			for _, w := range want {
				since[string(*w.Type)] = *w.LastTransitionTime
			}
			if diff := cmp.Diff(c.news, types); diff != "" || other != c.other {
				t.Errorf("other %v, want %v; news (-want +got):\n%s", other, c.other, diff)
			}
			if diff := cmp.Diff(c.since, since); diff != "" {
				t.Errorf("since (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiskTaint(t *testing.T) {
	t.Parallel()
	others := corev1.Taint{Key: "a", Effect: corev1.TaintEffectNoExecute}
	own := corev1.Taint{Key: box.DiskTaint, Effect: corev1.TaintEffectNoSchedule}
	for name, c := range map[string]struct {
		have  []corev1.Taint
		short bool
		want  []corev1.Taint
		other bool
	}{
		"short":             {[]corev1.Taint{others}, true, []corev1.Taint{others, own}, true},
		"short already":     {[]corev1.Taint{own, others}, true, []corev1.Taint{others, own}, false},
		"not short":         {nil, false, []corev1.Taint{}, false},
		"not short anymore": {[]corev1.Taint{own, others}, false, []corev1.Taint{others}, true},
	} {
		got, other := taintsOf(c.have, c.short)
		if diff := cmp.Diff(c.want, got); diff != "" || other != c.other {
			t.Errorf("%s: other %v, want %v (-want +got):\n%s", name, other, c.other, diff)
		}
	}
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestReserve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if was, err := giveBack(dir); was || err != nil {
		t.Errorf("without a reserve: %v, %v", was, err)
	}
	// One that was cut short is completed.
	if err := os.WriteFile(reserveFile(dir), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := holdBack(dir); err != nil {
			t.Fatal(err)
		}
		if n := allocated(t, reserveFile(dir)); n < box.Reserve {
			t.Errorf("%d bytes are held back", n)
		}
	}
	if was, err := giveBack(dir); !was || err != nil {
		t.Errorf("give back: %v, %v", was, err)
	}
	if err := makeRoom(filepath.Join(dir, "never-made")); err != nil {
		t.Errorf("before the first start: %v", err)
	}
}

func TestDatabaseHasSpaceAhead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := allocateAhead(dir); err == nil {
		t.Error("there is no database, and no error")
	}
	db := filepath.Join(dir, "etcd", "member", "snap", "db")
	if err := os.MkdirAll(filepath.Dir(db), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(db)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// As bbolt grows it: sparse.
	for _, size := range []int64{1 << 20, 24 << 20, 100 << 20} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if err := allocateAhead(dir); err != nil {
			t.Fatal(err)
		}
		if st, err := f.Stat(); err != nil || st.Size() != size {
			t.Errorf("the size is %d, %v, want %d", st.Size(), err, size)
		}
		if n := allocated(t, db); n < size+etcdAhead/2 {
			t.Errorf("%d bytes are there for %d", n, size)
		}
	}
}

func TestReadClock(t *testing.T) {
	t.Parallel()
	r, err := readClock()
	if err != nil || r.Boot <= 0 || time.Since(r.Wall).Abs() > time.Hour {
		t.Errorf("%+v, %v", r, err)
	}
	if m, err := readMemory(); err != nil || m.Available == 0 || m.Available > m.Total {
		t.Errorf("%+v, %v", m, err)
	}
	if !lastSeen(filepath.Join(t.TempDir(), "none")).IsZero() {
		t.Error("an earlier start was seen")
	}
}

func TestADiskThatIsFullEndsNoPod(t *testing.T) {
	t.Parallel()
	c := complete(t, Config{NodeName: "n", DataDir: t.TempDir()})
	s, err := c.kubeletOptions("")
	if err != nil {
		t.Fatal(err)
	}
	// One that is missing gets the library's default.
	want := map[string]string{"memory.available": "104857600", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"}
	if diff := cmp.Diff(want, s.EvictionHard); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.SystemReserved["memory"] == "" {
		t.Error("no memory is kept for the system")
	}
}
