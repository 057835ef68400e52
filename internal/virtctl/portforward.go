// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const (
	maxDatagram = 65507
	maxUDPPeers = 256
	// udpIdle ends the stream of a UDP client that has been silent.
	udpIdle = 2 * time.Minute
)

func (g *globals) portForward() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "port-forward TYPE/NAME[/NAMESPACE] [PROTOCOL/]LOCAL[:REMOTE]...",
		Short: "Forward local ports to a machine",
		Example: "  # http://127.0.0.1:8080 is port 80 of the guest\n  port-forward vm/myvm 8080:80\n\n" +
			"  # standard input and output are the connection, as ssh's ProxyCommand wants it\n  port-forward --stdio vm/myvm 22",
		Args: args(2, -1),
	}
	address := cmd.Flags().String("address", "127.0.0.1", "local address to listen on")
	stdio := cmd.Flags().Bool("stdio", false, "use standard input and output in place of a local port; one port only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTarget(args[0])
		if err != nil {
			return err
		}
		var forwards []forward
		for _, a := range args[1:] {
			f, err := parseForward(a)
			if err != nil {
				return err
			}
			forwards = append(forwards, f)
		}
		if *stdio && len(forwards) > 1 {
			return fmt.Errorf("--stdio takes one port, not %d", len(forwards))
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		if err := c.resolve(ctx, &t); err != nil {
			return err
		}
		p := &forwarder{conn: c, target: t, notice: cmd.ErrOrStderr()}
		if *stdio {
			return p.stdio(ctx, forwards[0], cmd.InOrStdin(), cmd.OutOrStdout())
		}
		return p.listen(ctx, *address, forwards, cmd.OutOrStdout())
	}
	return cmd
}

// forwarder makes connections to one machine.
type forwarder struct {
	conn   *conn
	target target

	mu     sync.Mutex
	notice io.Writer
}

func (p *forwarder) say(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.notice, format+"\n", a...)
}

func (p *forwarder) dial(ctx context.Context, f forward) (*stream, error) {
	s, err := p.conn.open(ctx, p.target.resource, p.target.name, "portforward/"+strconv.Itoa(f.remote)+"/"+f.protocol, nil)
	if err != nil {
		return nil, p.conn.explain(ctx, err, p.target.resource, p.target.name, "port-forward")
	}
	return s, nil
}

// stdio is one connection whose local end is in and out. The end of in is the
// end of the connection.
func (p *forwarder) stdio(ctx context.Context, f forward, in io.Reader, out io.Writer) error {
	s, err := p.dial(ctx, f)
	if err != nil {
		return err
	}
	defer s.Close()
	ends := make(chan error, 2)
	go func() {
		_, err := io.Copy(s, in)
		ends <- err
	}()
	go func() {
		_, err := io.Copy(out, s)
		ends <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-ends:
		return err
	}
}

// listen opens all local ports before it serves any of them.
func (p *forwarder) listen(ctx context.Context, address string, forwards []forward, out io.Writer) error {
	var serve []func() error
	var lc net.ListenConfig
	for _, f := range forwards {
		local := net.JoinHostPort(address, strconv.Itoa(f.local))
		var bound net.Addr
		if f.protocol == "udp" {
			pc, err := lc.ListenPacket(ctx, "udp", local)
			if err != nil {
				return fmt.Errorf("listen on %s: %w", local, err)
			}
			defer pc.Close()
			bound = pc.LocalAddr()
			serve = append(serve, func() error { return p.udp(ctx, pc, f) })
		} else {
			ln, err := lc.Listen(ctx, "tcp", local)
			if err != nil {
				return fmt.Errorf("listen on %s: %w", local, err)
			}
			defer ln.Close()
			bound = ln.Addr()
			serve = append(serve, func() error { return p.tcp(ctx, ln, f) })
		}
		fmt.Fprintf(out, "Forwarding from %s/%s to port %d of %s %s/%s\n", f.protocol, bound, f.remote, p.target.short(), p.target.namespace, p.target.name)
	}
	ends := make(chan error, len(serve))
	for _, s := range serve {
		go func() { ends <- s() }()
	}
	select {
	case <-ctx.Done():
		return nil // the usual way to end this: Ctrl-C
	case err := <-ends:
		return err
	}
}

func (p *forwarder) tcp(ctx context.Context, ln net.Listener, f forward) error {
	for {
		local, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		go func() {
			defer local.Close()
			s, err := p.dial(ctx, f)
			if err != nil {
				p.say("%s: %v", local.RemoteAddr(), err)
				return
			}
			if err := p.relay(ctx, local, s); err != nil && ctx.Err() == nil {
				p.say("%s: %v", local.RemoteAddr(), err)
			}
		}()
	}
}

// halfCloseLimit is how long the guest may be silent after the local side has
// sent its last byte: streams know no half-close, so nothing tells it.
const halfCloseLimit = 5 * time.Second

// relay copies both ways. After the local side's end it still waits for the
// answer.
func (p *forwarder) relay(ctx context.Context, local net.Conn, s *stream) error {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	defer s.Close()
	var mu sync.Mutex
	var silence *time.Timer
	go func() {
		if _, err := io.Copy(s, local); err != nil {
			s.Close()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		silence = time.AfterFunc(halfCloseLimit, func() { s.Close() })
	}()
	buf := make([]byte, streamBuffer)
	for {
		n, err := s.Read(buf)
		mu.Lock()
		waiting := silence != nil
		if waiting {
			silence.Reset(halfCloseLimit)
		}
		mu.Unlock()
		if n > 0 {
			if _, err := local.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			if waiting || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// udp gives each local sender a stream of its own.
func (p *forwarder) udp(ctx context.Context, pc net.PacketConn, f forward) error {
	var mu sync.Mutex
	peers := map[string]*udpPeer{}
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("read from %s: %w", pc.LocalAddr(), err)
		}
		key := from.String()
		mu.Lock()
		peer := peers[key]
		if peer == nil && len(peers) < maxUDPPeers {
			peer = &udpPeer{send: make(chan []byte, 64)}
			peers[key] = peer
			go func() {
				err := p.udpPeer(ctx, pc, from, peer, f)
				mu.Lock()
				delete(peers, key)
				mu.Unlock()
				if err != nil && ctx.Err() == nil {
					p.say("%s: %v", from, err)
				}
			}()
		}
		mu.Unlock()
		if peer == nil {
			continue // dropped, as datagrams may be
		}
		select {
		case peer.send <- append([]byte(nil), buf[:n]...):
		default: // dropped
		}
	}
}

type udpPeer struct{ send chan []byte }

func (p *forwarder) udpPeer(ctx context.Context, pc net.PacketConn, to net.Addr, peer *udpPeer, f forward) error {
	s, err := p.dial(ctx, f)
	if err != nil {
		return err
	}
	defer s.Close()
	ended := make(chan error, 1)
	heard := make(chan struct{}, 1)
	go func() {
		for {
			b, err := s.datagram()
			if err != nil {
				ended <- err
				return
			}
			if _, err := pc.WriteTo(b, to); err != nil {
				ended <- err
				return
			}
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	}()
	idle := time.NewTimer(udpIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-idle.C:
			return nil
		case err := <-ended:
			return err
		case <-heard:
		case b := <-peer.send:
			if _, err := s.Write(b); err != nil {
				return err
			}
		}
		idle.Reset(udpIdle)
	}
}
