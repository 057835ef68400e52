// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/internal/manager"
)

// childVariable holds the child's configuration; with it this program is the
// controller and nothing else.
const childVariable = "SKERRY_SCALE_CONTROLLER"

// childConfig is what the controller is started with.
type childConfig struct {
	Listen string
	API    cluster.APIAlone
}

// stats are what the controller tells of itself.
type stats struct {
	// Live is the heap in use after a garbage collection, Stacks the goroutines'
	// stacks, Resident the anonymous memory of the process; all in bytes.
	Live, Stacks, Resident uint64
	// CPU is its user and system time in seconds.
	CPU float64
	// Passes counts reconciliations.
	Passes float64
	// Writes are its requests that change something.
	Writes map[string]int
}

// child is the running controller.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild runs this program once more as the controller.
func startChild(ctx context.Context, c childConfig, log io.Writer) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	env, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childVariable+"="+string(env))
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the controller: %w", err)
	}
	return &child{cmd, in, bufio.NewReader(out)}, nil
}

// stats has the controller collect garbage and tell.
func (c *child) stats() (s stats, err error) {
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		return s, fmt.Errorf("ask the controller: %w", err)
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return s, fmt.Errorf("hear from the controller: %w", err)
	}
	return s, json.Unmarshal(line, &s)
}

// stop ends it.
func (c *child) stop() error {
	c.in.Close() // it ends when nobody can ask any more
	return c.cmd.Wait()
}

// runChild is the controller's process.
func runChild(ctx context.Context, config string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return fmt.Errorf("%s: %w", childVariable, err)
	}
	handler := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	slog.SetDefault(slog.New(handler))
	crlog.SetLogger(logr.FromSlogHandler(handler))
	access, err := clientcmd.BuildConfigFromFlags("", c.API.Kubeconfig)
	if err != nil {
		return err
	}
	var w writes
	w.wrap(access)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- manager.Run(ctx, manager.Config{
			REST: access, LauncherImage: "launcher:1", ListenAddress: c.Listen,
			TLSCertFile: c.API.ServingCert, TLSKeyFile: c.API.ServingKey,
			NodeClientCertFile: c.API.ClientCert, NodeClientKeyFile: c.API.ClientKey, NodeCAFile: c.API.CA,
		})
	}()
	asked := make(chan struct{})
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			asked <- struct{}{}
		}
		cancel()
	}()
	for {
		select {
		case err := <-ended:
			return err
		case <-asked:
			s, err := own(&w)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
				return err
			}
		}
	}
}

// own are the numbers of this process.
func own(w *writes) (s stats, err error) {
	runtime.GC()
	debug.FreeOSMemory() // a second collection: what finalizers let go of is gone too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Live, s.Stacks, s.Writes = m.HeapAlloc, m.StackInuse, w.snapshot()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return s, err
	}
	s.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	if s.Resident, err = anonymous(); err != nil {
		return s, err
	}
	families, err := crmetrics.Registry.Gather()
	if err != nil {
		return s, err
	}
	for _, f := range families {
		if f.GetName() == "controller_runtime_reconcile_total" {
			for _, m := range f.GetMetric() {
				s.Passes += m.GetCounter().GetValue()
			}
		}
	}
	return s, nil
}

// anonymous is this process's anonymous memory in bytes (proc(5)).
func anonymous() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	return rssAnon(string(b))
}

// freeAddress is one of the loopback interface's that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), errors.Join(l.Close())
}
