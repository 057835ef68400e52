// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// scale runs distro/scale, which has an API server of its own, and takes over its
// figures. SKERRY_BENCH_SCALE changes the numbers of machines.
func (b *bench) scale(ctx context.Context) error {
	// The shared cluster's share of the CPU is small, but it need not be there at
	// all: this part is the last one.
	if _, err := b.node.Skerry(ctx, "down"); err != nil {
		return err
	}
	machines := os.Getenv("SKERRY_BENCH_SCALE")
	if machines == "" {
		machines = "1000,5000"
	}
	cmd := exec.CommandContext(ctx, "go", "run", "-C", "distro", "./scale", "-machines", machines)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	in := json.NewDecoder(&out)
	for {
		var r struct {
			result
			Goal float64 `json:"goal"`
		}
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		r.Value = round(r.Value)
		r.p95, r.goal = r.Value, r.Goal
		b.results = append(b.results, r.result)
		fmt.Fprintf(os.Stderr, "%-40s %8.3f %s\n", r.Name, r.Value, r.Unit)
	}
	return nil
}
