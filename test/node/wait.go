// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"
)

// WaitFor polls until done says true, for limit at most. What done says last is in
// the failure.
func WaitFor(t *testing.T, limit time.Duration, what string, done func() (bool, string)) {
	t.Helper()
	end := time.Now().Add(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, last := done()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s; last: %s", limit, what, last)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: %v; last: %s", what, t.Context().Err(), last)
		case <-tick.C:
		}
	}
}
