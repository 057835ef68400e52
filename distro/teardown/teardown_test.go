// SPDX-License-Identifier: Apache-2.0

package teardown

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMountsWithin(t *testing.T) {
	t.Parallel()
	const info = `22 1 0:20 / /proc rw - proc proc rw
30 1 0:5 / /var/lib/skerry/kubelet/pods/a/volumes/x rw - tmpfs tmpfs rw
31 1 0:5 / /var/lib/skerry-other/x rw - tmpfs tmpfs rw
32 30 0:5 / /var/lib/skerry/kubelet/pods/a/volumes/x/with\040blank rw - tmpfs tmpfs rw
29 1 0:5 / /var/lib/skerry rw - ext4 /dev/sdb1 rw
33 1 0:5 / /run/sk/netns/cni-1 rw - nsfs nsfs rw
`
	want := []string{
		"/var/lib/skerry/kubelet/pods/a/volumes/x",
		"/var/lib/skerry/kubelet/pods/a/volumes/x/with blank",
		"/run/sk/netns/cni-1",
	}
	if d := cmp.Diff(want, mountsWithin(info, "/var/lib/skerry/", "/run/sk")); d != "" {
		t.Error(d)
	}
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	target := Target{DataDir: "/var/lib/skerry", RunDir: "/run/sk", CgroupRoot: "/skerry"}
	for _, c := range []struct {
		name, cmd, cgroup string
		want              bool
	}{
		{"our containerd", "/usr/bin/containerd\x00--config\x00/var/lib/skerry/containerd/config.toml\x00", "", true},
		{"our shim", "/x/containerd-shim-runc-v2\x00-address\x00/run/sk/containerd.sock\x00", "", true},
		{"another containerd", "/usr/bin/containerd\x00--config\x00/etc/containerd/config.toml\x00", "", false},
		{"one with a like name", "/usr/bin/containerd\x00--root\x00/var/lib/skerry-test/x\x00", "", false},
		{"an editor with our file", "vi\x00/var/lib/skerry/kubeconfig\x00", "", false},
		{"a container", "nginx\x00", "4:memory:/skerry/kubepods/pod1/abc\n", true},
		{"somebody's container", "nginx\x00", "4:memory:/kubepods/pod1/abc\n0::/\n", false},
		{"a cgroup with a like name", "nginx\x00", "0::/skerry2/x\n", false},
	} {
		if got := ownsCommand(target, c.cmd) || ownsCgroup(target, c.cgroup); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A half-filled target must never remove the machine's root.
func TestRemoveRefusesWithoutDirectories(t *testing.T) {
	t.Parallel()
	for _, target := range []Target{{}, {DataDir: "/", RunDir: "/run/x"}, {DataDir: "/var/lib/x"}} {
		err := Remove(context.Background(), target, func(what string, _ error) { t.Errorf("%+v: removed %s", target, what) })
		if err == nil {
			t.Errorf("%+v: accepted", target)
		}
	}
}
