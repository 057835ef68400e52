// SPDX-License-Identifier: Apache-2.0

package box

import (
	"fmt"
	"time"
)

// Reading is the machine's two clocks at one moment.
type Reading struct {
	Wall time.Time     // CLOCK_REALTIME, which can be set
	Boot time.Duration // CLOCK_BOOTTIME, which cannot, and which goes on in a suspended machine
	// Synced is the kernel's word that something keeps the clock right (adjtimex(2)).
	Synced bool
}

const (
	// jumpLimit is how far the clocks may part before the clock was set: whoever
	// only corrects its rate parts them by 0.5 ms a second at most.
	jumpLimit = 5 * time.Second
	// trustAfter is how long a clock that was set is looked at askance where nothing
	// keeps it right.
	trustAfter = time.Hour
)

// Clock follows the machine's clock. The zero value has seen nothing.
type Clock struct {
	last Reading
	// off is how far the clock has been set, all in all, since it was trusted last.
	off time.Duration
	set time.Time     // what the clock said when it had been set last
	at  time.Duration // CLOCK_BOOTTIME of that
	// behind is the time that the clock of an earlier start has shown already.
	behind time.Time
}

// StartClock begins with a first reading. Seen is the latest time that an earlier
// start has left a mark of, zero if there is none.
func StartClock(r Reading, seen time.Time) Clock {
	c := Clock{last: r}
	if off := r.Wall.Sub(seen); !seen.IsZero() && off < -time.Minute {
		c.off, c.set, c.at, c.behind = off, r.Wall, r.Boot, seen
	}
	return c
}

// Next takes a reading. Jump is how far the clock was set since the last one, 0 if
// it was not.
func (c Clock) Next(r Reading) (next Clock, jump time.Duration) {
	wall, boot := r.Wall.Sub(c.last.Wall), r.Boot-c.last.Boot
	c.last = r
	if d := wall - boot; d > jumpLimit || d < -jumpLimit {
		jump = d
		c.off += d
		c.set, c.at = r.Wall, r.Boot
	}
	trusted := r.Synced && jump == 0 || r.Boot-c.at >= trustAfter
	if trusted || c.off <= jumpLimit && c.off >= -jumpLimit || !c.behind.IsZero() && !r.Wall.Before(c.behind) {
		c.off, c.behind = 0, time.Time{}
	}
	return c, jump
}

// Trusted tells whether the clock is believed.
func (c Clock) Trusted() bool { return c.off == 0 }

// Condition says whether the clock is wrong, as far as one can know.
func (c Clock) Condition() Condition {
	const ends = "; this ends by itself when the clock is set back, when the kernel is told that it is right (by chrony, ntpd or systemd-timesyncd), or after an hour"
	out := Condition{Type: ClockWrong, Reason: "ClockSteady", Message: "the clock goes steadily"}
	if c.off == 0 {
		return out
	}
	out.True = true
	by, now := c.off.Round(time.Second).Abs(), c.set.UTC().Format(time.RFC3339)
	switch {
	case !c.behind.IsZero():
		out.Reason = "ClockBehind"
		out.Message = fmt.Sprintf("the clock said %s at the start, but an earlier start ran until %s: is the battery of the clock empty? "+
			"Set it (`timedatectl set-ntp true`)", now, c.behind.UTC().Format(time.RFC3339))
	case c.off > 0:
		out.Reason = "ClockSetForward"
		out.Message = fmt.Sprintf("the clock was set forward by %s, to %s: if that is wrong, set it right (`timedatectl set-ntp true`)", by, now)
	default:
		out.Reason = "ClockSetBack"
		out.Message = fmt.Sprintf("the clock was set back by %s, to %s: if that is wrong, set it right (`timedatectl set-ntp true`)", by, now)
	}
	out.Message += "; certificates were looked at and renewed where they had to be, leases and timers do not go by this clock" + ends
	return out
}
