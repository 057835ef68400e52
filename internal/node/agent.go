// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/console"
	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podfs"
)

// Recorder tells Events (k8s.io/client-go/tools/events).
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// process is what the agent does with a process of a pod; podfs.Process is it.
type process interface {
	PID() int
	Done() <-chan struct{}
	NetNS() (*os.File, error)
	Stdout() (console.Output, error)
	ReadInRoot(path string, limit int64) ([]byte, error)
	HasDevice(path string) (bool, error)
	DeviceSize(path string) (int64, error)
	OwnDevice(path string, uid, gid int) error
	Exe() (string, error)
	Cgroups() ([]byte, error)
	Close() error
}

// realProcess makes a podfs.Process a process.
type realProcess struct{ *podfs.Process }

func (p realProcess) Stdout() (console.Output, error) { return p.OpenStdout() }

// dialFunc connects to a socket in a directory of a pod, and makes sure that the
// pod serves it.
type dialFunc func(ctx context.Context, dir *podfs.Dir, socket, podUID string) (net.Conn, process, error)

func dialPod(ctx context.Context, dir *podfs.Dir, socket, podUID string) (net.Conn, process, error) {
	conn, p, err := dir.DialPod(ctx, socket, podUID)
	if err != nil {
		return nil, nil, err
	}
	return conn, realProcess{p}, nil
}

// agent is what all guests share.
type agent struct {
	node        string
	kubeletRoot string
	cgroupRoot  string
	accel       machine.Accel
	arch        string

	log     *slog.Logger
	events  Recorder
	dial    dialFunc
	network network
	// attach attaches pods to networks beside their own; nil leaves that to others.
	attach attacher
	// definitions reads NetworkAttachmentDefinitions.
	definitions definitions
	// netHost is what their configurations must fit to.
	netHost netattach.Host
	notify  *podfs.Notifier // nil: polling only
	now     func() time.Time
	// images is where a newer QEMU comes from; nil if there is none.
	images imageSource
	// renewals are asked for where machines may be renewed without a user's word;
	// nil otherwise.
	renewals chan struct{}
	// owner of the files in a pod's machine volume.
	owner podfs.Owner
	// enqueue asks for a pass over an instance.
	enqueue func(types.NamespacedName)
	// failpoint is asked before each named step; an error fails the step. For
	// tests; nil otherwise.
	failpoint func(step string) error
	times     times

	mu        sync.Mutex
	guests    map[types.UID]*guest
	closed    bool
	queueOnce sync.Once
	ctx       context.Context // ends all guests
}

// times are the agent's intervals and limits.
type times struct {
	look        [2]time.Duration // for sockets of a pod: at first, and at most
	retry       [2]time.Duration // after a failed step: at first, and at most
	hello       time.Duration    // for the launcher's greeting
	prepare     time.Duration    // for the launcher to make disks
	handshake   time.Duration    // with a monitor
	command     time.Duration    // one command on a monitor
	lost        time.Duration    // a monitor may be away before it is a problem
	question    time.Duration    // for all answers of a guest agent
	askAgain    []time.Duration  // between questions to a guest agent; the last repeats
	quietStatus time.Duration    // between writes of a status that are not urgent
	resume      [2]time.Duration // until a machine goes on that an error of a disk stopped: at first, and at most
	resize      resizeTimes
}

func defaultTimes() times {
	return times{
		look:        [2]time.Duration{20 * time.Millisecond, time.Second},
		retry:       [2]time.Duration{time.Second, 30 * time.Second},
		hello:       10 * time.Second,
		prepare:     time.Minute,
		handshake:   15 * time.Second,
		command:     10 * time.Second,
		lost:        20 * time.Second,
		question:    10 * time.Second,
		askAgain:    []time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute},
		quietStatus: time.Second,
		resume:      [2]time.Duration{5 * time.Second, 3 * time.Minute},
		resize:      defaultResizeTimes(),
	}
}

// step is a failpoint, which unit tests reach in every build.
func (a *agent) step(ctx context.Context, name string) error {
	if a.failpoint != nil {
		if err := a.failpoint(name); err != nil {
			return err
		}
	}
	return failpoint.Hit(ctx, name)
}

// guestOf returns the guest of an instance, or nil.
func (a *agent) guestOf(uid types.UID) *guest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.guests[uid]
}

// ensure returns the guest of an instance with this pod and starts it if need be.
// A guest of an earlier pod is let go.
func (a *agent) ensure(vmi *v1.VirtualMachineInstance, podUID string) *guest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	g := a.guests[vmi.UID]
	if g != nil && g.podUID == podUID {
		g.update(vmi)
		return g
	}
	if g != nil {
		g.cancel()
	}
	g = newGuest(a, vmi, podUID)
	a.guests[vmi.UID] = g
	go g.run()
	return g
}

// forget lets go of the guests of instances of that name, except the one with
// the UID keep. It ends no machine.
func (a *agent) forget(name types.NamespacedName, keep types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid, g := range a.guests {
		if g.name == name && uid != keep {
			g.cancel()
			delete(a.guests, uid)
		}
	}
}

// close lets go of all guests and waits for them.
func (a *agent) close() {
	a.mu.Lock()
	a.closed = true
	all := make([]*guest, 0, len(a.guests))
	for _, g := range a.guests {
		g.cancel()
		all = append(all, g)
	}
	a.mu.Unlock()
	for _, g := range all {
		<-g.done
	}
}
