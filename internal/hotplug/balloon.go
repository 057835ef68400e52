// SPDX-License-Identifier: Apache-2.0

package hotplug

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// balloon is the balloon device's path, as package machine names it.
const balloon = peripheral + "balloon0"

// Statistics are what the guest says of its memory, in bytes. It is the guest's
// claim: good for telling its owner, not for handing out what another one has.
type Statistics struct {
	// Total is all memory that its kernel manages: less than what it was given by
	// what the kernel took for itself at boot.
	Total int64
	// Available is what could be used without swapping; 0 when not known.
	Available int64
	// At is when the guest said so, to the second.
	At time.Time
}

// ReadStatistics gives the guest's latest statistics; ok is false when it has
// never sent any.
func ReadStatistics(ctx context.Context, m Monitor) (s Statistics, ok bool, err error) {
	var raw struct {
		Stats struct {
			Total     uint64 `json:"stat-total-memory"`
			Available uint64 `json:"stat-available-memory"`
		} `json:"stats"`
		Last int64 `json:"last-update"`
	}
	err = m.Execute(ctx, "qom-get", args{"path": balloon, "property": "guest-stats"}, &raw)
	if err != nil {
		return Statistics{}, false, fmt.Errorf("read the guest's memory statistics: %w", err)
	}
	if raw.Last <= 0 || raw.Stats.Total == 0 || raw.Stats.Total > maxBytes {
		return Statistics{}, false, nil
	}
	s = Statistics{Total: int64(raw.Stats.Total), At: time.Unix(raw.Last, 0)}
	if raw.Stats.Available <= maxBytes {
		s.Available = int64(raw.Stats.Available)
	}
	return s, true, nil
}

// PollStatistics has QEMU ask the guest for statistics at an interval of whole
// seconds; 0 stops it. The first answer comes after one interval.
func PollStatistics(ctx context.Context, m Monitor, every time.Duration) error {
	err := m.Execute(ctx, "qom-set", args{
		"path": balloon, "property": "guest-stats-polling-interval", "value": int(every / time.Second),
	}, nil)
	if err != nil {
		return fmt.Errorf("ask for the guest's memory statistics: %w", err)
	}
	return nil
}

// RememberBootTotal marks in QEMU what the guest counted when nothing was plugged.
func RememberBootTotal(ctx context.Context, m Monitor, total int64) error {
	if err := mark(ctx, m, markMemory+strconv.FormatInt(total, 10)); err != nil {
		return fmt.Errorf("remember the guest's memory: %w", err)
	}
	return nil
}

// ForgetBootTotal takes the mark away: the guest has booted anew.
func ForgetBootTotal(ctx context.Context, m Monitor, total int64) error {
	if err := m.Execute(ctx, "object-del", args{"id": markMemory + strconv.FormatInt(total, 10)}, nil); err != nil {
		return fmt.Errorf("forget the guest's memory: %w", err)
	}
	return nil
}
