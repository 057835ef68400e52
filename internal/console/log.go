// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Output is where the log goes to: a pipe opened without blocking.
type Output interface {
	io.WriteCloser
	SetWriteDeadline(time.Time) error
}

// Log is the serial log of one machine.
type Log struct {
	// File is the log, open for reading and writing. QEMU appends to it.
	File *os.File
	// Open opens the container's standard output. It is called again when
	// writing fails, until it fails itself.
	Open func() (Output, error)
	// Grown hints that the file may have grown; may be nil.
	Grown <-chan struct{}
	// Exited is closed when QEMU has ended. What is in the file then is copied
	// quickly or not at all, as the open pipe holds up the container's end.
	Exited <-chan struct{}
	// FirstByte is called once, when the first output is seen; may be nil.
	FirstByte func(time.Time)

	// Last is the end of what was copied, TailSize bytes at most. It may
	// be read once Copy has returned.
	Last []byte

	// The following have defaults for zero values.

	// Poll is how often the file is looked at without a hint (1 s).
	Poll time.Duration
	// Pause is the least time between two copies (20 ms): with Chunk it bounds
	// what a flooding guest costs, at about 3 MB/s.
	Pause time.Duration
	// Patience is how long one write may wait (250 ms); then the backlog is
	// looked at before the next.
	Patience time.Duration
	// FlushLimit is for the rest after QEMU's end (1 s).
	FlushLimit time.Duration
	// MaxBacklog is how many bytes wait in the file at most while the pipe
	// stalls; of more the oldest are dropped (half the file system, 512 KiB).
	MaxBacklog int64
}

// TailSize is how much of the end is remembered, in bytes.
const TailSize = 1 << 10

// Chunk is how much is copied at once, in bytes.
const Chunk = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, Chunk); return &b }}

// ErrNoOutput means that the container's standard output can't be written to;
// the log file is kept from filling up all the same.
var ErrNoOutput = errors.New("the console's output can't be passed on to the container's log")

func (l *Log) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&l.Poll, time.Second)
	def(&l.Pause, 20*time.Millisecond)
	def(&l.Patience, 250*time.Millisecond)
	def(&l.FlushLimit, time.Second)
	if l.MaxBacklog <= 0 {
		l.MaxBacklog = 512 << 10
		var fs unix.Statfs_t
		if err := fstatfs(l.File, &fs); err == nil && fs.Type == unix.TMPFS_MAGIC && fs.Blocks > 0 {
			l.MaxBacklog = min(l.MaxBacklog, int64(fs.Blocks)*fs.Bsize/2)
		}
	}
}

// copier is the state of Copy.
type copier struct {
	*Log
	out     Output
	noOut   error // set once there is no use in trying
	offset  int64 // everything before it has been dealt with
	freed   int64 // everything before it has been given back
	dropped int64 // bytes that were dropped and not mentioned yet
	seen    bool
	failed  int // writes in a row that failed, other than by waiting
}

// maxFailed is how often writing may fail before there is no use in trying.
const maxFailed = 3

// Copy copies the log until QEMU has ended and the rest is copied, or ctx is
// done; both return nil. It returns ErrNoOutput when the output can't be had, at
// the end as well: in between, the file is emptied.
//
// Copying may be taken up again by another process: what was copied is gone from
// the file.
func (l *Log) Copy(ctx context.Context) error {
	l.defaults()
	c := &copier{Log: l}
	defer func() {
		if c.out != nil {
			c.out.Close()
		}
	}()
	if err := c.resume(); err != nil {
		return fmt.Errorf("console log: %w", err)
	}
	poll := time.NewTicker(l.Poll)
	defer poll.Stop()
	for {
		more, err := c.round(time.Now().Add(l.Patience))
		if err != nil {
			return fmt.Errorf("console log: %w", err)
		}
		var grown <-chan struct{}
		var again <-chan time.Time
		var pause *time.Timer
		if more {
			pause = time.NewTimer(l.Pause)
			again = pause.C
		} else {
			grown = l.Grown
		}
		select {
		case <-again:
		case <-grown:
		case <-poll.C:
		case <-ctx.Done():
			return nil
		case <-l.Exited:
			return c.flush()
		}
		if pause != nil {
			pause.Stop()
		}
	}
}

// flush copies the rest and gives up soon.
func (c *copier) flush() error {
	limit := time.Now().Add(c.FlushLimit)
	for time.Now().Before(limit) {
		more, err := c.round(limit)
		if err != nil {
			return fmt.Errorf("console log: %w", err)
		}
		if !more {
			break
		}
	}
	return c.noOut
}

// round copies at most one chunk and tells whether there may be more.
func (c *copier) round(deadline time.Time) (more bool, err error) {
	size, hole, err := c.skipHole()
	if err != nil || c.offset >= size {
		return false, err
	}
	if !c.seen {
		c.seen = true
		if c.FirstByte != nil {
			c.FirstByte(time.Now())
		}
	}
	if c.out == nil && c.noOut == nil {
		if c.out, err = c.Open(); err != nil {
			c.noOut = fmt.Errorf("%w: %w", ErrNoOutput, err)
		}
	}
	if c.noOut != nil {
		c.offset = size
		return false, c.free()
	}
	if err := c.shorten(size); err != nil {
		return false, err
	}
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	// No more than shorten has seen: the file may have grown meanwhile.
	limit := min(Chunk, max(min(hole, size)-c.offset, 1))
	n, err := c.File.ReadAt((*bp)[:limit], c.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	wrote, err := c.write((*bp)[:n], deadline)
	c.remember((*bp)[:wrote])
	c.offset += int64(wrote)
	if wrote > 0 {
		c.failed = 0
	}
	if ferr := c.free(); ferr != nil {
		return false, ferr
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The reader stalls: look at the backlog and try again.
	default:
		// The reader went away. It may have come back: open anew.
		c.out.Close()
		c.out = nil
		if c.failed++; c.failed >= maxFailed {
			c.noOut = fmt.Errorf("%w: %w", ErrNoOutput, err)
		}
	}
	return true, nil
}

// remember keeps the end of what was copied.
func (c *copier) remember(b []byte) {
	if len(b) >= TailSize {
		c.Last = append(c.Last[:0], b[len(b)-TailSize:]...)
		return
	}
	if over := len(c.Last) + len(b) - TailSize; over > 0 {
		c.Last = c.Last[:copy(c.Last, c.Last[over:])]
	}
	c.Last = append(c.Last, b...)
}

// write mentions dropped bytes, then writes b.
func (c *copier) write(b []byte, deadline time.Time) (int, error) {
	if err := c.out.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	if c.dropped > 0 {
		note := fmt.Sprintf("\n[skerry: %d bytes of the console's output are missing here: the container's log was not taken off in time]\n", c.dropped)
		// A pipe takes so few bytes (less than PIPE_BUF) all or not at all.
		if _, err := io.WriteString(c.out, note); err != nil {
			return 0, err
		}
		c.dropped = 0
	}
	return c.out.Write(b)
}

// shorten drops the oldest output when too much waits, so that the file does not
// fill up: QEMU would drop the newest.
func (c *copier) shorten(size int64) error {
	if size-c.offset <= c.MaxBacklog {
		return nil
	}
	keep := size - c.MaxBacklog/2
	// Go on at the start of a line if there is one near.
	line := make([]byte, 4096)
	n, err := c.File.ReadAt(line, keep)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for i, b := range line[:n] {
		if b == '\n' {
			keep += int64(i) + 1
			break
		}
	}
	c.dropped += keep - c.offset
	c.offset = keep
	return c.free()
}
