// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func capability(mode csi.VolumeCapability_AccessMode_Mode, fsType string) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
	switch fsType {
	case "none":
	case "block":
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	default:
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}}
	}
	return c
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	const rwo = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	for _, tc := range []struct {
		caps []*csi.VolumeCapability
		want kind
		err  string
	}{
		{nil, kind{}, "must not be empty"},
		{[]*csi.VolumeCapability{capability(rwo, "")}, kind{fsType: DefaultFSType}, ""},
		{[]*csi.VolumeCapability{capability(rwo, "ext4")}, kind{fsType: "ext4"}, ""},
		{[]*csi.VolumeCapability{capability(rwo, "block")}, kind{block: true}, ""},
		{[]*csi.VolumeCapability{capability(rwo, "none")}, kind{}, "must be block or mount"},
		{[]*csi.VolumeCapability{capability(rwo, "ntfs")}, kind{}, `"ntfs": must be ext4 or xfs`},
		{[]*csi.VolumeCapability{capability(rwo, "xfs"), capability(rwo, "block")}, kind{}, "capability 1"},
		{[]*csi.VolumeCapability{capability(rwo, "xfs"), capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY, "xfs")}, kind{fsType: "xfs"}, ""},
		{[]*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER, "xfs")}, kind{}, "MULTI_NODE_MULTI_WRITER"},
		{[]*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_UNKNOWN, "xfs")}, kind{}, "UNKNOWN"},
	} {
		got, err := kindOf(tc.caps)
		if tc.err == "" && (err != nil || got != tc.want) || tc.err != "" && (status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%v: got %+v, %v; want %+v, %q", tc.caps, got, err, tc.want, tc.err)
		}
	}
}

func TestMountOptions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fsType string
		asked  []string
		flags  uintptr
		data   string
	}{
		{"ext4", nil, 0, "discard"},
		{"xfs", nil, 0, "discard,nouuid"},
		{"xfs", []string{"nouuid", "nodiscard"}, 0, "nouuid,nodiscard"},
		{"ext4", []string{"noatime,nosuid", "data=journal", "", "defaults"}, unix.MS_NOATIME | unix.MS_NOSUID, "data=journal,discard"},
		{"ext4", []string{"ro"}, unix.MS_RDONLY, "discard"},
	} {
		if flags, data := mountOptions(tc.fsType, tc.asked); flags != tc.flags || data != tc.data {
			t.Errorf("%s %q: got %x %q, want %x %q", tc.fsType, tc.asked, flags, data, tc.flags, tc.data)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	all := []int{1, 2, 3}
	for _, tc := range []struct {
		token string
		most  int32
		n     int
		next  string
		code  codes.Code
	}{
		{"", 0, 3, "", codes.OK}, {"", 2, 2, "2", codes.OK}, {"2", 2, 1, "", codes.OK}, {"3", 2, 0, "", codes.OK}, {"", 3, 3, "", codes.OK},
		{"4", 0, 0, "", codes.Aborted}, {"-1", 0, 0, "", codes.Aborted}, {"x", 0, 0, "", codes.Aborted}, {"", -1, 0, "", codes.InvalidArgument},
		{"1", 1<<31 - 1, 2, "", codes.OK},
	} {
		got, next, err := page(all, tc.token, tc.most)
		if len(got) != tc.n || next != tc.next || status.Code(err) != tc.code {
			t.Errorf("token %q, most %d: got %v, %q, %v", tc.token, tc.most, got, next, err)
		}
	}
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	const mountinfo = `36 35 7:3 / /k/plugins/staging rw - xfs /dev/loop3 rw
37 35 7:3 / /k/pods/a/mount rw - xfs /dev/loop3 rw
38 35 7:3 /sub /k/pods/a/volume-subpaths/0 rw - xfs /dev/loop3 rw
39 35 0:6 /loop4 /k/publish/pv/a rw - devtmpfs none rw
40 35 0:6 /loop4 /k/dev/a rw - devtmpfs none rw
short line
`
	for _, tc := range []struct {
		device         int
		target, result string
	}{
		{3, "/k/pods/a/mount", ""},
		{3, "/k/pods/b/mount", "/k/pods/a/mount"},
		{4, "/k/publish/pv/a", ""},
		{4, "/k/publish/pv/b", "/k/publish/pv/a"},
		{5, "/k/pods/b/mount", ""},
	} {
		if got := elsewhere(mountinfo, tc.device, "/k/plugins/staging", tc.target); got != tc.result {
			t.Errorf("loop%d at %s: got %q, want %q", tc.device, tc.target, got, tc.result)
		}
	}
}
