// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"slices"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/renew"
)

// renewAll replaces the QEMU of machines that run an older one, one after the
// other, for as long as ctx lives. After the first failure it leaves all of them
// alone: what killed or stopped the first would do so to the others.
func (a *agent) renewAll(ctx context.Context) {
	if a.renewals == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.renewals:
		}
		tried := map[*guest]bool{}
		for g := a.outdated(tried); g != nil; g = a.outdated(tried) {
			tried[g] = true
			err := g.renew(g.ctx)
			var o *renew.Obstacle
			switch {
			case ctx.Err() != nil:
				return
			case err == nil, g.ctx.Err() != nil, errors.Is(err, errUpToDate), errors.Is(err, errRenewing), errors.As(err, &o):
			default:
				a.log.Error("machines are not renewed any more until the node agent starts anew", "vm", g.name.Name, "namespace", g.name.Namespace, "error", err)
				return
			}
		}
	}
}

// outdated is the first machine by name, but for those of except, whose QEMU can
// and should be replaced.
func (a *agent) outdated(except map[*guest]bool) *guest {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*guest
	for _, g := range a.guests {
		if r := g.snapshot().renewable; r != nil && r.reason == v1.RenewableOutdated && !except[g] && g.monitor() != nil {
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, func(x, y *guest) int {
		return cmp.Or(cmp.Compare(x.name.Namespace, y.name.Namespace), cmp.Compare(x.name.Name, y.name.Name))
	})
}

// wantRenewal has renewAll look again.
func (a *agent) wantRenewal() {
	if a.renewals == nil {
		return
	}
	select {
	case a.renewals <- struct{}{}:
	default:
	}
}
