// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// startSkerry installs Skerry's own objects and starts its controllers and node
// agent. It returns when both run.
func (i *instance) startSkerry(startCtx, workCtx context.Context, admin *rest.Config, client kubernetes.Interface) error {
	return i.cfg.applyController(startCtx, client)
}
