// SPDX-License-Identifier: Apache-2.0

//go:build root

package podnet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/netns"
	"github.com/skerry-dev/skerry/internal/netns/netnstest"
)

// world is a node with a bridge as the bridge CNI plugin makes it, a pod on it
// that is to become a machine's, and another pod beside it.
type world struct {
	t                    *testing.T
	node, pod, neighbour *os.File
}

const (
	nodeIP      = "10.244.7.1"
	podIP       = "10.244.7.5"
	neighbourIP = "10.244.7.9"
	podIP6      = "fd00:7::5"
	mtu         = 1450
)

var podMAC = net.HardwareAddr{0x0a, 0x58, 10, 244, 7, 5}

func newWorld(t *testing.T, ipv6 bool) *world {
	w := &world{t: t, node: netnstest.New(t), pod: netnstest.New(t), neighbour: netnstest.New(t)}
	netnstest.IP(t, w.node, "link add cni0 type bridge", "addr add "+nodeIP+"/24 dev cni0", "link set cni0 mtu 1450 up")
	for name, pod := range map[string]struct {
		ns   *os.File
		ip   string
		ip6  string
		mac  string
		more []string
	}{
		"vethpod": {w.pod, podIP, podIP6, podMAC.String(), []string{"route add 192.0.2.0/24 via 10.244.7.7 dev eth0"}},
		"vethnbr": {w.neighbour, neighbourIP, "fd00:7::9", "0a:58:0a:f4:07:09", nil},
	} {
		netnstest.Link(t, w.node, name, pod.ns, "eth0")
		netnstest.IP(t, w.node, "link set "+name+" mtu 1450 master cni0 up")
		netnstest.IP(t, pod.ns, "link set eth0 address "+pod.mac+" mtu 1450 up", "addr add "+pod.ip+"/24 dev eth0", "route add default via "+nodeIP)
		netnstest.IP(t, pod.ns, pod.more...)
		if ipv6 {
			netnstest.IP(t, pod.ns, "-6 addr add "+pod.ip6+"/64 dev eth0 nodad", "-6 route add default via fd00:7::1")
		}
	}
	if ipv6 {
		netnstest.IP(t, w.node, "-6 addr add fd00:7::1/64 dev cni0 nodad")
	}
	return w
}

func (w *world) setup(c Config) []Attached {
	w.t.Helper()
	a, err := Setup(w.t.Context(), w.pod, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// guest boots a machine on the interface with the addresses and routes that it
// was told.
func (w *world) guest(a Attached) *netnstest.Guest {
	w.t.Helper()
	g := netnstest.NewGuest(w.t, w.pod, a.Tap, a.MAC, a.MTU)
	for _, p := range a.Addresses {
		if p.Addr().Is6() {
			netnstest.IP(w.t, g.NS, "-6 addr add "+p.String()+" dev eth0 nodad")
		} else {
			netnstest.IP(w.t, g.NS, "addr add "+p.String()+" dev eth0")
		}
	}
	for _, r := range a.Routes {
		line := "route add " + r.Dst.String() + " dev eth0"
		if r.Gateway.IsValid() {
			line += " via " + r.Gateway.String()
		}
		netnstest.IP(w.t, g.NS, line)
	}
	return g
}

// serve answers each connection with the address that the client came from.
func serve(t *testing.T, ns *os.File, network, addr string) {
	t.Helper()
	var l net.Listener
	netnstest.Inside(t, ns, func() (err error) {
		l, err = net.Listen(network, addr)
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
			c.Close()
		}
	}()
}

// ask connects and returns what the server saw as its client.
func ask(ns *os.File, addr string) (string, error) {
	var c net.Conn
	err := netns.Do(ns, func() (err error) {
		c, err = net.DialTimeout("tcp", addr, 10*time.Second)
		return err
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", err
	}
	return line[:len(line)-1], nil
}

func mustAsk(t *testing.T, what string, ns *os.File, addr, want string) {
	t.Helper()
	got, err := ask(ns, addr)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	} else if got != want {
		t.Errorf("%s: the server saw %s, want %s", what, got, want)
	}
}

// mustFail expects that no connection comes about within a short time.
func mustFail(t *testing.T, what string, ns *os.File, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := netns.Do(ns, func() error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err == nil {
		t.Errorf("%s: a connection to %s came about", what, addr)
	}
}

var errKilled = errors.New("killed")
