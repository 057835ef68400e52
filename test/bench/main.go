// SPDX-License-Identifier: Apache-2.0

// Command bench measures what test/bench/PROMISES.md promises, prints a table
// and writes bench-results.json. hack/bench.sh runs it as root in a network
// namespace of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/skerry-dev/skerry/test/node"
)

// result is one line of bench-results.json. Value is the median.
type result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	N     int     `json:"n"`

	p95, goal float64 // as in add
}

// bench is one run.
type bench struct {
	node    *node.Node
	results []result
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	n, err := node.FromEnvironment()
	if err != nil {
		return err
	}
	if err := n.Reset(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			n.DumpLog(os.Stderr)
		}
		// An interrupted run cleans up as well.
		if rerr := n.Reset(context.WithoutCancel(ctx)); rerr != nil && err == nil {
			err = rerr
		}
	}()
	b := &bench{node: n}
	// What was measured before a part failed is worth having.
	partErr := b.parts(ctx, os.Args[1:])
	b.table(os.Stdout)
	out, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(partErr, os.WriteFile("bench-results.json", append(out, '\n'), 0o644))
}

// parts are what can be measured, in this order.
var parts = []struct {
	name    string
	images  bool // it needs the test images
	measure func(*bench, context.Context) error
}{
	{"start", false, (*bench).start},
	{"idle", false, (*bench).idle},
	{"machines", true, func(b *bench, ctx context.Context) error { return errors.Join(b.oneVM(ctx), b.fiveVMs(ctx)) }},
	{"memory", true, (*bench).memoryOfMany},
	{"density", true, (*bench).density},
	{"gap", true, (*bench).gaps},
	{"resize", true, (*bench).resizes},
	{"scale", false, (*bench).scale},
}

// parts measures the named parts, or all.
func (b *bench) parts(ctx context.Context, names []string) error {
	var known []string
	for _, p := range parts {
		known = append(known, p.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no part %q: it can be one of %s", name, strings.Join(known, ", "))
		}
	}
	if len(names) == 0 {
		names = known
	}
	if !slices.Contains(names, "start") {
		if err := b.node.Up(ctx, os.Stderr); err != nil {
			return err
		}
		if err := b.node.Connect(); err != nil {
			return err
		}
	}
	imported := false
	for _, p := range parts {
		if !slices.Contains(names, p.name) {
			continue
		}
		if p.images && !imported {
			if err := b.node.ImportTestImages(ctx); err != nil {
				return err
			}
			imported = true
		}
		if err := p.measure(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// add keeps the median of the samples; goal 0 is none, and one below 0 is a least value.
func (b *bench) add(name, unit string, goal float64, samples ...float64) {
	sort.Float64s(samples)
	r := result{Name: name, Unit: unit, N: len(samples), goal: goal}
	if len(samples) > 0 {
		r.Value = round(samples[len(samples)/2])
		r.p95 = round(samples[(len(samples)*95+99)/100-1])
	}
	b.results = append(b.results, r)
	fmt.Fprintf(os.Stderr, "%-28s %8.3f %s\n", name, r.Value, unit)
}

func round(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }

func (b *bench) table(w io.Writer) {
	fmt.Fprintf(w, "\n%-28s %10s %10s %-6s %4s %8s\n", "name", "median", "p95", "unit", "n", "goal")
	for _, r := range b.results {
		goal, mark := "", ""
		if r.goal > 0 {
			goal = fmt.Sprintf("≤ %g", r.goal)
			if r.Value > r.goal {
				mark = "  missed"
			}
		}
		if r.goal < 0 {
			goal = fmt.Sprintf("≥ %g", -r.goal)
			if r.Value < -r.goal {
				mark = "  missed"
			}
		}
		fmt.Fprintf(w, "%-28s %10.3f %10.3f %-6s %4d %8s%s\n", r.Name, r.Value, r.p95, r.Unit, r.N, goal, mark)
	}
}
