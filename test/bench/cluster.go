// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/test/node"
)

// settle is how long the cluster is left alone before it is called idle.
const settle = 90 * time.Second

// start measures a first start and three starts after SIGKILL.
func (b *bench) start(ctx context.Context) error {
	first, err := b.upToReady(ctx)
	if err != nil {
		return err
	}
	b.add("up_to_ready_first_s", "s", 6, first)
	var again []float64
	for range 3 {
		pid, err := b.node.PID()
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill skerry: %w", err)
		}
		if err := gone(ctx, pid); err != nil {
			return err
		}
		d, err := b.upToReady(ctx)
		if err != nil {
			return err
		}
		again = append(again, d)
	}
	b.add("up_to_ready_again_s", "s", 5, again...)
	return nil
}

// gone waits until the process is no more, or nothing but a number for its parent to
// take note of.
func gone(ctx context.Context, pid string) error {
	return poll(ctx, time.Millisecond, func() (bool, error) {
		f, err := statFields(pid)
		return err != nil || f[0] == "Z", nil
	})
}

// upToReady starts the cluster and measures, in seconds, until the node's Ready
// condition is true with a heartbeat newer than the start.
func (b *bench) upToReady(ctx context.Context) (float64, error) {
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- b.node.Up(ctx, os.Stderr) }()
	err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
		select {
		case err := <-done:
			if err != nil {
				return false, fmt.Errorf("skerry up: %w", err)
			}
			done <- nil
		default:
		}
		if b.node.Client == nil && b.node.Connect() != nil {
			return false, nil // no kubeconfig yet
		}
		return ready(ctx, b.node, begin), nil
	})
	took := time.Since(begin).Seconds()
	if err != nil {
		return 0, err
	}
	return took, <-done
}

func ready(ctx context.Context, n *node.Node, since time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	nodes := &corev1.NodeList{}
	if n.Client.List(ctx, nodes) != nil || len(nodes.Items) != 1 {
		return false
	}
	for _, c := range nodes.Items[0].Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return !c.LastHeartbeatTime.Time.Before(since.Truncate(time.Second))
		}
	}
	return false
}

// idle measures the skerry process once it has settled.
func (b *bench) idle(ctx context.Context) error {
	fmt.Fprintf(os.Stderr, "waiting %s for the cluster to be idle …\n", settle)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	pid, err := b.node.PID()
	if err != nil {
		return err
	}
	before, err := cpuSeconds(pid)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := pause(ctx, time.Minute); err != nil {
		return err
	}
	after, err := cpuSeconds(pid)
	if err != nil {
		return err
	}
	m, err := statusMiB(pid)
	if err != nil {
		return err
	}
	b.add("idle_rss_mib", "MiB", 350, m["VmRSS"])
	b.add("idle_anon_mib", "MiB", 220, m["RssAnon"])
	b.add("idle_cpu_pct", "%", 4, 100*(after-before)/time.Since(begin).Seconds())
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// poll calls done until it says true, fails, or five minutes are over.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}
