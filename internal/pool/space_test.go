// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"errors"
	"strings"
	"testing"
)

func TestSpace(t *testing.T) {
	t.Parallel()
	const g = 1 << 30
	for _, tc := range []struct {
		name                 string
		limits               Limits
		size, used, promised int64
		available            int64
		warning              string
	}{
		{"empty", Limits{}, 10 * g, 0, 0, 40 * g, ""},
		{"promised", Limits{}, 10 * g, 1 * g, 39 * g, 1 * g, ""},
		{"promised all", Limits{}, 10 * g, 1 * g, 40 * g, 0, ""},
		{"promised more than now allowed", Limits{Overcommit: 1}, 10 * g, 1 * g, 40 * g, 0, ""},
		{"never full", Limits{Overcommit: 1}, 10 * g, 1 * g, 4 * g, 6 * g, ""},
		{"filling", Limits{}, 10 * g, 8 * g, 10 * g, 30 * g, "8 GiB of 10 GiB are in use: from 90% on"},
		{"full", Limits{}, 10 * g, 9 * g, 10 * g, 0, "9 GiB of 10 GiB are in use: nothing new"},
		{"no size yet", Limits{}, 0, 0, 0, 0, ""},
	} {
		if err := tc.limits.complete(); err != nil {
			t.Fatal(err)
		}
		s := tc.limits.space(tc.size, tc.used, tc.promised)
		if s.Available != tc.available || !strings.HasPrefix(s.Warning, tc.warning) || tc.warning == "" && s.Warning != "" {
			t.Errorf("%s: available %d, warning %q; want %d, %q", tc.name, s.Available, s.Warning, tc.available, tc.warning)
		}
		if err := s.admit(s.Available); s.Available > 0 && err != nil {
			t.Errorf("%s: what is available is refused: %v", tc.name, err)
		}
		if err := s.admit(s.Available + 1); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "--pool-size") {
			t.Errorf("%s: more than is available: %v", tc.name, err)
		}
	}
	for _, l := range []Limits{{Overcommit: 0.5}, {Overcommit: 1001}, {RefuseAt: 1.1}, {WarnAt: 0.95}, {WarnAt: 0.01}} {
		if err := l.complete(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: got %v, want an error", l, err)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	vol := Source{Volume: "a"}
	for _, tc := range []struct {
		spec   Spec
		source int64
		want   int64 // 0: refused
	}{
		{Spec{}, 0, unit},
		{Spec{Size: 1}, 0, unit},
		{Spec{Size: unit + 1}, 0, 2 * unit},
		{Spec{Size: unit + 1, Limit: unit + 2}, 0, 0},
		{Spec{FSType: "ext4", Size: 1}, 0, 16 * unit},
		{Spec{FSType: "ext4", Size: 1, Limit: unit}, 0, 0},
		{Spec{FSType: "xfs", Size: 1}, 0, MinPool},
		{Spec{Size: MaxVolume}, 0, MaxVolume},
		{Spec{Size: MaxVolume + 1}, 0, 0},
		{Spec{Size: -1}, 0, 0},
		{Spec{Limit: -1}, 0, 0},
		{Spec{Source: vol}, 5 * unit, 5 * unit},
		{Spec{Source: vol, Size: 5 * unit}, 5 * unit, 5 * unit},
		{Spec{Source: vol, Size: 7 * unit}, 5 * unit, 7 * unit},
		{Spec{Source: vol, Size: 4 * unit}, 5 * unit, 0},
		{Spec{Source: vol, Limit: 4 * unit}, 5 * unit, 0},
	} {
		got, err := tc.spec.size(tc.source)
		if tc.want == 0 && !errors.Is(err, ErrInvalid) || tc.want != 0 && (err != nil || got != tc.want) {
			t.Errorf("%+v of %d: got %d, %v, want %d", tc.spec, tc.source, got, err, tc.want)
		}
	}
}

func FuzzID(f *testing.F) {
	for _, s := range []string{"pvc-0815", "", "h-1", "../x", strings.Repeat("a", 129), "Ä", "a.", "a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id := ID(name)
		if err := Validate(id); err != nil || strings.ContainsAny(id, "/\x00") || id == "." || id == ".." {
			t.Errorf("%q: ID %q: %v", name, id, err)
		}
		if id != ID(name) {
			t.Errorf("%q has two IDs", name)
		}
	})
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for b, want := range map[Bytes]string{0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1 KiB", 3 << 29: "1.5 GiB", 1 << 60: "1.049e+06 TiB"} {
		if got := b.String(); got != want {
			t.Errorf("%d: %q, want %q", int64(b), got, want)
		}
	}
}
