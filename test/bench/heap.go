// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"
)

// heap are the runtime.MemStats of the control process, in bytes, right after a
// garbage collection. The text form of the profile ends in lines such as
// "# HeapAlloc = 123" and "# Stack = 1 / 2", in use and in all.
func (b *bench) heap(ctx context.Context) (map[string]float64, error) {
	c, err := kubernetes.NewForConfig(b.node.REST)
	if err != nil {
		return nil, err
	}
	raw, err := c.RESTClient().Get().AbsPath("/debug/pprof/heap").Param("gc", "1").Param("debug", "1").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the heap's size: %w", err)
	}
	return memStats(raw)
}

func memStats(raw []byte) (map[string]float64, error) {
	m := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), " = ")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(value, " ")
		if n, err := strconv.ParseFloat(first, 64); err == nil {
			m[name] = n
		}
	}
	if m["HeapAlloc"] == 0 {
		return nil, fmt.Errorf("the profiler did not tell the heap's size")
	}
	return m, lines.Err()
}
