// SPDX-License-Identifier: Apache-2.0

package box

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/distro/pki"
)

// says checks a condition by its reason and by words of its message.
func says(t *testing.T, c Condition, isTrue bool, reason string, words ...string) {
	t.Helper()
	if c.True != isTrue || c.Reason != reason {
		t.Errorf("got %v %s, want %v %s: %s", c.True, c.Reason, isTrue, reason, c.Message)
	}
	for _, w := range words {
		if !strings.Contains(c.Message, w) {
			t.Errorf("%q is not in %q", w, c.Message)
		}
	}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	const total = 20 * gib // short below 2 GiB, enough from 2.5 GiB on
	for name, c := range map[string]struct {
		space  Space
		was    bool
		isTrue bool
		reason string
		words  []string
	}{
		"space":               {Space{Total: total, Free: 10 * gib}, false, false, "DiskHasSpace", []string{"/d"}},
		"just enough":         {Space{Total: total, Free: 2 * gib}, false, false, "DiskHasSpace", nil},
		"short":               {Space{Total: total, Free: 2*gib - 1}, false, true, "DiskShort", []string{"/d", "less than 2 GiB free (of 20 GiB)", "ends by itself at 2.5 GiB"}},
		"a little more":       {Space{Total: total, Free: 2 * gib}, true, true, "DiskShort", nil},
		"enough again":        {Space{Total: total, Free: 5 * gib / 2}, true, false, "DiskHasSpace", nil},
		"full":                {Space{Total: total, Free: 8*mib - 1}, true, true, "DiskFull", []string{"is full", "stand still"}},
		"nothing left":        {Space{Total: total}, false, true, "DiskFull", nil},
		"few files":           {Space{Total: total, Free: 10 * gib, Files: 1000, FreeFiles: 49}, false, true, "DiskHasFewFiles", []string{"of 1000"}},
		"a few files more":    {Space{Total: total, Free: 10 * gib, Files: 1000, FreeFiles: 61}, true, true, "DiskHasFewFiles", nil},
		"files again":         {Space{Total: total, Free: 10 * gib, Files: 1000, FreeFiles: 63}, true, false, "DiskHasSpace", nil},
		"files without limit": {Space{Total: total, Free: 10 * gib}, true, false, "DiskHasSpace", nil},
		"nothing known":       {Space{}, true, false, "DiskHasSpace", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, Disk("/d", c.was, c.space), c.isTrue, c.reason, c.words...)
		})
	}
}

func TestMarks(t *testing.T) {
	t.Parallel()
	for total, want := range map[uint64]uint64{
		0: 0, gib: 256 * mib, 2 * gib: 512 * mib, 4 * gib: 512 * mib, 20 * gib: 2 * gib, 4096 * gib: 5 * gib,
	} {
		s := Space{Total: total}
		if s.Low() != want {
			t.Errorf("%s: short below %s, want %s", size(total), size(s.Low()), size(want))
		}
		if s.Enough() < s.Low() {
			t.Errorf("%s: enough at %s already", size(total), size(s.Enough()))
		}
	}
	s := Space{Total: 20 * gib, Free: 5*gib/2 + Reserve}
	if !s.RoomForReserve() || s.Full() {
		t.Error("no room for the reserve")
	}
	if s.Free--; s.RoomForReserve() {
		t.Error("the reserve would make the disk short")
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m, err := ParseMemory("MemTotal:        8388608 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n")
	if err != nil || m != (Memory{Total: 8 * gib, Available: 4 * gib}) {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "MemTotal: x kB\n", "MemTotal: -1 kB\n", "MemTotal: 99999999999999999999 kB\n", "MemAvailable: 1 kB\n"} {
		if m, err := ParseMemory(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, m)
		}
	}
	for name, c := range map[string]struct {
		m   Memory
		was bool
		is  bool
	}{
		"much":              {Memory{8 * gib, 4 * gib}, false, false},
		"short":             {Memory{8 * gib, 409 * mib}, false, true},
		"not yet enough":    {Memory{8 * gib, 500 * mib}, true, true},
		"in between before": {Memory{8 * gib, 500 * mib}, false, false},
		"enough again":      {Memory{8 * gib, 615 * mib}, true, false},
		"huge box":          {Memory{1024 * gib, gib}, false, false},
		"tiny box":          {Memory{512 * mib, 129 * mib}, false, false},
	} {
		reason, words := "MemoryAvailable", []string(nil)
		if c.is {
			reason, words = "MemoryShort", []string{"of 8 GiB", "below 100 MiB the kubelet ends pods"}
		}
		t.Log(name)
		says(t, c.m.Short(c.was), c.is, reason, words...)
	}
	if SystemReserve(24*gib) != 512*mib || SystemReserve(gib) != 256*mib {
		t.Error("system reserve")
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	// step is a reading so long after the last one, by which the clock was set by jump.
	type step struct {
		after, jump time.Duration
		synced      bool
		reason      string
	}
	const tick = 2 * time.Second
	for name, c := range map[string]struct {
		seen  time.Time
		first string
		steps []step
	}{
		"steady":    {steps: []step{{after: tick, reason: "ClockSteady"}, {after: 48 * time.Hour, reason: "ClockSteady"}}},
		"slewed":    {steps: []step{{after: tick, jump: time.Second, reason: "ClockSteady"}, {after: tick, jump: -4 * time.Second, reason: "ClockSteady"}}},
		"forward":   {steps: []step{{after: tick, jump: time.Hour, reason: "ClockSetForward"}, {after: tick, reason: "ClockSetForward"}}},
		"and back":  {steps: []step{{after: tick, jump: time.Hour, reason: "ClockSetForward"}, {after: tick, jump: -time.Hour, reason: "ClockSteady"}}},
		"back":      {steps: []step{{after: tick, jump: -time.Hour, reason: "ClockSetBack"}, {after: time.Hour - 1, reason: "ClockSetBack"}, {after: tick, reason: "ClockSteady"}}},
		"two steps": {steps: []step{{after: tick, jump: time.Hour, reason: "ClockSetForward"}, {after: tick, jump: -2 * time.Hour, reason: "ClockSetBack"}}},
		"corrected": {steps: []step{{after: tick, jump: time.Hour, reason: "ClockSetForward"}, {after: tick, synced: true, reason: "ClockSteady"}}},
		"set by whoever keeps it right": {steps: []step{
			{after: tick, synced: true, reason: "ClockSteady"}, {after: tick, jump: time.Hour, synced: true, reason: "ClockSetForward"}, {after: tick, synced: true, reason: "ClockSteady"}}},
		"trusted and set back": {steps: []step{
			{after: tick, jump: time.Hour, reason: "ClockSetForward"}, {after: time.Hour, reason: "ClockSteady"}, {after: tick, jump: -time.Hour, reason: "ClockSetBack"}}},
		"battery empty": {seen: start.Add(90 * 24 * time.Hour), first: "ClockBehind", steps: []step{
			{after: tick, reason: "ClockBehind"}, {after: tick, jump: 90 * 24 * time.Hour, reason: "ClockSteady"}}},
		"battery empty, partly set": {seen: start.Add(90 * 24 * time.Hour), first: "ClockBehind", steps: []step{
			{after: tick, jump: 24 * time.Hour, reason: "ClockBehind"}, {after: tick, jump: 91 * 24 * time.Hour, reason: "ClockSteady"}}},
		"restarted": {seen: start.Add(-time.Second), steps: []step{{after: tick, reason: "ClockSteady"}}},
		"seen now":  {seen: start.Add(30 * time.Second), steps: []step{{after: tick, reason: "ClockSteady"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Reading{Wall: start, Boot: time.Minute}
			clock := StartClock(r, c.seen)
			if c.first == "" {
				c.first = "ClockSteady"
			}
			says(t, clock.Condition(), c.first != "ClockSteady", c.first)
			for i, s := range c.steps {
				r = Reading{Wall: r.Wall.Add(s.after + s.jump), Boot: r.Boot + s.after, Synced: s.synced}
				var jump time.Duration
				clock, jump = clock.Next(r)
				if (jump != 0) != (s.jump.Abs() > jumpLimit) || jump != 0 && jump != s.jump {
					t.Errorf("step %d: jump %s, want %s", i, jump, s.jump)
				}
				says(t, clock.Condition(), s.reason != "ClockSteady", s.reason)
				if clock.Trusted() != (s.reason == "ClockSteady") {
					t.Errorf("step %d: trusted %v", i, clock.Trusted())
				}
			}
		})
	}
}

func TestClockSaysWhatToDo(t *testing.T) {
	t.Parallel()
	r := Reading{Wall: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	clock, _ := StartClock(r, time.Time{}).Next(Reading{Wall: r.Wall.Add(time.Hour + 300*time.Millisecond)})
	says(t, clock.Condition(), true, "ClockSetForward", "by 1h0m0s, to 2026-05-01T13:00:00Z", "timedatectl set-ntp true", "certificates were looked at")
	said := clock.Condition().Message
	for range 3 {
		clock, _ = clock.Next(Reading{Wall: clock.last.Wall.Add(time.Second), Boot: clock.last.Boot + time.Second})
		if now := clock.Condition().Message; now != said {
			t.Errorf("the message changed from %q to %q", said, now)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	cert := func(name string, from, to time.Duration) pki.Expiry {
		return pki.Expiry{Name: name, NotBefore: now.Add(from), NotAfter: now.Add(to)}
	}
	good, due, ended, future := cert("good", -7*day, 365*day), cert("due", -300*day, 65*day), cert("ended", -365*day, -day), cert("future", day, 366*day)
	for name, c := range map[string]struct {
		list   []pki.Expiry
		err    error
		reason string
		words  []string
	}{
		"good":          {[]pki.Expiry{good}, nil, "CertificatesGood", nil},
		"none":          {nil, nil, "CertificatesGood", nil},
		"due":           {[]pki.Expiry{good, due}, nil, "CertificatesDue", []string{"due ends 2026-07-05T00:00:00Z", "not renewed yet"}},
		"ended":         {[]pki.Expiry{due, ended}, errors.New("no space left on device"), "CertificatesExpired", []string{"ended ended 2026-04-30", "failed: no space left on device"}},
		"not valid yet": {[]pki.Expiry{future}, nil, "CertificatesDue", []string{"future begins 2026-05-02"}},
		"only failed":   {[]pki.Expiry{good}, errors.New("read-only file system"), "CertificatesDue", []string{"read-only file system"}},
		"many":          {[]pki.Expiry{due, due, due, due, ended}, nil, "CertificatesExpired", []string{"; 2 more;"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, Certificates(c.list, c.err, now), c.reason != "CertificatesGood", c.reason, c.words...)
		})
	}
}
