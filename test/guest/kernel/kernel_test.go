// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bzImage makes a header with the payload at its place.
func bzImage(version uint16, payload string) []byte {
	b := make([]byte, 2*512+16)
	b[0x1f1] = 1 // one sector of setup code behind the boot sector
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], version)
	binary.LittleEndian.PutUint32(b[0x248:], 16)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(b, payload...)
}

func TestPayload(t *testing.T) {
	t.Parallel()
	lz4 := "\x02\x21\x4c\x18data"
	long := bzImage(0x20f, lz4)
	for _, tt := range []struct {
		name         string
		image        []byte
		format, want string
		err          string
	}{
		{"lz4", bzImage(0x20f, lz4+"size"), "lz4", lz4, ""},
		{"zstd", bzImage(0x20f, "\x28\xb5\x2f\xfdxsize"), "zstd", "\x28\xb5\x2f\xfdx", ""},
		{"xz", bzImage(0x208, "\xfd7zXZ\x00size"), "xz", "\xfd7zXZ\x00", ""},
		{"unknown", bzImage(0x20f, "GZIPx"), "", "", "unknown compression, the payload starts with 47 5a 49 50 78"},
		{"empty payload", bzImage(0x20f, ""), "", "", "is not within"},
		{"cut short", long[:len(long)-1], "", "", "is not within"},
		{"old protocol", bzImage(0x207, lz4), "", "", "boot protocol 0x207 names no payload"},
		{"no kernel", make([]byte, 4096), "", "", "not a bzImage"},
		{"nothing", nil, "", "", "not a bzImage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			packed, format, err := payload(tt.image)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil || format != tt.format || string(packed) != tt.want {
				t.Errorf("%q %q %v, want %q %q", packed, format, err, tt.want, tt.format)
			}
		})
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(bzImage(0x20f, "\x02\x21\x4c\x18datasize"))
	f.Add([]byte("HdrS"))
	f.Fuzz(func(t *testing.T, b []byte) {
		packed, _, err := payload(b)
		if err == nil && !bytes.Contains(b, packed) {
			t.Error("the payload is not in the image")
		}
	})
}

func TestOrder(t *testing.T) {
	t.Parallel()
	files := map[string]string{"net": "n.ko", "ring": "r.ko", "bus": "b.ko", "virtio_rng": "g.ko", "x": "x.ko", "y": "y.ko", "lost": "l.ko"}
	direct := map[string][]string{
		"n.ko": {"bus", "ring"}, "b.ko": {"ring"}, "g.ko": {"bus"}, "x.ko": {"y"}, "y.ko": {"x"}, "l.ko": {"gone"},
	}
	depends := func(p string) ([]string, error) {
		if p == "bad.ko" {
			return nil, errors.New("unreadable")
		}
		return direct[p], nil
	}
	m, err := order([]string{"net", "virtio-rng", "net"}, files, depends)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"r.ko", "b.ko", "n.ko", "g.ko"}, m.Paths); diff != "" {
		t.Error(diff)
	}
	// modprobe loads a line from its end.
	if diff := cmp.Diff("r.ko:\nb.ko: r.ko\nn.ko: b.ko r.ko\ng.ko: b.ko r.ko\n", string(m.Dep())); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{
		"lost": "the kernel has no module lost -> gone",
		"x":    "modules depend on each other: x -> y -> x",
	} {
		if _, err := order([]string{name}, files, depends); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
}
