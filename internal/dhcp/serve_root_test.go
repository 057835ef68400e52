// SPDX-License-Identifier: Apache-2.0

//go:build root

package dhcp

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/netns"
	"github.com/skerry-dev/skerry/internal/netns/netnstest"
	"github.com/skerry-dev/skerry/internal/podnet"
)

// wire is a packet socket on a link: what a DHCP client or a curious neighbour has.
type wire struct {
	f *os.File
}

func openWire(t *testing.T, ns *os.File, link string) wire {
	t.Helper()
	var w wire
	netnstest.Inside(t, ns, func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		w.f = os.NewFile(uintptr(fd), link)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: l.Index})
	})
	t.Cleanup(func() { w.f.Close() })
	return w
}

func (w wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := w.f.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// dhcpFrame returns the next frame to or from port 67 within the time, or nil.
func (w wire) dhcpFrame(t *testing.T, port byte, within time.Duration) []byte {
	t.Helper()
	if err := w.f.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxFrame)
	for {
		n, err := w.f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		f := buf[:n]
		if n > etherHeader+ipHeader+udpHeader && f[12] == 8 && f[13] == 0 && f[etherHeader+9] == protoUDP && f[etherHeader+ipHeader+3] == port && f[etherHeader+ipHeader+2] == 0 {
			return bytes.Clone(f)
		}
	}
}

// site is a pod network of two pods, one of which is a machine's.
type site struct {
	pod, neighbour *os.File
	attached       podnet.Attached
}

func newSite(t *testing.T, binding podnet.Binding) site {
	node := netnstest.New(t)
	s := site{pod: netnstest.New(t), neighbour: netnstest.New(t)}
	netnstest.IP(t, node, "link add cni0 type bridge", "link set cni0 up", "addr add 10.244.9.1/24 dev cni0")
	netnstest.Link(t, node, "veth0", s.pod, "eth0")
	netnstest.Link(t, node, "veth1", s.neighbour, "eth0")
	netnstest.IP(t, node, "link set veth0 master cni0 up", "link set veth1 master cni0 up")
	netnstest.IP(t, s.pod, "link set eth0 up", "addr add 10.244.9.5/24 dev eth0", "route add default via 10.244.9.1")
	netnstest.IP(t, s.neighbour, "link set eth0 up", "addr add 10.244.9.9/24 dev eth0")
	a, err := podnet.Setup(t.Context(), s.pod, podnet.Config{UID: 107, GID: 107, Seed: t.Name(), NICs: []podnet.NIC{{Name: "default", Binding: binding}}})
	if err != nil {
		t.Fatal(err)
	}
	s.attached = a[0]
	return s
}

func (s site) config() Config {
	a := s.attached
	c := Config{Interface: a.Tap, Server: a.DHCPServer, MAC: a.MAC, Address: a.Addresses[0], MTU: a.MTU}
	for _, r := range a.Routes {
		c.Routes = append(c.Routes, Route(r))
	}
	return c
}

func (s site) serve(t *testing.T) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, s.pod, s.config()) }()
	ended := false
	stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return stop
}

func (s site) message(t *testing.T, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) []byte {
	t.Helper()
	f := clientFrame(t, kind, append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(s.attached.MAC)}, modifiers...)...)
	copy(f[6:12], s.attached.MAC)
	return f
}

// exchange sends the frame until it is answered: the server may not be there yet.
func exchange(t *testing.T, w wire, frame []byte) *dhcpv4.DHCPv4 {
	t.Helper()
	for range 100 {
		w.send(t, frame)
		if f := w.dhcpFrame(t, clientPort, 200*time.Millisecond); f != nil {
			m, err := dhcpv4.FromBytes(f[etherHeader+ipHeader+udpHeader:])
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	t.Fatal("no answer")
	return nil
}

func TestServe(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		binding podnet.Binding
		ip, gw  string
	}{{podnet.Masquerade, "10.0.2.2", "10.0.2.1"}, {podnet.Bridge, "10.244.9.5", "10.244.9.1"}} {
		t.Run(string(tc.binding), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, tc.binding)
			g := netnstest.NewGuest(t, s.pod, s.attached.Tap, s.attached.MAC, s.attached.MTU)
			stop := s.serve(t)
			w := openWire(t, g.NS, "eth0")
			neighbour := openWire(t, s.neighbour, "eth0")

			offer := exchange(t, w, s.message(t, dhcpv4.MessageTypeDiscover))
			if offer.MessageType() != dhcpv4.MessageTypeOffer || offer.YourIPAddr.String() != tc.ip || offer.Router()[0].String() != tc.gw {
				t.Fatalf("offer: %s", offer.Summary())
			}
			ack := exchange(t, w, s.message(t, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))))
			if ack.MessageType() != dhcpv4.MessageTypeAck || ack.IPAddressLeaseTime(0) != infinite {
				t.Fatalf("ack: %s", ack.Summary())
			}

			// Nobody else hears the guest, and nobody else is answered, even with the guest's MAC.
			neighbour.send(t, s.message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true)))
			if f := neighbour.dhcpFrame(t, clientPort, 300*time.Millisecond); f != nil {
				t.Errorf("the neighbour was answered: %x", f)
			}
			w.send(t, s.message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true)))
			if f := neighbour.dhcpFrame(t, serverPort, 300*time.Millisecond); f != nil {
				t.Errorf("the neighbour heard the guest: %x", f)
			}
			// A neighbour that plays the server is not heard by the guest.
			for w.dhcpFrame(t, clientPort, 300*time.Millisecond) != nil {
			}
			neighbour.send(t, udpFrame(net.HardwareAddr{2, 0, 0, 0, 0, 7}, broadcastMAC, netip.MustParseAddr("10.244.9.9"), netip.MustParseAddr("255.255.255.255"), offer.ToBytes()))
			if f := w.dhcpFrame(t, clientPort, 300*time.Millisecond); f != nil {
				t.Errorf("the guest heard a neighbour's offer: %x", f)
			}

			// A new server knows the guest without having seen it.
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			s.serve(t)
			again := exchange(t, w, s.message(t, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))))
			if again.MessageType() != dhcpv4.MessageTypeAck {
				t.Errorf("after a restart: %s", again.Summary())
			}
		})
	}
}

// A guest that floods the server is answered a few times, and again later.
func TestFlood(t *testing.T) {
	t.Parallel()
	s := newSite(t, podnet.Masquerade)
	tap, err := netnstest.OpenTap(s.pod, s.attached.Tap)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	s.serve(t)
	discover := s.message(t, dhcpv4.MessageTypeDiscover)
	w := wire{tap}
	exchange(t, w, discover)
	const sent = 20000
	for range sent {
		w.send(t, discover)
	}
	answers := 0
	for w.dhcpFrame(t, clientPort, 500*time.Millisecond) != nil {
		answers++
	}
	if answers > sent/10 {
		t.Errorf("%d of %d were answered", answers, sent)
	}
	exchange(t, w, discover)
}

func TestServeEndsWithTheTap(t *testing.T) {
	t.Parallel()
	s := newSite(t, podnet.Masquerade)
	done := make(chan error, 1)
	g := netnstest.NewGuest(t, s.pod, s.attached.Tap, s.attached.MAC, s.attached.MTU)
	go func() { done <- Serve(t.Context(), s.pod, s.config()) }()
	exchange(t, openWire(t, g.NS, "eth0"), s.message(t, dhcpv4.MessageTypeDiscover))
	netnstest.IP(t, s.pod, "link del "+s.attached.Tap)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "tap0") {
		t.Errorf("Serve: %v", err)
	}
	if err := Serve(t.Context(), s.pod, s.config()); err == nil || !strings.Contains(err.Error(), "tap0") {
		t.Errorf("Serve without a tap: %v", err)
	}
}

// A guest that is off does not end the server.
func TestServeOutlivesTheGuest(t *testing.T) {
	t.Parallel()
	s := newSite(t, podnet.Masquerade)
	s.serve(t)
	for range 2 {
		tap, err := netnstest.OpenTap(s.pod, s.attached.Tap)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, wire{tap}, s.message(t, dhcpv4.MessageTypeDiscover))
		wire{tap}.send(t, s.message(t, dhcpv4.MessageTypeDiscover))
		tap.Close()
		if err := netns.Do(s.pod, func() error { _, err := net.InterfaceByName(s.attached.Tap); return err }); err != nil {
			t.Fatalf("the tap went with the guest: %v", err)
		}
	}
}
