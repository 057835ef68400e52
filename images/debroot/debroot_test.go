// SPDX-License-Identifier: Apache-2.0

package debroot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChooseMirrors(t *testing.T) {
	t.Parallel()
	own := Mirrors{"http://deb.debian.org/debian", "http://deb.debian.org/debian-security"}
	for _, tt := range []struct {
		name, main, security, targets string
		want                          Mirrors
	}{
		{name: "no apt", want: own},
		{name: "other distribution", targets: "http://u.example/ubuntu noble main\n", want: own},
		{
			name:    "apt's",
			targets: "https://x.example/apt other main\nhttp://m.example/debian bookworm main\nhttp://m.example/debian bookworm-updates main\nhttp://s.example/sec bookworm-security main\n",
			want:    Mirrors{"http://m.example/debian", "http://s.example/sec"},
		},
		{
			name: "environment wins", main: "http://e.example/debian",
			targets: "http://m.example/debian stable main\n",
			want:    Mirrors{"http://e.example/debian", own.Security},
		},
		{name: "odd lines", targets: "\n \nx\nhttp://m.example/debian bookworm contrib\n", want: own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, chooseMirrors(tt.main, tt.security, tt.targets)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	got := Spec{Suite: "trixie", Backports: true}.sources(Mirrors{"http://m", "http://s"})
	want := "deb http://m trixie main\ndeb http://m trixie-updates main\ndeb http://s trixie-security main\ndeb http://m trixie-backports main\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPackageVersions(t *testing.T) {
	t.Parallel()
	got, err := parseDebs("lock\npartial\nqemu-system-x86_1%3a11.1.3+ds-1~bpo13+1_amd64.deb\nbusybox-static_1%3a1.35.0-4+b7_amd64.deb\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"qemu-system-x86": "1:11.1.3+ds-1~bpo13+1", "busybox-static": "1:1.35.0-4+b7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parseDebs("strange.deb\n"); err == nil {
		t.Error("a file name without version was accepted")
	}
	status := parseStatus("Package: a\nStatus: install ok installed\nVersion: 1.2\n\nPackage: b\nVersion: 3\nDescription: x\n Version: 9\n")
	if diff := cmp.Diff(map[string]string{"a": "1.2", "b": "3"}, status); diff != "" {
		t.Error(diff)
	}
}

func TestKeyFollowsTheRecipe(t *testing.T) {
	t.Parallel()
	a := Spec{Suite: "trixie", Include: []string{"x"}}
	b := a
	b.Include = []string{"x", "y"}
	if a.key() == b.key() {
		t.Error("different recipes have the same key")
	}
	if a.key() != (Spec{Suite: "trixie", Include: []string{"x"}}).key() {
		t.Error("the same recipe has different keys")
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	got := parseOwners("liba_1%3a2_amd64.deb\n./\n./usr/\n./usr/lib/a.so\nold_3_all.deb\n./\n./lib/old file\n./etc/x\n")
	want := map[string]string{"usr/lib/a.so": "liba", "usr/lib/old file": "old", "etc/x": "old"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPruneKeepsOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a-0123456789ab", "a-ba9876543210", "a-b-0123456789ab", "a-short", ".making-1"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(filepath.Join(dir, "a-0123456789ab")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff([]string{".making-1", "a-0123456789ab", "a-b-0123456789ab", "a-short"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLockExcludesAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		release, err := Lock(dir)
		if err == nil {
			release()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("a second lock was had at the same time (%v)", err)
	default:
	}
	release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{unfinished + "1/root", "a-0123456789ab"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "a-0123456789ab" {
		t.Errorf("left: %v", entries)
	}
}
