// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/skerry-dev/skerry/internal/netns"
)

const (
	// A guest may ask ten times a second and twenty times at once. Beyond that
	// the server does not even read: the kernel drops what its buffer cannot hold.
	requestsPerSecond = 10
	requestsAtOnce    = 20
	receiveBuffer     = 64 << 10 // bytes
)

// Serve answers the guest behind c.Interface, a tap in the network namespace ns,
// until ctx ends (then it returns nil) or the tap goes away (then it returns an
// error). It keeps the namespace open while it runs, not the file ns.
func Serve(ctx context.Context, ns *os.File, c Config) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	var (
		sock *os.File
		link *net.Interface
	)
	err := netns.Do(ns, func() (err error) {
		if link, err = net.InterfaceByName(c.Interface); err != nil {
			return fmt.Errorf("look for link %s: %w", c.Interface, err)
		}
		sock, err = listen(link)
		return err
	})
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	defer sock.Close()
	stop := context.AfterFunc(ctx, func() { _ = sock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	r, err := newResponder(c, link.HardwareAddr)
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	err = r.serve(ctx, sock)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dhcp on %s: %w", c.Interface, err)
}

// serve answers until the socket fails or the context ends; it always returns why.
func (r *responder) serve(ctx context.Context, sock *os.File) error {
	limit := rate.NewLimiter(requestsPerSecond, requestsAtOnce)
	buf := make([]byte, maxFrame)
	for {
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		n, err := sock.Read(buf)
		if err != nil {
			return err
		}
		answer := r.reply(buf[:n])
		if answer == nil {
			continue
		}
		// A tap that nobody has open, or a full queue, loses the answer; the
		// guest asks again.
		if _, err := sock.Write(answer); err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
}

// listen opens a packet socket that sees the DHCP requests that enter by link.
// It must see all protocols: the bridge takes the frames before a socket for one
// protocol would. The filter is there before the socket is bound.
func listen(link *net.Interface) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "packet:"+link.Name)
	if err := prepare(fd, link.Index); err != nil {
		f.Close()
		return nil, fmt.Errorf("packet socket on %s: %w", link.Name, err)
	}
	return f, nil
}

func prepare(fd, index int) error {
	filter, err := requestFilter()
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing packets: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	all := uint16(unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// requestFilter lets unfragmented IPv4 UDP packets to port 67 through.
func requestFilter() ([]unix.SockFilter, error) {
	const drop = 9
	raw, err := bpf.Assemble([]bpf.Instruction{
		0: bpf.LoadAbsolute{Off: 12, Size: 2},
		1: bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipFalse: drop - 2},
		2: bpf.LoadAbsolute{Off: etherHeader + 9, Size: 1},
		3: bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoUDP, SkipFalse: drop - 4},
		4: bpf.LoadAbsolute{Off: etherHeader + 6, Size: 2},
		5: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: drop - 6},
		6: bpf.LoadMemShift{Off: etherHeader},
		7: bpf.LoadIndirect{Off: etherHeader + 2, Size: 2},
		8: bpf.JumpIf{Cond: bpf.JumpEqual, Val: serverPort, SkipTrue: 1},

		drop: bpf.RetConstant{Val: 0},
		10:   bpf.RetConstant{Val: maxFrame},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	out := make([]unix.SockFilter, 0, len(raw))
	for _, i := range raw {
		out = append(out, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return out, nil
}
