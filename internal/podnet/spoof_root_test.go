// SPDX-License-Identifier: Apache-2.0

//go:build root

package podnet

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/netns/netnstest"
)

// A guest on a bridged pod network speaks for nobody but itself: not from a
// neighbour's or the gateway's address, not from another MAC, not in ARP.
func TestBridgedGuestCannotSpoof(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	a := w.setup(bridgeConfig())[0]
	g := w.guest(a)
	var listener *net.UDPConn
	netnstest.Inside(t, w.neighbour, func() (err error) {
		listener, err = net.ListenUDP("udp", &net.UDPAddr{Port: 7777})
		return err
	})
	t.Cleanup(func() { listener.Close() })
	// The neighbour knows the gateway, and so could be told otherwise.
	serve(t, w.node, "tcp", nodeIP+":8080")
	mustAsk(t, "the neighbour to its gateway", w.neighbour, nodeIP+":8080", neighbourIP)

	send := func(from, to, what string) {
		t.Helper()
		netnstest.Inside(t, g.NS, func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: 7777})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(what))
			return err
		})
	}
	const spoofed, spoofed6 = "10.244.7.66", "fd00:7::66"
	netnstest.IP(t, g.NS, "addr add "+spoofed+"/24 dev eth0", "addr add "+nodeIP+"/24 dev eth0", "-6 addr add "+spoofed6+"/64 dev eth0 nodad")
	send(spoofed, neighbourIP, "spoofed")
	send(nodeIP, neighbourIP, "spoofed")
	send(spoofed6, "fd00:7::9", "spoofed")
	// An ARP packet that nobody asked for: the gateway is here (and in a second one,
	// that it has a third party's MAC).
	own := a.MAC
	for _, mac := range []net.HardwareAddr{own, {2, 6, 6, 6, 6, 6}} {
		gratuitous(t, g, own, mac, net.ParseIP(nodeIP).To4())
	}
	netnstest.IP(t, g.NS, "link set eth0 down", "link set eth0 address 02:06:06:06:06:06", "link set eth0 up", "neigh replace "+neighbourIP+" lladdr 0a:58:0a:f4:07:09 dev eth0")
	send(podIP, neighbourIP, "spoofed")
	netnstest.IP(t, g.NS, "link set eth0 down", "link set eth0 address "+own.String(), "link set eth0 up", "addr del "+nodeIP+"/24 dev eth0")

	// All of it went before this, on one wire.
	send(podIP, neighbourIP, "honest")
	if err := listener.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, from, err := listener.ReadFromUDP(buf)
	if err != nil || string(buf[:n]) != "honest" || from.IP.String() != podIP {
		t.Errorf("the neighbour got %q from %v, %v", buf[:n], from, err)
	}
	if out := netnstest.Exec(t, w.neighbour, "ip", "neigh"); strings.Contains(out, spoofed) || strings.Contains(out, "02:06:06:06:06:06") || strings.Count(out, own.String()) > 1 {
		t.Errorf("the neighbour believes:\n%s", out)
	}
	mustAsk(t, "the neighbour to its gateway", w.neighbour, nodeIP+":8080", neighbourIP)
}

// gratuitous has the guest announce by ARP that ip is at mac.
func gratuitous(t *testing.T, g *netnstest.Guest, own, mac net.HardwareAddr, ip net.IP) {
	t.Helper()
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame = append(append(frame, own...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	frame = append(append(append(frame, mac...), ip...), 0, 0, 0, 0, 0, 0)
	frame = append(frame, ip...)
	netnstest.Inside(t, g.NS, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Halen: 6})
	})
}
