// SPDX-License-Identifier: Apache-2.0

package qmp

import "time"

// Options bound what the other side may cost. Zero values stand for the
// defaults given with each.
type Options struct {
	// MaxLine is the longest line accepted, in bytes (4 MiB).
	MaxLine int
	// MaxEvents is how many events wait for the consumer at most (256).
	MaxEvents int
	// MaxInFlight is how many commands may wait for their reply (8, which is
	// also the length of QEMU's own queue).
	MaxInFlight int
	// MaxRate is how many lines per second are read on average, with a burst
	// of one second's worth (2000). What comes faster waits in the socket.
	MaxRate int
	// HandshakeTimeout is for greeting and capabilities (10 s).
	HandshakeTimeout time.Duration
	// CommandTimeout is for a command whose context has no deadline (30 s).
	CommandTimeout time.Duration
	// WriteTimeout is for handing one command to the socket (10 s).
	WriteTimeout time.Duration
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	defT := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxLine, 4<<20)
	def(&o.MaxEvents, 256)
	def(&o.MaxInFlight, 8)
	def(&o.MaxRate, 2000)
	defT(&o.HandshakeTimeout, 10*time.Second)
	defT(&o.CommandTimeout, 30*time.Second)
	defT(&o.WriteTimeout, 10*time.Second)
	return o
}

// limiter is a token bucket that refills at rate tokens per second.
type limiter struct {
	rate   float64
	tokens float64
	last   time.Time
}

func newLimiter(rate int) *limiter { return &limiter{rate: float64(rate), tokens: float64(rate)} }

// bytesPerToken is what of a line is covered by one token. The usual one is a few
// hundred bytes long; a flood of long ones costs as much as one of short ones.
const bytesPerToken = 4 << 10

// take takes the tokens for a line of that many bytes and says how long to wait
// for them.
func (l *limiter) take(now time.Time, size int) time.Duration {
	if !l.last.IsZero() {
		l.tokens = min(l.rate, l.tokens+now.Sub(l.last).Seconds()*l.rate)
	}
	l.last = now
	l.tokens -= float64(1 + size/bytesPerToken)
	if l.tokens >= 0 {
		return 0
	}
	return time.Duration(-l.tokens / l.rate * float64(time.Second))
}
