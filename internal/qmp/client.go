// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Client is one session with a monitor. Its methods may be called from several
// goroutines at once.
type Client struct {
	conn    net.Conn
	opts    Options
	version Version
	slots   chan struct{} // one per command in flight
	queue   *eventQueue
	events  chan Event
	done    chan struct{} // the connection has ended
	readEnd chan struct{} // the reader has ended
	unread  chan struct{} // nobody will read events any more

	writeMu sync.Mutex
	closing sync.Once

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]*call
	closed  bool
	reason  error
	strays  uint64
}

type call struct {
	reply chan reply // capacity 1, so that the reader never waits
}

type reply struct {
	value json.RawMessage
	err   *CommandError
}

// New reads the greeting from conn, agrees on capabilities and starts reading.
// The client owns conn from then on, and closes it also when New fails.
func New(ctx context.Context, conn net.Conn, opts Options) (*Client, error) {
	opts = opts.withDefaults()
	c := &Client{
		conn:    conn,
		opts:    opts,
		slots:   make(chan struct{}, opts.MaxInFlight),
		queue:   newEventQueue(opts.MaxEvents),
		events:  make(chan Event),
		done:    make(chan struct{}),
		readEnd: make(chan struct{}),
		unread:  make(chan struct{}),
		pending: map[uint64]*call{},
	}
	lines := newLineReader(conn, opts.MaxLine)
	if err := c.handshake(ctx, lines); err != nil {
		conn.Close()
		return nil, fmt.Errorf("QMP handshake: %w", err)
	}
	go c.read(lines)
	go c.deliver()
	return c, nil
}

func (c *Client) handshake(ctx context.Context, lines *lineReader) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	err := c.greet(lines)
	if !stop() {
		// The connection's deadlines are in the past now: it is of no use.
		return fmt.Errorf("the monitor did not answer (it takes one client at a time): %w", context.Cause(ctx))
	}
	return err
}

// maxEarlyLines is how many other lines may come before the expected one.
const maxEarlyLines = 16

func (c *Client) greet(lines *lineReader) error {
	m, err := nextMessage(lines)
	if err != nil {
		return err
	}
	if m.Greeting == nil {
		return &ProtocolError{What: "the first line is not a greeting"}
	}
	c.version = m.Greeting.Version
	if _, err := c.conn.Write([]byte(`{"execute":"qmp_capabilities"}` + "\n")); err != nil {
		return err
	}
	for range maxEarlyLines {
		m, err := nextMessage(lines)
		switch {
		case err != nil:
			return err
		case m.Error != nil:
			return &CommandError{Command: "qmp_capabilities", Class: m.Error.Class, Desc: m.Error.Desc}
		case m.Return != nil:
			return nil
		case m.Event != "":
			c.queue.push(m.event())
		}
	}
	return &ProtocolError{What: "no answer to qmp_capabilities"}
}

func nextMessage(lines *lineReader) (*message, error) {
	line, err := lines.next()
	if err != nil {
		return nil, err
	}
	return parse(line)
}

// Version is QEMU's version from the greeting. The other side may lie.
func (c *Client) Version() Version { return c.version }

// Events delivers QEMU's events in order. When the other side ends the connection
// the channel is closed after the last of them; QEMU says last why it ends. The
// channel must be drained by one consumer; when that is slow, events are merged
// and then dropped (see Dropped), and commands go on.
func (c *Client) Events() <-chan Event { return c.events }

// Dropped is the number of events lost because nobody took them in time.
func (c *Client) Dropped() uint64 { return c.queue.drops() }

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, and matches ErrClosed afterwards.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		return nil
	}
	return &closedError{reason: c.reason}
}

// Close ends the connection, also one that has ended already: events that were
// not taken are lost then. Commands in flight return ErrClosed.
func (c *Client) Close() error {
	c.shut(nil)
	c.closing.Do(func() { close(c.unread) })
	return nil
}

func (c *Client) shut(reason error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.reason = reason
	c.mu.Unlock()
	c.conn.Close()
	close(c.done)
}

// read is the only reader of the connection. It never waits for a consumer.
func (c *Client) read(lines *lineReader) {
	defer close(c.readEnd)
	limit := newLimiter(c.opts.MaxRate)
	for {
		line, err := lines.next()
		if err != nil {
			c.shut(readReason(err))
			return
		}
		if wait := limit.take(time.Now(), len(line)); wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-c.done:
				t.Stop()
				return
			}
		}
		m, err := parse(line)
		if err != nil {
			c.shut(err)
			return
		}
		switch {
		case m.Event != "":
			c.queue.push(m.event())
		case m.Greeting != nil:
			c.shut(&ProtocolError{What: "a second greeting"})
			return
		default:
			c.answer(m)
		}
	}
}

func readReason(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the other side ended it")
	}
	return err
}

func (c *Client) answer(m *message) {
	id, err := strconv.ParseUint(string(m.ID), 10, 64)
	c.mu.Lock()
	waiting := c.pending[id]
	if err != nil || waiting == nil {
		// QEMU answers without an id when it could not read a command; a hostile
		// peer answers what was not asked. Neither may end the session.
		c.strays++
		c.mu.Unlock()
		return
	}
	delete(c.pending, id)
	c.mu.Unlock()
	<-c.slots
	r := reply{value: m.Return}
	if m.Error != nil {
		r.err = &CommandError{Class: m.Error.Class, Desc: m.Error.Desc}
	}
	waiting.reply <- r
}

// deliver moves events from the queue to the consumer.
func (c *Client) deliver() {
	defer close(c.events)
	for {
		// Nothing is added to the queue once this is closed: the reader is done.
		ended := false
		select {
		case <-c.readEnd:
			ended = true
		default:
		}
		for {
			e, ok := c.queue.pop()
			if !ok {
				break
			}
			select {
			case c.events <- e:
			case <-c.unread:
				return
			}
		}
		if ended {
			return
		}
		select {
		case <-c.queue.wake:
		case <-c.readEnd:
		case <-c.unread:
			return
		}
	}
}

type command struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        uint64 `json:"id"`
}

// Execute runs a command and decodes its result into out, which may be nil.
// args is nil or encodes to a JSON object.
//
// A refusal is a *CommandError. When ctx ends first, the command stays with
// QEMU and may still be carried out; its reply is thrown away, but it keeps
// counting as in flight until it comes.
func (c *Client) Execute(ctx context.Context, cmd string, args, out any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.CommandTimeout)
		defer cancel()
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.done:
		return fmt.Errorf("QMP %s: %w", cmd, c.Err())
	case <-ctx.Done():
		return fmt.Errorf("QMP %s: %w: %w", cmd, ErrBusy, ctx.Err())
	}
	waiting, err := c.send(cmd, args)
	if err != nil {
		return fmt.Errorf("QMP %s: %w", cmd, err)
	}
	select {
	case r := <-waiting.reply:
		return decode(cmd, r, out)
	case <-ctx.Done():
		return fmt.Errorf("QMP %s: no answer: %w", cmd, ctx.Err())
	case <-c.done:
		// The reply may have come just before the end.
		select {
		case r := <-waiting.reply:
			return decode(cmd, r, out)
		default:
		}
		return fmt.Errorf("QMP %s: %w", cmd, c.Err())
	}
}

// send owns a slot, which it gives back when nothing was sent.
func (c *Client) send(cmd string, args any) (*call, error) {
	waiting := &call{reply: make(chan reply, 1)}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.slots
		return nil, c.Err()
	}
	c.nextID++
	id := c.nextID
	c.mu.Unlock()

	line, err := json.Marshal(command{Execute: cmd, Arguments: args, ID: id})
	if err != nil {
		<-c.slots
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	c.mu.Lock()
	c.pending[id] = waiting
	c.mu.Unlock()

	c.writeMu.Lock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.opts.WriteTimeout))
	_, err = c.conn.Write(append(line, '\n'))
	c.writeMu.Unlock()
	if err != nil {
		// Part of the line may be gone: nothing sensible can follow it.
		c.shut(fmt.Errorf("write: %w", err))
		return nil, c.Err()
	}
	return waiting, nil
}

func decode(cmd string, r reply, out any) error {
	if r.err != nil {
		r.err.Command = cmd
		return r.err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.value, out); err != nil {
		return fmt.Errorf("QMP %s: %w", cmd, &ProtocolError{What: "unexpected result", Err: err})
	}
	return nil
}
