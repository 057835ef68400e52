// SPDX-License-Identifier: Apache-2.0

package qmp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/qmp/qmptest"
)

func connect(t *testing.T, s *qmptest.Server, o qmp.Options) *qmp.Client {
	t.Helper()
	t.Cleanup(s.Close)
	c, err := qmp.New(t.Context(), s.Pipe(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	c := connect(t, s, qmp.Options{})
	ctx := t.Context()

	if got := c.Version().String(); got != "11.1.3" {
		t.Errorf("version = %s", got)
	}
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if e := <-c.Events(); e.Name != qmp.EventStop || e.Time.IsZero() {
		t.Errorf("event = %+v", e)
	}
	st, err := c.QueryStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(qmp.Status{Running: false, Status: "paused"}, st); diff != "" {
		t.Error(diff)
	}
	if err := c.Cont(ctx); err != nil {
		t.Fatal(err)
	}
	if e := <-c.Events(); e.Name != qmp.EventResume {
		t.Errorf("event = %+v", e)
	}
	cpus, err := c.QueryCPUsFast(ctx)
	if err != nil || len(cpus) != 1 || cpus[0].ThreadID != 7 {
		t.Errorf("cpus = %+v, %v", cpus, err)
	}
	mem, err := c.QueryMemorySize(ctx)
	if err != nil || mem.Base != 128<<20 {
		t.Errorf("memory = %+v, %v", mem, err)
	}
	if k, err := c.QueryKVM(ctx); err != nil || k.Enabled || !k.Present {
		t.Errorf("kvm = %+v, %v", k, err)
	}
	if v, err := c.QueryVersion(ctx); err != nil || v.QEMU.Major != 11 {
		t.Errorf("version = %+v, %v", v, err)
	}
	if l, err := c.QueryChardev(ctx); err != nil || len(l) != 1 || l[0].Label != "guest-agent" {
		t.Errorf("chardevs = %+v, %v", l, err)
	}
	if err := c.SystemPowerdown(ctx); err != nil {
		t.Error(err)
	}
	if err := c.SystemReset(ctx); err != nil {
		t.Error(err)
	}
	var args map[string]string
	s.Handle("screendump", func(a json.RawMessage) (any, error) { return nil, json.Unmarshal(a, &args) })
	if err := c.Screendump(ctx, "/run/skerry", "shot.png"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"filename": "/run/skerry/shot.png", "format": "png"}, args); diff != "" {
		t.Error(diff)
	}
	if err := c.Screendump(ctx, "/run/skerry", "../shot.png"); err == nil {
		t.Error("a path was taken as a file name")
	}
	if err := c.Quit(ctx); err != nil {
		t.Error(err)
	}
	<-c.Done()
	if err := c.Stop(ctx); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("after quit: %v", err)
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	s.Handle("cont", func(json.RawMessage) (any, error) {
		return nil, &qmptest.Error{Class: qmp.ClassGeneric, Desc: "Resetting the Virtual Machine is required"}
	})
	c := connect(t, s, qmp.Options{})
	err := c.Cont(t.Context())
	if !qmp.IsClass(err, qmp.ClassGeneric) || qmp.IsClass(err, qmp.ClassCommandNotFound) {
		t.Errorf("err = %v", err)
	}
	if want := "QMP cont: Resetting the Virtual Machine is required (GenericError)"; err.Error() != want {
		t.Errorf("text = %q, want %q", err, want)
	}
	if err := c.Execute(t.Context(), "no-such", nil, nil); !qmp.IsClass(err, qmp.ClassCommandNotFound) {
		t.Errorf("err = %v", err)
	}
	if c.Err() != nil {
		t.Errorf("a refusal ended the session: %v", c.Err())
	}
}

// Answers are matched by their ids, however many callers there are.
func TestConcurrentCallers(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	s.Handle("echo", func(a json.RawMessage) (any, error) { return a, nil })
	c := connect(t, s, qmp.Options{MaxRate: 1 << 20})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 50 {
				want := fmt.Sprintf("%d-%d", i, j)
				var got map[string]string
				if err := c.Execute(t.Context(), "echo", map[string]string{"v": want}, &got); err != nil {
					t.Error(err)
					return
				}
				if got["v"] != want {
					t.Errorf("got %q, want %q", got["v"], want)
				}
			}
		})
	}
	wg.Wait()
}

// A QEMU that does not answer costs its callers their deadlines, and no more
// than MaxInFlight commands.
func TestHangingMonitor(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	s.Handle("hang", func(json.RawMessage) (any, error) { return nil, qmptest.ErrHang })
	c := connect(t, s, qmp.Options{MaxInFlight: 2, CommandTimeout: 20 * time.Millisecond})
	for range 2 {
		if err := c.Execute(t.Context(), "hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, qmp.ErrBusy) {
			t.Errorf("err = %v", err)
		}
	}
	if err := c.Execute(t.Context(), "query-status", nil, nil); !errors.Is(err, qmp.ErrBusy) {
		t.Errorf("third command: %v", err)
	}
	if s.Count("query-status") != 0 {
		t.Error("the third command was sent")
	}
}

// A late answer to an abandoned command frees its place and reaches nobody.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	release := make(chan struct{})
	s.Handle("slow", func(json.RawMessage) (any, error) { <-release; return "late", nil })
	c := connect(t, s, qmp.Options{MaxInFlight: 1})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { errs <- c.Execute(ctx, "slow", nil, nil) }()
	for s.Count("slow") == 0 {
		changed := s.Changed()
		if s.Count("slow") == 0 {
			<-changed
		}
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(release)
	st, err := c.QueryStatus(t.Context())
	if err != nil || !st.Running {
		t.Errorf("status = %+v, %v", st, err)
	}
}

func TestNobodyTakesEvents(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	c := connect(t, s, qmp.Options{MaxEvents: 4, MaxRate: 1 << 20})
	for i := range 100 {
		s.Emit("DEVICE_DELETED", map[string]int{"n": i})
	}
	for i := range 50 {
		s.Emit("VSERPORT_CHANGE", map[string]any{"id": "ga", "open": i%2 == 1})
	}
	// Commands go on, and their answers come after the events in the stream.
	if _, err := c.QueryStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Dropped() < 90 {
		t.Errorf("dropped = %d", c.Dropped())
	}
	var last qmp.Event
	for last.Name != "VSERPORT_CHANGE" || last.Coalesced < 48 {
		last = <-c.Events()
	}
	if !strings.Contains(string(last.Data), "true") {
		t.Errorf("the last state was lost: %+v", last)
	}
}

func TestPeerEnds(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	started := make(chan struct{})
	s.Handle("hang", func(json.RawMessage) (any, error) { close(started); return nil, qmptest.ErrHang })
	c := connect(t, s, qmp.Options{})
	go func() { <-started; s.Drop() }()
	err := c.Execute(t.Context(), "hang", nil, nil)
	if !errors.Is(err, qmp.ErrClosed) || !strings.Contains(err.Error(), "hang") {
		t.Errorf("err = %v", err)
	}
	if _, open := <-c.Events(); open {
		t.Error("the events did not end")
	}
}

// The reason of the end is QEMU's last word: it must not be lost in the end.
func TestLastEventsAreDelivered(t *testing.T) {
	t.Parallel()
	for range 50 {
		s := qmptest.New()
		c := connect(t, s, qmp.Options{})
		s.Emit("POWERDOWN", nil)
		s.Emit("SHUTDOWN", map[string]any{"guest": true, "reason": "guest-shutdown"})
		s.Shutdown()
		<-c.Done()
		var names []string
		for e := range c.Events() {
			names = append(names, e.Name)
		}
		if diff := cmp.Diff([]string{"POWERDOWN", "SHUTDOWN"}, names); diff != "" {
			t.Fatal(diff)
		}
		c.Close()
	}
}

func TestCloseEndsCallers(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	s.Handle("hang", func(json.RawMessage) (any, error) { return nil, qmptest.ErrHang })
	c := connect(t, s, qmp.Options{})
	errs := make(chan error)
	go func() { errs <- c.Execute(context.Background(), "hang", nil, nil) }()
	for s.Count("hang") == 0 {
		changed := s.Changed()
		if s.Count("hang") == 0 {
			<-changed
		}
	}
	c.Close()
	c.Close()
	if err := <-errs; !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("err = %v", err)
	}
}

func TestHandshakeFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		send string // what the server says and then keeps silent
		want string
	}{
		"silent":           {"", "takes one client at a time"},
		"no greeting":      {`{"event": "STOP"}` + "\n", "first line is not a greeting"},
		"not JSON":         {"HTTP/1.1 400 Bad Request\r\n", "is no QMP message"},
		"refuses":          {qmptest.DefaultGreeting + "\n" + `{"error": {"class": "CommandNotFound", "desc": "no"}}` + "\n", "qmp_capabilities: no"},
		"chatters":         {qmptest.DefaultGreeting + "\n" + strings.Repeat(`{"event": "X"}`+"\n", 20), "no answer to qmp_capabilities"},
		"endless line":     {strings.Repeat("x", 4096), "longer than 1024 bytes"},
		"null":             {"null\n", "neither a greeting"},
		"array":            {"[]\n", "is no QMP message"},
		"greeting is null": {`{"QMP": null}` + "\n", "neither a greeting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			defer server.Close()
			go func() {
				go func() {
					r := bufio.NewReader(server)
					for {
						if _, err := r.ReadByte(); err != nil {
							return
						}
					}
				}()
				_, _ = server.Write([]byte(tc.send))
			}()
			opts := qmp.Options{MaxLine: 1024}
			if name == "silent" {
				opts.HandshakeTimeout = 20 * time.Millisecond
			}
			_, err := qmp.New(t.Context(), client, opts)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestProtocolViolationsEndTheSession(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ line, want string }{
		"garbage":         {"\x00\xff\x01", "is no QMP message"},
		"second greeting": {qmptest.DefaultGreeting, "second greeting"},
		"long line":       {`{"event": "` + strings.Repeat("A", 70000) + `"}`, "longer than"},
		"long event name": {`{"event": "` + strings.Repeat("A", 100) + `"}`, "event name"},
		"two in one":      {`{"event": "STOP", "return": {}}`, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := qmptest.New()
			c := connect(t, s, qmp.Options{MaxLine: 65536})
			go s.Raw([]byte(tc.line))
			<-c.Done()
			var pe *qmp.ProtocolError
			if err := c.Err(); !errors.As(err, &pe) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want %q in it", err, tc.want)
			}
		})
	}
}

// Answers that nobody asked for change nothing.
func TestStrayAnswers(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	c := connect(t, s, qmp.Options{})
	for _, l := range []string{
		`{"return": {}, "id": 99}`, `{"return": {}}`, `{"return": null, "id": "x"}`,
		`{"error": {"class": "GenericError", "desc": "JSON parse error"}}`, `{"return": {}, "id": -1}`, `{"return": {}, "id": 1e400}`,
	} {
		s.Raw([]byte(l))
	}
	if st, err := c.QueryStatus(t.Context()); err != nil || !st.Running {
		t.Errorf("status = %+v, %v", st, err)
	}
}

func TestUnexpectedResult(t *testing.T) {
	t.Parallel()
	s := qmptest.New()
	s.Handle("query-status", func(json.RawMessage) (any, error) { return []int{1}, nil })
	c := connect(t, s, qmp.Options{})
	var pe *qmp.ProtocolError
	if _, err := c.QueryStatus(t.Context()); !errors.As(err, &pe) {
		t.Errorf("err = %v", err)
	}
}
