// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
)

const (
	streamProtocol  = "plain.kubevirt.io"
	streamBuffer    = 10240
	handshakeLimit  = 45 * time.Second
	controlLimit    = 5 * time.Second
	serverSilence   = time.Minute // allowed to a server that has pinged before
	maxErrorMessage = 64 << 10
)

// stream is an open websocket as a stream of bytes: each Write is a message,
// Read does not keep messages apart.
type stream struct {
	ws   *websocket.Conn
	rest io.Reader // of the message being read
}

// open connects to a stream of a machine. Its errors are as of conn.do.
func (c *conn) open(ctx context.Context, resource, name, sub string, query url.Values) (*stream, error) {
	tlsConfig, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return nil, err
	}
	u := *c.base.JoinPath(c.path(resource, name, sub))
	u.RawQuery = query.Encode()
	plain := u
	u.Scheme = map[string]string{"https": "wss", "http": "ws"}[u.Scheme]

	dialer := websocket.Dialer{
		Proxy:            http.ProxyFromEnvironment,
		TLSClientConfig:  tlsConfig,
		NetDialContext:   c.config.Dial,
		HandshakeTimeout: handshakeLimit,
		ReadBufferSize:   streamBuffer,
		WriteBufferSize:  streamBuffer,
		Subprotocols:     []string{streamProtocol},
	}
	if c.config.Proxy != nil {
		dialer.Proxy = c.config.Proxy
	}
	// The credentials of the kubeconfig are added by wrapped round trippers, so
	// the dial is put where a request would be.
	var ws *websocket.Conn
	var refused *http.Response
	dial := roundTripper(func(r *http.Request) (*http.Response, error) {
		var resp *http.Response
		var err error
		ws, resp, err = dialer.DialContext(ctx, u.String(), r.Header)
		if errors.Is(err, websocket.ErrBadHandshake) {
			refused = resp // its body is in memory
		}
		return resp, err
	})
	wrapped, err := rest.HTTPWrappersForConfig(c.config, dial)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.String(), nil)
	if err != nil {
		return nil, err
	}
	if _, err = wrapped.RoundTrip(req); err != nil {
		if refused != nil {
			body, _ := io.ReadAll(io.LimitReader(refused.Body, maxErrorMessage)) // what there is of it
			return nil, newAPIError(refused.StatusCode, body)
		}
		return nil, c.unreachable(err)
	}
	s := &stream{ws: ws}
	ws.SetPingHandler(func(data string) error {
		// Only a server that pings can be missed.
		_ = ws.SetReadDeadline(time.Now().Add(serverSilence))
		err := ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(controlLimit))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	return s, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Read returns io.EOF when the server has closed in an orderly way.
func (s *stream) Read(b []byte) (int, error) {
	for {
		if s.rest == nil {
			kind, r, err := s.ws.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				continue
			}
			s.rest = r
		}
		n, err := s.rest.Read(b)
		if errors.Is(err, io.EOF) {
			s.rest, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

func (s *stream) Write(b []byte) (int, error) {
	if err := s.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// datagram returns the next message whole.
func (s *stream) datagram() ([]byte, error) {
	for {
		kind, b, err := s.ws.ReadMessage()
		if err != nil || kind == websocket.BinaryMessage {
			return b, err
		}
	}
}

// Close says goodbye and closes.
func (s *stream) Close() error {
	_ = s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(controlLimit))
	return s.ws.Close()
}
