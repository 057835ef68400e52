// SPDX-License-Identifier: Apache-2.0

// Package powerdown asks the guests on this machine to power off, over the
// monitor that their launchers' shutdown uses, without any help of the cluster:
// it is used when the cluster is already stopped.
//
// It must never kill a process; whoever calls it does so afterwards.
package powerdown

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// again is how often the power button is pressed: a guest that is still booting
// does not notice the first time.
const again = 5 * time.Second

// Report tells what came of one guest, named by its pod's UID.
type Report func(podUID string, err error)

// Guests powers off all machines below a kubelet's root and waits until each is
// off. grace tells how long the machine in a pod may take; after that QEMU is
// told to quit, which keeps its disks consistent but is a power cut to the guest.
func Guests(ctx context.Context, kubeletRoot string, grace func(podUID string) time.Duration, report Report) error {
	pods, err := os.ReadDir(filepath.Join(kubeletRoot, "pods"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var wg sync.WaitGroup
	for _, p := range pods {
		wg.Go(func() {
			if on, err := guest(ctx, kubeletRoot, p.Name(), grace(p.Name())); on {
				report(p.Name(), err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// guest powers one machine off. on is false where there is none that runs.
func guest(ctx context.Context, kubeletRoot, podUID string, grace time.Duration) (on bool, err error) {
	pod, err := podfs.OpenPod(kubeletRoot, podUID)
	if err != nil {
		return false, nil
	}
	defer pod.Close()
	run, err := pod.EmptyDir(contract.RunVolume)
	if err != nil {
		return false, nil // not a machine's pod
	}
	defer run.Close()
	conn, proc, err := run.DialPod(ctx, contract.ShutdownQMPSocket, podUID)
	if err != nil {
		return false, nil // QEMU is not there, or is ending already
	}
	defer proc.Close()
	client, err := qmp.New(ctx, conn, qmp.Options{})
	if err != nil {
		return true, err
	}
	defer client.Close()

	limit := time.NewTimer(grace)
	defer limit.Stop()
	press := time.NewTicker(again)
	defer press.Stop()
	if err := client.SystemPowerdown(ctx); err != nil && !proc.Exited() {
		return true, err
	}
	for {
		select {
		case <-proc.Done():
			return true, nil
		case <-ctx.Done():
			return true, ctx.Err()
		case <-press.C:
			_ = client.SystemPowerdown(ctx) // when it fails QEMU is ending, or the limit ends it
		case <-limit.C:
			_ = client.Quit(ctx) // its connection may end before the answer
			select {
			case <-proc.Done():
				return true, fmt.Errorf("the guest did not power off within %s: QEMU was told to quit", grace)
			case <-ctx.Done():
				return true, ctx.Err()
			}
		}
	}
}
