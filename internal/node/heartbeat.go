// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/hostinfo"
	"github.com/skerry-dev/skerry/internal/machine"
)

// NodeCondition is the Node's condition that tells how machines run on it.
const NodeCondition = v1.VirtualizationCondition

// Reasons of NodeCondition.
const (
	nodeKVM       = "KVM"
	nodeEmulation = "SoftwareEmulation"
)

const (
	// beatEvery is KubeVirt's interval; after five minutes without, a node counts
	// as lost.
	beatEvery = time.Minute
	// findNode is how often a Node is looked for that is not registered yet.
	findNode = 250 * time.Millisecond
)

// archLabel says which guests' architecture the node runs.
const archLabel = "kubevirt.io/vm-arch-"

// heart tells the cluster that the agent lives, and what its node can do.
type heart struct {
	client    client.Client // for patches
	reader    client.Reader // not from a cache: Nodes may not be watched
	node      string
	condition corev1.NodeCondition
	arch      string
	now       func() time.Time
	log       *slog.Logger
	every     time.Duration
	retry     time.Duration
}

// nodeCondition says what was found out about the host.
func nodeCondition(accel machine.Accel, asked string, host hostinfo.Info) corev1.NodeCondition {
	c := corev1.NodeCondition{Type: NodeCondition, Status: corev1.ConditionTrue, Reason: nodeKVM}
	message := host.Message()
	if accel != machine.KVM {
		c.Status, c.Reason = corev1.ConditionFalse, nodeEmulation
		if host.KVM {
			forced := fmt.Sprintf("KVM works, but the node agent was told to use software emulation (accelerator %s)", asked)
			if message != "" {
				forced += ". "
			}
			message = forced + message
		}
	}
	if message == "" {
		message = "machines run on KVM"
	}
	c.Message = message
	return c
}

// run beats until ctx ends. A node that is not registered yet is waited for.
func (h *heart) run(ctx context.Context) {
	said := ""
	for {
		every := h.retry
		err := h.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			every, said = h.every, ""
		default:
			if !apierrors.IsNotFound(err) && err.Error() != said {
				h.log.Warn("heartbeat", "node", h.node, "error", err)
				said = err.Error()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// beat writes what is needed: the condition when it has changed, and the
// heartbeat, which makes the node schedulable.
func (h *heart) beat(ctx context.Context) error {
	node := &corev1.Node{}
	if err := h.reader.Get(ctx, client.ObjectKey{Name: h.node}, node); err != nil {
		return fmt.Errorf("get node %s: %w", h.node, err)
	}
	if c, changed := h.newCondition(node); changed {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{c}}})
		if err != nil {
			return err
		}
		target := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: h.node}}
		if err := h.client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
			return fmt.Errorf("set condition %s of node %s: %w", NodeCondition, h.node, err)
		}
	}
	if err := failpoint.Hit(ctx, "agent.node.before-heartbeat"); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels": map[string]string{
			v1.SchedulableLabel: "true",
			archLabel + h.arch:  "true",
		},
		"annotations": map[string]string{v1.HeartbeatAnnotation: h.now().UTC().Format(time.RFC3339)},
	}})
	if err != nil {
		return err
	}
	target := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: h.node}}
	if err := h.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("write the heartbeat of node %s: %w", h.node, err)
	}
	return nil
}

func (h *heart) newCondition(node *corev1.Node) (corev1.NodeCondition, bool) {
	c := h.condition
	now := metav1.NewTime(h.now().Truncate(time.Second))
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for _, have := range node.Status.Conditions {
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		return c, have.Status != c.Status || have.Reason != c.Reason || have.Message != c.Message
	}
	return c, true
}
