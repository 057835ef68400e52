// SPDX-License-Identifier: Apache-2.0

//go:build root

package csi

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/pool"
)

// TestSanity runs the community's whole suite on a real pool, once with file
// systems and once with block devices.
func TestSanity(t *testing.T) {
	dir := t.TempDir()
	poolDir := filepath.Join(dir, "pool")
	t.Cleanup(func() {
		_ = unix.Unmount(filepath.Join(poolDir, "mnt"), unix.MNT_DETACH)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := pool.DetachAll(ctx, poolDir); err != nil {
			t.Error(err)
		}
	})
	p, err := pool.Open(t.Context(), pool.Config{Dir: poolDir, Size: 400 << 20, Limits: pool.Limits{Overcommit: 100}})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "csi.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { served <- New(p, "n1").Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if left := p.List(); len(left) != 0 {
			t.Errorf("volumes are left: %v", left)
		}
		if left := p.ListSnapshots(); len(left) != 0 {
			t.Errorf("snapshots are left: %v", left)
		}
	})
	// A suite runs once per process: both kinds of volumes are in one.
	for _, access := range []string{"mount", "block"} {
		cfg := sanity.NewTestConfig()
		cfg.Address = "unix:" + socket
		cfg.TargetPath, cfg.StagingPath = filepath.Join(dir, access+"-target"), filepath.Join(dir, access+"-staging")
		cfg.TestVolumeAccessType = access
		cfg.TestVolumeSize, cfg.TestVolumeExpandSize = pool.MinPool, pool.MinPool+32<<20
		cfg.IdempotentCount = 2
		sanity.GinkgoTest(&cfg)
	}
	runSpecs(t)
}
