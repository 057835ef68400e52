// SPDX-License-Identifier: Apache-2.0

// Package qmptest is a QMP server for tests: a QEMU that runs no guest. It keeps
// the run state, answers the commands that the agent uses, lets a test replace
// any answer, and records what was asked. It must never be linked into a binary.
package qmptest

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Call is one command that was received.
type Call struct {
	Name string
	Args json.RawMessage
}

// Error makes a handler refuse with this class and description.
type Error struct{ Class, Desc string }

func (e *Error) Error() string { return e.Class + ": " + e.Desc }

// ErrHang makes a handler not answer at all.
var ErrHang = errors.New("no answer")

// Handler answers a command. A nil result is sent as {}.
type Handler func(args json.RawMessage) (any, error)

// Server is a fake QEMU. One Server may be connected to several times, as a QEMU
// that outlives its agent.
type Server struct {
	// Greeting replaces the default greeting line when it is not empty.
	Greeting string

	mu       sync.Mutex
	handlers map[string]Handler
	calls    []Call
	conns    map[net.Conn]*sync.Mutex
	running  bool
	status   string
	chardevs []map[string]any
	quit     chan struct{}
	changed  chan struct{}
	lns      []net.Listener
}

// New is a QEMU whose guest runs.
func New() *Server {
	return &Server{
		handlers: map[string]Handler{},
		conns:    map[net.Conn]*sync.Mutex{},
		running:  true,
		status:   "running",
		quit:     make(chan struct{}),
		changed:  make(chan struct{}),
		chardevs: []map[string]any{{"label": "guest-agent", "filename": "unix", "frontend-open": false}},
	}
}

// DefaultGreeting is what a QEMU 11.1.3 says first.
const DefaultGreeting = `{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": "Debian"}, "capabilities": ["oob"]}}`

// Handle replaces the answer to a command.
func (s *Server) Handle(name string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[name] = h
}

// Listen serves a unix socket at path until Close. It takes one client at a
// time, as QEMU does.
func (s *Server) Listen(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s.ServeListener(ln)
	return nil
}

// ServeListener is Listen for a socket that listens already.
func (s *Server) ServeListener(ln net.Listener) {
	s.mu.Lock()
	s.lns = append(s.lns, ln)
	s.mu.Unlock()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.Serve(conn)
		}
	}()
}

// Pipe is the client's end of a connection to this server.
func (s *Server) Pipe() net.Conn {
	client, server := net.Pipe()
	go s.Serve(server)
	return client
}

// Serve talks to one client until either side ends it.
func (s *Server) Serve(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	select {
	case <-s.quit:
		s.mu.Unlock()
		return
	default:
	}
	w := &sync.Mutex{}
	s.conns[conn] = w
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.notify()
		s.mu.Unlock()
	}()

	greeting := s.Greeting
	if greeting == "" {
		greeting = DefaultGreeting
	}
	if s.send(conn, w, []byte(greeting)) != nil {
		return
	}
	scan := bufio.NewScanner(conn)
	for scan.Scan() {
		var req struct {
			Execute   string          `json:"execute"`
			Arguments json.RawMessage `json:"arguments"`
			ID        json.RawMessage `json:"id"`
		}
		if err := json.Unmarshal(scan.Bytes(), &req); err != nil {
			_ = s.sendValue(conn, w, map[string]any{"error": map[string]string{"class": "GenericError", "desc": "Invalid JSON syntax"}})
			continue
		}
		s.mu.Lock()
		s.calls = append(s.calls, Call{Name: req.Execute, Args: req.Arguments})
		h := s.handlers[req.Execute]
		s.notify()
		s.mu.Unlock()
		if h == nil {
			h = s.builtin(req.Execute)
		}
		result, err := h(req.Arguments)
		if errors.Is(err, ErrHang) {
			continue
		}
		answer := map[string]any{}
		if len(req.ID) > 0 {
			answer["id"] = req.ID
		}
		var refusal *Error
		switch {
		case errors.As(err, &refusal):
			answer["error"] = map[string]string{"class": refusal.Class, "desc": refusal.Desc}
		case err != nil:
			answer["error"] = map[string]string{"class": "GenericError", "desc": err.Error()}
		case result == nil:
			answer["return"] = struct{}{}
		default:
			answer["return"] = result
		}
		if s.sendValue(conn, w, answer) != nil {
			return
		}
		if req.Execute == "quit" && err == nil {
			s.Shutdown()
			return
		}
	}
}

func (s *Server) builtin(name string) Handler {
	return func(json.RawMessage) (any, error) {
		switch name {
		case "qmp_capabilities", "system_powerdown", "quit":
			return nil, nil
		case "system_reset":
			s.Emit("RESET", map[string]any{"guest": false, "reason": "host-qmp-system-reset"})
			return nil, nil
		case "query-status":
			s.mu.Lock()
			defer s.mu.Unlock()
			return map[string]any{"running": s.running, "status": s.status}, nil
		case "stop":
			if s.SetState(false, "paused") {
				s.Emit("STOP", nil)
			}
			return nil, nil
		case "cont":
			if s.SetState(true, "running") {
				s.Emit("RESUME", nil)
			}
			return nil, nil
		case "query-version":
			return map[string]any{"qemu": map[string]int{"major": 11, "minor": 1, "micro": 3}, "package": "Debian"}, nil
		case "query-kvm":
			return map[string]bool{"enabled": false, "present": true}, nil
		case "query-cpus-fast":
			return []map[string]any{{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]", "thread-id": 7}}, nil
		case "query-memory-size-summary":
			return map[string]uint64{"base-memory": 128 << 20}, nil
		case "query-chardev":
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.chardevs), nil
		}
		return nil, &Error{Class: "CommandNotFound", Desc: "The command " + name + " has not been found"}
	}
}

// SetState changes what query-status says and tells whether it was a change.
func (s *Server) SetState(running bool, status string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.running != running || s.status != status
	s.running, s.status = running, status
	s.notify()
	return changed
}

// SetGuestAgent opens or closes the guest's side of the guest agent's port and
// says so in an event. label is the character device, id the port.
func (s *Server) SetGuestAgent(label, id string, open bool) {
	s.mu.Lock()
	s.chardevs = []map[string]any{{"label": label, "filename": "unix", "frontend-open": open}}
	s.mu.Unlock()
	s.Emit("VSERPORT_CHANGE", map[string]any{"id": id, "open": open})
}

// Emit sends an event to every client.
func (s *Server) Emit(event string, data any) {
	now := time.Now()
	line := map[string]any{
		"event":     event,
		"timestamp": map[string]int64{"seconds": now.Unix(), "microseconds": int64(now.Nanosecond() / 1000)},
	}
	if data != nil {
		line["data"] = data
	}
	b, err := json.Marshal(line)
	if err != nil {
		panic(err) // a test's mistake
	}
	s.Raw(b)
}

// Raw sends a line to every client as it is.
func (s *Server) Raw(line []byte) {
	s.mu.Lock()
	conns := make(map[net.Conn]*sync.Mutex, len(s.conns))
	for c, w := range s.conns {
		conns[c] = w
	}
	s.mu.Unlock()
	for c, w := range conns {
		_ = s.send(c, w, line)
	}
}

// Drop ends all connections but keeps listening: the agent sees a lost monitor.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Shutdown is QEMU's end: connections and listeners are closed, and Exited fires.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quit:
		return
	default:
		close(s.quit)
	}
	for c := range s.conns {
		c.Close()
	}
	for _, ln := range s.lns {
		ln.Close()
	}
	s.notify()
}

// Close is Shutdown, for use with t.Cleanup.
func (s *Server) Close() { s.Shutdown() }

// Exited is closed when this QEMU has ended.
func (s *Server) Exited() <-chan struct{} { return s.quit }

// Calls are the commands received so far.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count says how often a command was received.
func (s *Server) Count(name string) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Name == name {
			n++
		}
	}
	return n
}

// Connected is the number of clients at the moment.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Changed is closed at the next command, state change or end of a connection.
// Get it before looking, so that nothing is missed.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) sendValue(conn net.Conn, w *sync.Mutex, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.send(conn, w, b)
}

func (s *Server) send(conn net.Conn, w *sync.Mutex, line []byte) error {
	w.Lock()
	defer w.Unlock()
	_, err := conn.Write(append(slices.Clone(line), '\r', '\n'))
	return err
}
