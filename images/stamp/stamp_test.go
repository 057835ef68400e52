// SPDX-License-Identifier: Apache-2.0

package stamp

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestFresh(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	key := NewKey("r").Text("a", "b")
	if Fresh(key, out) {
		t.Fatal("an output that does not exist is fresh")
	}
	if err := os.WriteFile(out, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if Fresh(key, out) {
		t.Fatal("an output without a stamp is fresh")
	}
	if err := Done(key, out); err != nil {
		t.Fatal(err)
	}
	if !Fresh(NewKey("r").Text("a", "b"), out) {
		t.Error("the same key is not fresh")
	}
	for name, other := range map[string]*Key{
		"other text":      NewKey("r").Text("a", "c"),
		"other partition": NewKey("r").Text("ab"),
		"other recipe":    NewKey("s").Text("a", "b"),
	} {
		if Fresh(other, out) {
			t.Errorf("%s is fresh", name)
		}
	}
	if err := os.WriteFile(out, []byte("twotwo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if Fresh(key, out) {
		t.Error("a replaced output is fresh")
	}
}

func TestKeyFollowsFiles(t *testing.T) {
	t.Parallel()
	key := func(fsys fstest.MapFS) string {
		k := NewKey("r")
		if err := k.FS(fsys); err != nil {
			t.Fatal(err)
		}
		return k.String()
	}
	a := key(fstest.MapFS{"d/x": {Data: []byte("1")}})
	if a != key(fstest.MapFS{"d/x": {Data: []byte("1")}}) {
		t.Error("the same files have different keys")
	}
	if a == key(fstest.MapFS{"d/x": {Data: []byte("2")}}) || a == key(fstest.MapFS{"d/y": {Data: []byte("1")}}) {
		t.Error("different files have the same key")
	}
}
