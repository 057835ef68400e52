// SPDX-License-Identifier: Apache-2.0

package written

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func pod(uid types.UID, version string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: uid, ResourceVersion: version}}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	var l Last[*corev1.Pod]
	want := func(cached *corev1.Pod, version string) {
		t.Helper()
		if got := l.Newest(cached); got.ResourceVersion != version {
			t.Errorf("version %s over cached %s, want %s", got.ResourceVersion, cached.ResourceVersion, version)
		}
	}
	want(pod("u", "1"), "1")
	l.Wrote("1", pod("u", "2"))
	want(pod("u", "1"), "2")
	l.Newest(pod("u", "1")).ResourceVersion = "changed" // the caller's own copy
	want(pod("u", "1"), "2")
	l.Wrote("1", pod("u", "3")) // a second write over the same cached version
	want(pod("u", "1"), "3")
	want(pod("u", "2"), "2") // the cache moves on
	want(pod("u", "1"), "1")

	l.Wrote("1", pod("u", "2"))
	want(pod("other", "1"), "1") // another object of that name
	l.Wrote("1", pod("u", "2"))
	l.Forget(client.ObjectKey{Namespace: "ns", Name: "a"})
	want(pod("u", "1"), "1")
}

func TestDeletions(t *testing.T) {
	t.Parallel()
	var l Deletions
	key := client.ObjectKey{Namespace: "ns", Name: "a"}
	if l.Done(key, Deletion{"u", 30}) {
		t.Error("done before anything was")
	}
	l.Note(key, Deletion{"u", 30})
	if !l.Done(key, Deletion{"u", 30}) || l.Done(key, Deletion{"u", 1}) || l.Done(key, Deletion{"v", 30}) {
		t.Error("not the same deletion")
	}
	l.Forget(key)
	if l.Done(key, Deletion{"u", 30}) {
		t.Error("not forgotten")
	}
}
