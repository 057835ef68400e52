// SPDX-License-Identifier: Apache-2.0

package resize

import "testing"

// Whether there is memory for what vCPUs cost, by what the controller says of
// memory and what the kernel does.
func TestRoom(t *testing.T) {
	t.Parallel()
	limited := func(n int64) Cgroup { return Cgroup{Known: true, Limit: n} }
	for _, c := range []struct {
		name string
		said Said
		c    Cgroup
		want Room
	}{
		{"no limit", Said{Stage: Refused, Target: 8, Limit: 12}, limited(0), HasRoom},
		{"nothing is needed", Said{}, limited(10), HasRoom},
		{"asked for", Said{Stage: Asked, Target: 8, Limit: 12}, limited(10), RoomAsked},
		{"asked for, and there", Said{Stage: Asked, Target: 8, Limit: 12}, limited(12), HasRoom},
		{"asked for behind something older", Said{Stage: Asked, Target: 8}, limited(10), RoomAsked},
		{"granted", Said{Stage: Granted, Target: 8}, limited(12), HasRoom},
		{"done", Said{Stage: Finished, Target: 8}, limited(12), HasRoom},
		{"the guest gives back", Said{Stage: GuestFirst, Target: 8}, limited(12), HasRoom},
		{"about an older wish", Said{Stage: Finished, Target: 7}, limited(12), RoomAsked},
		{"a refusal of an older wish", Said{Stage: Refused, Target: 16, Limit: 20}, limited(12), RoomAsked},
		{"refused", Said{Stage: Refused, Target: 8, Limit: 12}, limited(10), RoomRefused},
		{"refused, but there", Said{Stage: Refused, Target: 8, Limit: 12}, limited(12), HasRoom},
		{"refused for a limit that is not ours", Said{Stage: Refused, Target: 8}, limited(10), RoomRefused},
		{"infeasible", Said{Stage: NoWay, Target: 8, Limit: 12}, limited(10), RoomRefused},
		{"deferred", Said{Stage: Waits, Target: 8}, limited(10), RoomRefused},
	} {
		if got := c.said.Room(8, c.c); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
