// SPDX-License-Identifier: Apache-2.0

// Package netnstest makes network namespaces for tests that run as root, and
// guests in them that have a tap for a network card. A namespace has no name and
// ends with its test.
package netnstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/netns"
)

// New makes a network namespace with its loopback up.
func New(t testing.TB) *os.File {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	ch := make(chan result)
	var enter func()
	enter = func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done := make(chan struct{})
			go func() { defer close(done); enter() }()
			<-done
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ch <- result{nil, fmt.Errorf("unshare: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		ch <- result{f, err}
	}
	go enter()
	r := <-ch
	if r.err != nil {
		t.Fatalf("make network namespace: %v", r.err)
	}
	t.Cleanup(func() { r.f.Close() })
	IP(t, r.f, "link set lo up")
	return r.f
}

// Exec runs a command in the namespace and returns what it printed.
func Exec(t testing.TB, ns *os.File, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := netns.Do(ns, func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// IP runs ip(8) with each line in the namespace.
func IP(t testing.TB, ns *os.File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		Exec(t, ns, "ip", strings.Fields(line)...)
	}
}

// Inside calls f in the namespace and fails the test with its error.
func Inside(t testing.TB, ns *os.File, f func() error) {
	t.Helper()
	if err := netns.Do(ns, f); err != nil {
		t.Fatal(err)
	}
}

// Link joins two namespaces with a pair of veths.
func Link(t testing.TB, a *os.File, nameA string, b *os.File, nameB string) {
	t.Helper()
	Inside(t, a, func() error {
		cmd := exec.Command("ip", "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{b}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("link %s with %s: %w\n%s", nameA, nameB, err, out)
		}
		return nil
	})
}

// Move takes a link to another namespace and gives it a name there.
func Move(t testing.TB, from *os.File, name string, to *os.File, newName string) {
	t.Helper()
	Inside(t, from, func() error {
		cmd := exec.Command("ip", "link", "set", name, "netns", "/proc/self/fd/3", "name", newName)
		cmd.ExtraFiles = []*os.File{to}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("move link %s: %w\n%s", name, err, out)
		}
		return nil
	})
}

// Guest is a machine whose card eth0 is the other end of a tap in a pod: frames
// go to and fro between the two as QEMU would carry them.
type Guest struct {
	NS       *os.File
	pod, own *os.File
}

// NewGuest opens the pod's tap as QEMU does. The guest's card is up and has the
// MAC; everything else is the test's.
func NewGuest(t testing.TB, pod *os.File, tap string, mac net.HardwareAddr, mtu int) *Guest {
	t.Helper()
	g := &Guest{NS: New(t)}
	var err error
	if g.pod, err = OpenTap(pod, tap); err != nil {
		t.Fatal(err)
	}
	if g.own, err = OpenTap(g.NS, "eth0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.pod.Close(); g.own.Close() })
	IP(t, g.NS, "link set eth0 address "+mac.String()+" mtu "+fmt.Sprint(mtu)+" up")
	go pump(g.pod, g.own)
	go pump(g.own, g.pod)
	return g
}

// Unplug closes the pod's tap, as QEMU does when it ends.
func (g *Guest) Unplug() { g.pod.Close() }

func pump(from, to *os.File) {
	buf := make([]byte, 65536)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			return
		}
		// A card that is down loses frames.
		if _, err := to.Write(buf[:n]); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

// OpenTap attaches to the tap, which is made if it does not exist.
func OpenTap(ns *os.File, name string) (*os.File, error) { return openTap(ns, name, 0) }

// OpenTapVnetHdr is OpenTap for a virtio card: frames have a header.
func OpenTapVnetHdr(ns *os.File, name string) (*os.File, error) {
	return openTap(ns, name, unix.IFF_VNET_HDR)
}

func openTap(ns *os.File, name string, flags uint16) (*os.File, error) {
	var f *os.File
	err := netns.Do(ns, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open tun: %w", err)
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return errors.Join(fmt.Errorf("attach to tap %s: %w", name, err), unix.Close(fd))
		}
		f = os.NewFile(uintptr(fd), "tap:"+name)
		return nil
	})
	return f, err
}
