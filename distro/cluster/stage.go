// SPDX-License-Identifier: Apache-2.0

package cluster

import "time"

// Event is one thing that happened while the cluster came up.
type Event struct {
	// Stage is what was done, such as "certificates". It is empty in the last
	// event, when Ready is set.
	Stage string `json:"stage,omitempty"`
	// Detail says more where there is more to say.
	Detail string `json:"detail,omitempty"`
	// At is the time since Run began, Took the stage's own. Stages overlap.
	At   time.Duration `json:"at"`
	Took time.Duration `json:"took,omitempty"`
	// Ready is set once, when pods and machines can be created.
	Ready bool `json:"ready,omitempty"`
	// First says that the cluster was made by this start.
	First bool `json:"first,omitempty"`
}

// Progress is told of every event, from one goroutine at a time.
type Progress func(Event)
