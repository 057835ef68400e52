// SPDX-License-Identifier: Apache-2.0

package nodeapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	dialLimit = 10 * time.Second
	// openLimit and answerLimit leave the agent time to give its own reason first.
	openLimit   = connectLimit + handoverLimit + 5*time.Second
	answerLimit = callLimit + 5*time.Second
)

// ClientConfig is what a [Client] needs. All fields but Port and Log are required.
type ClientConfig struct {
	// TLS are the controller's client certificate and the CA of the agents.
	TLS TLSFiles
	// Address finds a node's address, without port.
	Address func(ctx context.Context, node string) (string, error)
	Port    int          // 0: DefaultPort
	Log     *slog.Logger // nil: slog.Default()
}

// Client is the controller's end. It keeps no connections.
type Client struct {
	cfg ClientConfig
	tls *reloader
}

// Stream is an open channel of a machine. CloseWrite ends what is sent; the
// machine may still have something to say.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// NewClient reads the TLS files once, so that a mistake in them shows at start.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Address == nil {
		return nil, errors.New("node API client: no way to find addresses")
	}
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r, err := newReloader(cfg.TLS, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("node API client: %w", err)
	}
	return &Client{cfg: cfg, tls: r}, nil
}

// InternalIP finds a node's address in its Node object: the first InternalIP.
func InternalIP(r client.Reader) func(ctx context.Context, node string) (string, error) {
	return func(ctx context.Context, node string) (string, error) {
		var n corev1.Node
		if err := r.Get(ctx, types.NamespacedName{Name: node}, &n); err != nil {
			return "", fmt.Errorf("node %s: %w", node, err)
		}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				return a.Address, nil
			}
		}
		return "", fmt.Errorf("node %s has no address of type InternalIP in status.addresses", node)
	}
}

// Call carries out verb. An error that the agent answered is an APIStatus; any
// other means that the agent could not be reached or did not answer.
func (c *Client) Call(ctx context.Context, node string, vmi VMIRef, verb Verb) error {
	_, err := c.roundTrip(ctx, node, vmi, http.MethodPut, string(verb), maxStatus)
	return err
}

// Screenshot returns the machine's screen as PNG. For errors see Call.
func (c *Client) Screenshot(ctx context.Context, node string, vmi VMIRef, moveCursor bool) ([]byte, error) {
	return c.roundTrip(ctx, node, vmi, http.MethodGet, "vnc/screenshot?moveCursor="+strconv.FormatBool(moveCursor), maxScreenshot)
}

func (c *Client) roundTrip(ctx context.Context, node string, vmi VMIRef, method, sub string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	conn, _, resp, err := c.request(ctx, node, vmi, method, sub, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("answer of the node agent on %s: %w", node, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("answer of the node agent on %s has more than %d bytes", node, limit)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fromResponse(resp.StatusCode, body)
	}
	return body, nil
}

// Stream opens a channel. ctx bounds the opening alone. For errors see Call.
func (c *Client) Stream(ctx context.Context, node string, vmi VMIRef, ch Channel, opts StreamOptions) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	sub := string(ch)
	if opts.PreserveSession {
		sub += "?preserveSession=true"
	}
	conn, r, resp, err := c.request(ctx, node, vmi, http.MethodGet, sub, StreamProtocol)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer stop()
		defer conn.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
		if err != nil {
			return nil, fmt.Errorf("answer of the node agent on %s: %w", node, err)
		}
		return nil, fromResponse(resp.StatusCode, body)
	}
	s, err := newStream(conn, r)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("stream from the node agent on %s: %w", node, err)
	}
	return s, nil
}

// request sends one request on a connection of its own and reads the answer's
// header. The caller closes the connection.
func (c *Client) request(ctx context.Context, node string, vmi VMIRef, method, sub, upgrade string) (*tls.Conn, *bufio.Reader, *http.Response, error) {
	if err := vmi.Validate(); err != nil {
		return nil, nil, nil, err
	}
	conn, address, err := c.dial(ctx, node)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("node agent on %s: %w", node, err)
	}
	fail := func(err error) (*tls.Conn, *bufio.Reader, *http.Response, error) {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, nil, fmt.Errorf("node agent on %s (%s): %w", node, address, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	req, err := http.NewRequest(method, "https://"+ServerName(node)+vmi.path(sub), nil)
	if err != nil {
		return fail(err)
	}
	req.Close = upgrade == ""
	if upgrade != "" {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgrade)
	}
	var head bytes.Buffer
	if err := req.Write(&head); err != nil {
		return fail(err)
	}
	if _, err := conn.Write(head.Bytes()); err != nil {
		return fail(err)
	}
	// The header must come within the limit; a body is bounded by its reader.
	limited := &io.LimitedReader{R: conn, N: maxHeader}
	r := bufio.NewReader(limited)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return fail(err)
	}
	limited.N = 1 << 62
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return conn, r, resp, nil
}

func (c *Client) dial(ctx context.Context, node string) (*tls.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	host, err := c.cfg.Address(ctx, node)
	if err != nil {
		return nil, "", err
	}
	address := net.JoinHostPort(host, strconv.Itoa(c.cfg.Port))
	config, err := c.tls.clientConfig(node)
	if err != nil {
		return nil, address, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{KeepAliveConfig: keepAlive}, Config: config}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, address, err
	}
	return conn.(*tls.Conn), address, nil
}
