// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// StreamProtocol is the websocket subprotocol of KubeVirt's streams: raw bytes
// in binary messages whose boundaries mean nothing.
const StreamProtocol = "plain.kubevirt.io"

const (
	streamBuffer = 10240
	pingEvery    = 10 * time.Second
	// clientLimit is how long a client may be silent: it must answer pings.
	clientLimit = time.Minute
	// stallLimit is how long either side may take none of the bytes sent to it.
	stallLimit = time.Minute
	closeLimit = 5 * time.Second

	maxStreams       = 1024
	maxStreamsOfOne  = 128
	maxDatagram      = 65507 // bytes of UDP's payload
	maxCloseReason   = 120   // bytes; a control frame has 125
	upgradeHandshake = 10 * time.Second
)

// onward is the connection to the machine.
type onward interface{ net.Conn }

var upgrader = websocket.Upgrader{
	HandshakeTimeout: upgradeHandshake,
	ReadBufferSize:   streamBuffer,
	WriteBufferSize:  streamBuffer,
	Subprotocols:     []string{StreamProtocol},
	// Authorisation is by headers that a foreign page cannot send.
	CheckOrigin: func(*http.Request) bool { return true },
	Error: func(w http.ResponseWriter, _ *http.Request, code int, reason error) {
		writeError(w, newStatus(int32(code), "", "websocket handshake: "+reason.Error()))
	},
}

// stream opens the way to the machine and only then upgrades the client's
// connection, so that a failure still has a status.
func (s *Server) stream(a authorized, vmi *kubevirtv1.VirtualMachineInstance, open func(context.Context) (onward, error)) error {
	if !websocket.IsWebSocketUpgrade(a.r) {
		return apierrors.NewBadRequest(fmt.Sprintf("%s is a stream: connect by websocket with subprotocol %s, or use virtctl", a.target.rbacName(), StreamProtocol))
	}
	release, err := s.streams.acquire(vmi.UID)
	if err != nil {
		return err
	}
	defer release()
	up, err := open(a.r.Context())
	if err != nil {
		return err
	}
	defer up.Close()
	ws, err := upgrader.Upgrade(a.w, a.r, nil)
	if err != nil { // the upgrader has answered
		return nil
	}
	defer ws.Close()
	s.record(a)
	err = relay(s.stopping, ws, up, a.target.protocol == "udp")
	s.log.Debug("stream ended", "namespace", vmi.Namespace, "vm", vmi.Name, "subresource", a.target.sub, "reason", err)
	return nil
}

// relay copies between the client and the machine until one of them ends or ctx
// is done. Of datagrams, each is one message. It returns why it ended, nil when
// a side closed in an orderly way.
func relay(ctx context.Context, ws *websocket.Conn, up net.Conn, datagrams bool) error {
	read := fromClient
	if datagrams {
		read = datagramsFromClient
	}
	var (
		first sync.Once
		why   error
	)
	done := make(chan struct{})
	end := func(code int, err error) {
		first.Do(func() {
			why = err
			reason := ""
			if err != nil {
				reason = truncate(err.Error(), maxCloseReason)
			}
			// The client's answer, or the limit, ends the reader below.
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(closeLimit))
			_ = ws.SetReadDeadline(time.Now().Add(closeLimit))
			up.Close()
			close(done)
		})
	}
	stop := context.AfterFunc(ctx, func() { end(websocket.CloseGoingAway, errors.New("the server is stopping")) })
	defer stop()

	alive := func() {
		select {
		case <-done: // the limit for the client's last word stays
		default:
			_ = ws.SetReadDeadline(time.Now().Add(clientLimit))
		}
	}
	ws.SetPongHandler(func(string) error { alive(); return nil })

	var wg sync.WaitGroup
	wg.Go(func() { // to the machine
		err := read(up, ws, alive)
		var closed *websocket.CloseError
		if errors.As(err, &closed) && (closed.Code == websocket.CloseNormalClosure || closed.Code == websocket.CloseGoingAway || closed.Code == websocket.CloseNoStatusReceived) {
			err = nil
		}
		end(websocket.CloseNormalClosure, err)
		ws.Close()
	})
	wg.Go(func() { // to the client
		err := toClient(ws, up, datagrams)
		if err != nil {
			end(websocket.CloseInternalServerErr, err)
			return
		}
		end(websocket.CloseNormalClosure, nil)
	})
	wg.Go(func() {
		tick := time.NewTicker(pingEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(closeLimit)); err != nil {
					end(websocket.CloseAbnormalClosure, err)
					return
				}
			}
		}
	})
	wg.Wait()
	return why
}

// fromClient copies the payload of binary messages; others are skipped.
func fromClient(up net.Conn, ws *websocket.Conn, alive func()) error {
	buf := make([]byte, streamBuffer)
	for {
		alive()
		kind, r, err := ws.NextReader()
		if err != nil {
			return err
		}
		if kind != websocket.BinaryMessage {
			continue
		}
		for {
			n, err := r.Read(buf)
			if n > 0 {
				alive()
				if err := up.SetWriteDeadline(time.Now().Add(stallLimit)); err != nil {
					return err
				}
				if _, err := up.Write(buf[:n]); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
}

// datagramsFromClient sends each binary message as one datagram.
func datagramsFromClient(up net.Conn, ws *websocket.Conn, alive func()) error {
	ws.SetReadLimit(maxDatagram)
	for {
		alive()
		kind, message, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		if kind != websocket.BinaryMessage || len(message) == 0 {
			continue
		}
		if _, err := up.Write(message); err != nil && !errors.Is(err, errRefused) {
			return err
		}
	}
}

// toClient copies what the machine sends. Its end of file is no error.
func toClient(ws *websocket.Conn, up net.Conn, datagrams bool) error {
	size := streamBuffer
	if datagrams {
		size = maxDatagram
	}
	buf := make([]byte, size)
	for {
		n, err := up.Read(buf)
		if n > 0 {
			if err := ws.SetWriteDeadline(time.Now().Add(stallLimit)); err != nil {
				return err
			}
			if err := ws.WriteMessage(websocket.BinaryMessage, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case datagrams && errors.Is(err, errRefused): // an ICMP answer to one datagram
		default:
			return err
		}
	}
}

func truncate(s string, max int) string {
	if len(s) <= max {
		return s
	}
	cut := max
	for cut > 0 && s[cut]&0xc0 == 0x80 { // not within a character
		cut--
	}
	return s[:cut]
}

// streamLimits counts open streams.
type streamLimits struct {
	mu    sync.Mutex
	total int
	of    map[types.UID]int
}

// acquire counts one more stream of a machine, unless there are too many.
func (l *streamLimits) acquire(uid types.UID) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxStreams || l.of[uid] >= maxStreamsOfOne {
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("too many open streams: %d of this machine (limit %d), %d in all (limit %d)", l.of[uid], maxStreamsOfOne, l.total, maxStreams), 0)
	}
	l.total++
	l.of[uid]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total--
		if l.of[uid]--; l.of[uid] == 0 {
			delete(l.of, uid)
		}
	}, nil
}
