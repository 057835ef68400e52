// SPDX-License-Identifier: Apache-2.0

//go:build root

package podnet

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Setup is killed before each of its steps in turn, and run again.
func TestKilledAnywhere(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config Config
		ip6    bool
		seen   string // by the guest's server
	}{
		{"masquerade", masqueradeConfig(), true, neighbourIP},
		{"bridge", bridgeConfig(), true, neighbourIP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer func() { beforeChange = func(string) error { return nil } }()
			w := newWorld(t, tc.ip6)
			var steps []string
			beforeChange = func(step string) error { steps = append(steps, step); return nil }
			want := w.setup(tc.config)
			if len(steps) < 8 {
				t.Fatalf("only %d steps: %q", len(steps), steps)
			}
			for kill, step := range steps {
				w := newWorld(t, tc.ip6)
				// Killed at the same step, and then at the next one of the second run.
				for range 2 {
					n := 0
					beforeChange = func(string) error {
						if n++; n > kill {
							return errKilled
						}
						return nil
					}
					if _, err := Setup(t.Context(), w.pod, tc.config); err != nil && !errors.Is(err, errKilled) {
						t.Fatalf("killed before %q: %v", step, err)
					}
				}
				beforeChange = func(string) error { return nil }
				got, err := Setup(t.Context(), w.pod, tc.config)
				if err != nil {
					t.Errorf("after being killed before %q: %v", step, err)
					continue
				}
				if diff := cmp.Diff(want, got, comparers); diff != "" {
					t.Errorf("after being killed before %q (-want +got):\n%s", step, diff)
				}
				g := w.guest(got[0])
				serve(t, g.NS, "tcp", ":9090")
				mustAsk(t, "after being killed before "+step, w.neighbour, podIP+":9090", tc.seen)
			}
			// A run where everything is right changes next to nothing.
			steps = nil
			beforeChange = func(step string) error { steps = append(steps, step); return nil }
			w.setup(tc.config)
			if len(steps) != 1 {
				t.Errorf("a run with nothing to do did %q", steps)
			}
		})
	}
}
