// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if c := os.Getenv(childVariable); c != "" {
		return runChild(ctx, c)
	}
	numbers := flag.String("machines", "1000,5000", "the `numbers` of machines to grow to, ascending")
	flag.Parse()
	var steps []int
	for _, s := range strings.Split(*numbers, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 || len(steps) > 0 && n <= steps[len(steps)-1] {
			return fmt.Errorf("-machines %q: want numbers above 0, ascending, such as 1000,5000", *numbers)
		}
		steps = append(steps, n)
	}
	dir, err := os.MkdirTemp("", "scale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := quietly(dir)
	if err != nil {
		return err
	}
	all, err := grow(ctx, dir, steps, log)
	if err != nil {
		return errors.Join(err, tail(log))
	}
	tell(os.Stderr, all)
	enc := json.NewEncoder(os.Stdout)
	for _, r := range results(all) {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// quietly sends what the API server and the others log into a file.
func quietly(dir string) (*os.File, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	handler := slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})
	slog.SetDefault(slog.New(handler))
	klog.SetLogger(logr.FromSlogHandler(handler))
	crlog.SetLogger(logr.FromSlogHandler(handler))
	return log, nil
}

// tail is the end of the log, for whoever reads an error.
func tail(log *os.File) error {
	const most = 8 << 10 // bytes
	st, err := log.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, min(st.Size(), most))
	if _, err := log.ReadAt(b, st.Size()-int64(len(b))); err != nil {
		return err
	}
	return fmt.Errorf("the end of the log:\n%s", b)
}
