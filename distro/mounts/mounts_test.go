// SPDX-License-Identifier: Apache-2.0

package mounts

import "testing"

func TestUnescape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "/a": "/a", `/with\040blank`: "/with blank", `\011\012\134`: "\t\n\\",
		`/not\04`: `/not\04`, `/no\999`: `/no\999`, `\134040`: `\040`,
	} {
		if got := Unescape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
