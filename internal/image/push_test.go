// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/qcow2"
)

// What was pushed comes back, is listed, and is gone when it was removed.
func TestPushAndBack(t *testing.T) {
	t.Parallel()
	raw := testDisk()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		file   []byte
		format Format
	}{"raw": {raw, Raw}, "qcow2": {asQCOW2(t, raw), QCOW2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, name == "raw")
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			ref := s.host + "/vms/pushed:1"
			o := s.options()
			var last Progress
			o.Progress = func(p Progress) { last = p }
			p, err := Push(t.Context(), file, ref, o)
			if err != nil {
				t.Fatal(err)
			}
			if p.Format != c.format || p.VirtualSize != int64(len(raw)) || p.Ref != ref || p.Bytes == 0 {
				t.Errorf("pushed %+v", p)
			}
			if last.Done != last.Total || last.Total == 0 {
				t.Errorf("last progress %+v", last)
			}
			o.Progress = nil
			got, info, err := get(t, ref, o, limit)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, raw)
			if info.Digest != p.Digest || info.Format != QCOW2 {
				t.Errorf("imported %+v, pushed %+v", info, p)
			}
			d, err := Inspect(t.Context(), ref, o)
			if err != nil || d.Digest != p.Digest || len(d.Layers) != 1 || d.Layers[0].Size != p.Bytes || d.Labels["dev.skerry.disk.virtual-size"] != "2097152" {
				t.Errorf("inspected %+v, %v", d, err)
			}
			list, err := List(t.Context(), s.host, o)
			if diff := cmp.Diff([]Listed{{s.host + "/vms/pushed", "1", p.Digest, p.Bytes}}, list); err != nil || diff != "" {
				t.Errorf("list: %v (-want +got):\n%s", err, diff)
			}
			if digest, err := Remove(t.Context(), ref, o); err != nil || digest != p.Digest {
				t.Errorf("removed %s, %v", digest, err)
			}
		})
	}
}

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	s := serve(t, false)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	backing, length, err := qcow2.Image{Size: 1 << 20, Backing: "/x", BackingFormat: "raw"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := write("good", testDisk())
	wrong := s.options()
	wrong.Keychain = Keychain{}
	wrong.Keychain.Login(s.host, robot, "wrong")
	for name, c := range map[string]struct {
		file, ref string
		o         Options
		text      string
	}{
		"backing file":   {write("b", append(backing, make([]byte, length-int64(len(backing)))...)), "/a:1", s.options(), "backing file"},
		"vmdk":           {write("v", append([]byte("KDMV"), make([]byte, 1000)...)), "/a:1", s.options(), "VMDK"},
		"missing":        {filepath.Join(dir, "none"), "/a:1", s.options(), "no such file"},
		"digest":         {good, "/a@sha256:" + strings.Repeat("0", 64), s.options(), "under a tag"},
		"wrong password": {good, "/a:1", wrong, "refuses the login"},
	} {
		if _, err := Push(t.Context(), c.file, s.host+c.ref, c.o); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %q", name, err, c.text)
		}
	}
}
