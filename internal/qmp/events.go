// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"encoding/json"
	"sync"
)

// coalesced are the events of which only the latest per subject matters, with
// the member of their data that names the subject ("" when there is just one).
var coalesced = map[string]string{
	"BALLOON_CHANGE":            "",
	"RTC_CHANGE":                "",
	"VSERPORT_CHANGE":           "id",
	"MEMORY_DEVICE_SIZE_CHANGE": "id",
	"BLOCK_IO_ERROR":            "device",
	"BLOCK_JOB_READY":           "device",
	"BLOCK_WRITE_THRESHOLD":     "node-name",
	"NIC_RX_FILTER_CHANGED":     "name",
	"MIGRATION_PASS":            "",
	"VNC_CONNECTED":             "",
	"VNC_INITIALIZED":           "",
	"VNC_DISCONNECTED":          "",
	"ACPI_DEVICE_OST":           "",
}

// eventQueue stands between the reader, which never waits, and the consumer,
// which may be slow. It holds at most max events: first it merges events of one
// subject, then it drops the oldest.
type eventQueue struct {
	max  int
	wake chan struct{}

	mu      sync.Mutex
	items   []queued
	dropped uint64
}

type queued struct {
	key string // "" when it may not be merged
	ev  Event
}

func newEventQueue(max int) *eventQueue {
	return &eventQueue{max: max, wake: make(chan struct{}, 1)}
}

func mergeKey(e Event) string {
	member, ok := coalesced[e.Name]
	if !ok {
		return ""
	}
	if member == "" {
		return e.Name
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(e.Data, &data) != nil {
		return ""
	}
	return e.Name + "\x00" + string(data[member])
}

func (q *eventQueue) push(e Event) {
	key := mergeKey(e)
	q.mu.Lock()
	if key != "" {
		for i := range q.items {
			if q.items[i].key == key {
				// The newest takes the last place, so that the order among
				// what is delivered is the order in which it became true.
				e.Coalesced += q.items[i].ev.Coalesced + 1
				q.items = append(q.items[:i], q.items[i+1:]...)
				break
			}
		}
	}
	if len(q.items) >= q.max {
		q.items = append(q.items[:0], q.items[1:]...)
		q.dropped++
	}
	q.items = append(q.items, queued{key: key, ev: e})
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return Event{}, false
	}
	e := q.items[0].ev
	q.items = append(q.items[:0], q.items[1:]...)
	return e, true
}

func (q *eventQueue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
