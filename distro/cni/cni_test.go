// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"flag"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestRender(t *testing.T) {
	t.Parallel()
	got, err := Render(Config{
		Bridge: "skerry0", PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), Gateway: netip.MustParseAddr("10.42.0.1"),
		DataDir: "/var/lib/skerry/cni/networks",
	})
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/skerry.conflist"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got; -update rewrites it):\n%s", diff)
	}
}
