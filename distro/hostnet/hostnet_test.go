// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func config() Config {
	return Config{
		Bridge: "skerry0", Address: netip.MustParseAddr("10.42.0.1"),
		PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
	}
}

func TestRuleset(t *testing.T) {
	t.Parallel()
	open := config()
	open.Open = true
	for name, c := range map[string]Config{"closed.nft": config(), "open.nft": open} {
		path := filepath.Join("testdata", name)
		got := Ruleset(c)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got; -update rewrites it):\n%s", name, diff)
		}
	}
}

func TestHardwareAddrIsLocalAndUnicast(t *testing.T) {
	t.Parallel()
	got := hardwareAddr(netip.MustParseAddr("10.42.0.1"))
	if got.String() != "0a:58:0a:2a:00:01" {
		t.Errorf("got %s", got)
	}
	if got[0]&1 != 0 || got[0]&2 == 0 {
		t.Errorf("%s is not a locally administered unicast address", got)
	}
}
