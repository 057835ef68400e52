// SPDX-License-Identifier: Apache-2.0

package podfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Notifier tells when something may have changed. One inotify instance serves
// all watches, as a host allows few of them. A signal is a hint: it may be
// spurious, and where watches cannot be had, callers look from time to time.
type Notifier struct {
	f *os.File

	mu     sync.Mutex
	closed bool
	byWD   map[int32]map[*Watch]struct{}
}

// Watch is one watched file or directory.
type Watch struct {
	// C gets a value after a change, if none is waiting there already.
	C  chan struct{}
	n  *Notifier
	wd int32
}

// NewNotifier starts a notifier.
func NewNotifier() (*Notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w (see fs.inotify.max_user_instances)", err)
	}
	n := &Notifier{f: os.NewFile(uintptr(fd), "inotify"), byWD: map[int32]map[*Watch]struct{}{}}
	go n.read()
	return n, nil
}

// WatchFile watches an open file for writes.
func (n *Notifier) WatchFile(f *os.File) (*Watch, error) {
	return n.add(f, unix.IN_MODIFY)
}

// WatchDir watches an open directory for new entries.
func (n *Notifier) WatchDir(d *Dir) (*Watch, error) {
	return n.add(d.f, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_ONLYDIR)
}

func (n *Notifier) add(f *os.File, mask uint32) (*Watch, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, os.ErrClosed
	}
	// A magic link means the open object itself; the mask is added to what
	// another watch of the same object asked for.
	wd, err := unix.InotifyAddWatch(fdOf(n.f), procFD(f), mask|unix.IN_MASK_ADD)
	if err != nil {
		return nil, fmt.Errorf("inotify: watch %s: %w (see fs.inotify.max_user_watches)", f.Name(), err)
	}
	w := &Watch{C: make(chan struct{}, 1), n: n, wd: int32(wd)}
	if n.byWD[w.wd] == nil {
		n.byWD[w.wd] = map[*Watch]struct{}{}
	}
	n.byWD[w.wd][w] = struct{}{}
	return w, nil
}

// Close ends the watch. C is not closed.
func (w *Watch) Close() {
	n := w.n
	n.mu.Lock()
	defer n.mu.Unlock()
	set := n.byWD[w.wd]
	if _, ok := set[w]; !ok {
		return
	}
	delete(set, w)
	if len(set) == 0 {
		delete(n.byWD, w.wd)
		if !n.closed {
			_, _ = unix.InotifyRmWatch(fdOf(n.f), uint32(w.wd))
		}
	}
}

// Close ends all watches.
func (n *Notifier) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	return n.f.Close()
}

func (n *Notifier) read() {
	// os.File parks the goroutine in the runtime's poller, not a thread.
	buf := make([]byte, 4096)
	for {
		got, err := n.f.Read(buf)
		if err != nil {
			return
		}
		n.signal(buf[:got])
	}
}

const inotifyHeader = 16 // wd int32, mask, cookie, len uint32

func (n *Notifier) signal(events []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(events) >= inotifyHeader {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := inotifyHeader + int(binary.NativeEndian.Uint32(events[12:]))
		if size > len(events) {
			return
		}
		events = events[size:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			for _, set := range n.byWD {
				wake(set)
			}
		case mask&unix.IN_IGNORED != 0:
			wake(n.byWD[wd])
			delete(n.byWD, wd)
		default:
			wake(n.byWD[wd])
		}
	}
}

func wake(set map[*Watch]struct{}) {
	for w := range set {
		select {
		case w.C <- struct{}{}:
		default:
		}
	}
}
