// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"time"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

// reclaimMargin is how far below a new limit the pod's charge is brought, in bytes:
// it goes on growing while the kubelet makes up its mind.
const reclaimMargin = 8 * mib

// reclaimEvery is the time between two attempts.
const reclaimEvery = time.Second

// reclaimed is what came of the controller's wish to cut the pod's memory limit.
type reclaimed struct {
	limit int64 // that it was for
	usage int64 // what the pod was charged with afterwards
	at    time.Time
}

// reclaimLimit is the limit below which the controller wants the pod's charge; 0
// when it does not ask for it.
func reclaimLimit(vmi *v1.VirtualMachineInstance) int64 {
	said := resize.Published(vmi, resize.Memory)
	if said.Stage == resize.Reclaiming || said.Stage == resize.Shrinking {
		return said.Limit
	}
	return 0
}

// of is the answer for the limit that is asked for now; 0 while there is none.
func (c reclaimed) of(vmi *v1.VirtualMachineInstance) int64 {
	if c.limit != reclaimLimit(vmi) {
		return 0
	}
	return c.usage
}

// reclaims tells whether the controller waits for an answer.
func (r *resizer) reclaims(vmi *v1.VirtualMachineInstance) bool {
	limit := reclaimLimit(vmi)
	return limit != r.reclaim.limit || limit > 0 && r.reclaim.usage >= limit
}

// giveBack gives back page cache, which the kubelet counts as the pod's memory
// when it is to cut the limit. What the guest holds can't be given back here.
func (r *resizer) giveBack(ctx context.Context, limit int64) (pending bool, err error) {
	now := r.g.now()
	if r.reclaim.limit == limit && now.Sub(r.reclaim.at) < reclaimEvery {
		return true, nil
	}
	group, err := r.pod()
	if err != nil {
		return false, err
	}
	usage, err := group.MemoryUsage()
	if err != nil {
		return false, err
	}
	if usage > limit-reclaimMargin {
		if err := r.g.step(ctx, "agent.resize.before-reclaim"); err != nil {
			return false, err
		}
		if err := group.Reclaim(usage - limit + reclaimMargin); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return false, err
		}
		if usage, err = group.MemoryUsage(); err != nil {
			return false, err
		}
	}
	r.reclaim = reclaimed{limit, usage, now}
	return usage >= limit, nil
}
