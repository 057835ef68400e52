// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRenewalArgs(t *testing.T) {
	t.Parallel()
	want := Renewal{Limit: 1500 * time.Millisecond, Rehearsal: []string{"a", "--", ""}, New: []string{"b", "3"}, Old: []string{"c", "renew", "d"}}
	got, err := ParseRenewal(want.Args())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range [][]string{
		nil, {"run"}, {"renew", "1", "1", "1"}, {"renew", "1", "1", "1", "a", "b"}, {"renew", "x", "1", "1", "a", "b", "c"},
		{"renew", "1", "0", "1", "a", "b", "c"}, {"renew", "1", "9223372036854775807", "1", "a", "b", "c"}, {"renew", "1", "-1", "1", "a", "b", "c"},
	} {
		if _, err := ParseRenewal(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
