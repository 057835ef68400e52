// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Daemon is a containerd that Run keeps alive.
type Daemon struct {
	cfg     Config
	log     *slog.Logger
	adopted bool
	child   *exec.Cmd
	ended   chan error // receives the child's end
}

// startLimit is how long containerd may take to listen; on a slow disk with
// thousands of snapshots opening the metadata takes seconds.
const startLimit = 60 * time.Second

// Start adopts the containerd that answers on the socket, or starts one. It
// returns when the socket answers.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Daemon, error) {
	d := &Daemon{cfg: cfg, log: log}
	for _, dir := range []string{cfg.Root, cfg.State, cfg.CNIConf, filepath.Dir(cfg.Socket), filepath.Dir(cfg.LogFile)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("containerd: %w", err)
		}
	}
	if answers(cfg.Socket) {
		d.adopted = true
		return d, nil
	}
	return d, d.start(ctx)
}

// Adopted says whether the daemon was running already.
func (d *Daemon) Adopted() bool { return d.adopted }

// Run keeps the daemon alive until the context ends; the daemon stays.
func (d *Daemon) Run(ctx context.Context) {
	backoff := time.Second
	for {
		since := time.Now()
		err := d.waitEnd(ctx)
		if ctx.Err() != nil {
			return
		}
		d.log.Warn("containerd ended, starting it again", "err", err)
		if time.Since(since) > time.Minute {
			backoff = time.Second
		}
		for {
			if err := d.start(ctx); err == nil {
				d.log.Info("containerd runs again", "pid", d.child.Process.Pid)
				break
			} else if ctx.Err() != nil {
				return
			} else {
				d.log.Error("containerd does not start", "err", err, "retry", backoff, "log", d.cfg.LogFile)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, time.Minute)
		}
	}
}

// waitEnd returns when the daemon is gone. A child is waited for; an adopted one
// is watched by its socket, which is all that two processes share.
func (d *Daemon) waitEnd(ctx context.Context) error {
	if d.child != nil {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.ended:
			return err
		}
	}
	// One connection is held open: its end is the daemon's end. That costs
	// nothing while all is well, and notices at once.
	for {
		conn, err := dial(d.cfg.Socket)
		if err != nil {
			return fmt.Errorf("adopted daemon does not answer: %w", err)
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		_, err = conn.Read(make([]byte, 1<<10))
		for err == nil {
			_, err = conn.Read(make([]byte, 1<<10)) // HTTP/2 settings frames
		}
		stop()
		conn.Close()
		if ctx.Err() != nil {
			return nil
		}
		// gRPC closes connections that never speak after a while; ask again.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (d *Daemon) start(ctx context.Context) error {
	conf := filepath.Join(d.cfg.State, "config.toml")
	if err := os.MkdirAll(d.cfg.State, 0o711); err != nil {
		return err
	}
	if err := os.WriteFile(conf, []byte(d.cfg.render()), 0o600); err != nil {
		return fmt.Errorf("containerd's configuration: %w", err)
	}
	out, err := os.OpenFile(d.cfg.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("containerd's log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(d.cfg.BinDir, "containerd"), "--config", conf)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PATH="+d.cfg.BinDir+":"+os.Getenv("PATH"))
	// A session of its own and no parent-death signal: it outlives this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	d.child, d.adopted, d.ended = cmd, false, make(chan error, 1)
	if err := failpoint.Hit(ctx, "cluster.containerd.after-exec"); err != nil {
		return err
	}
	go func(ended chan<- error) {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("exit status 0")
		}
		ended <- err
	}(d.ended)
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !answers(d.cfg.Socket) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.ended:
			d.ended <- err
			return fmt.Errorf("containerd ended at once (%w); its log is %s", err, d.cfg.LogFile)
		case <-deadline.C:
			return fmt.Errorf("containerd does not listen on %s after %s; its log is %s", d.cfg.Socket, startLimit, d.cfg.LogFile)
		case <-tick.C:
		}
	}
	return nil
}

func dial(socket string) (net.Conn, error) { return net.DialTimeout("unix", socket, 2*time.Second) }

func answers(socket string) bool {
	c, err := dial(socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
