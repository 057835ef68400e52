// SPDX-License-Identifier: Apache-2.0

package guestagent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// maxLine bounds one answer, in bytes.
	maxLine = 256 << 10
	// maxJunk bounds what is thrown away while the answer to sync is looked for:
	// answers to questions of an earlier client.
	maxJunk = 1 << 20
	// delimiter precedes the answer to guest-sync-delimited; it can't occur in UTF-8.
	delimiter = 0xff
)

// ErrTooLarge means that the guest's answer is over the limit.
var ErrTooLarge = errors.New("the guest agent's answer is too large")

// Error is the guest agent's refusal.
type Error struct{ Command, Class, Desc string }

func (e *Error) Error() string {
	return fmt.Sprintf("guest agent: %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// Client talks to one guest agent. It must not be used concurrently.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
}

// New synchronises with the agent behind conn. The client owns conn from then
// on; New closes it when it fails. Without an agent it fails at ctx's deadline.
func New(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, r: bufio.NewReader(conn)}
	err := c.within(ctx, c.sync)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("guest agent: synchronise: %w", err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// within runs f and makes it fail when ctx ends.
func (c *Client) within(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) sync() error {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return err
	}
	id := int64(binary.NativeEndian.Uint64(b[:]) >> 2)
	// The first byte makes the agent drop a half-read question of an earlier client.
	req := fmt.Appendf([]byte{delimiter}, `{"execute":"guest-sync-delimited","arguments":{"id":%d}}`+"\n", id)
	if _, err := c.conn.Write(req); err != nil {
		return err
	}
	for junk := 0; junk < maxJunk; {
		b, err := c.r.ReadByte()
		if err != nil {
			return err
		}
		junk++
		if b != delimiter {
			continue
		}
		line, err := c.line()
		if err != nil {
			return err
		}
		junk += len(line)
		var ans struct {
			Return *int64 `json:"return"`
		}
		if json.Unmarshal(line, &ans) == nil && ans.Return != nil && *ans.Return == id {
			return nil
		}
	}
	return fmt.Errorf("%w: no answer to guest-sync-delimited in %d bytes", ErrTooLarge, maxJunk)
}

// line reads one line without its end.
func (c *Client) line() ([]byte, error) {
	var line []byte
	for {
		part, err := c.r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxLine)
		}
		line = append(line, part...)
		if err == nil {
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// call asks one question. After an error that is not an *Error the client is of
// no more use: the answer may come later.
func (c *Client) call(ctx context.Context, command string, args, out any) error {
	err := c.within(ctx, func() error {
		req, err := json.Marshal(struct {
			Execute   string `json:"execute"`
			Arguments any    `json:"arguments,omitempty"`
		}{command, args})
		if err != nil {
			return err
		}
		if _, err := c.conn.Write(append(req, '\n')); err != nil {
			return err
		}
		return c.answer(command, out)
	})
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		c.conn.Close()
		return fmt.Errorf("guest agent: %s: %w", command, err)
	}
	return err
}

func (c *Client) answer(command string, out any) error {
	for range 16 {
		line, err := c.line()
		if err != nil {
			return err
		}
		line = bytes.TrimLeft(line, "\xff\r\n ")
		if len(line) == 0 {
			continue
		}
		var ans struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Class string `json:"class"`
				Desc  string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(line, &ans); err != nil {
			return fmt.Errorf("not a JSON object: %w", err)
		}
		switch {
		case ans.Error != nil:
			return &Error{command, text(ans.Error.Class), text(ans.Error.Desc)}
		case ans.Return == nil:
			return errors.New("neither a result nor an error")
		case out == nil:
			return nil
		}
		return json.Unmarshal(ans.Return, out)
	}
	return errors.New("no answer, only empty lines")
}
