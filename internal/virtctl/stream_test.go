// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestConsoleCopiesAndEnds(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "console": streams(func(ws *websocket.Conn) {
		_ = ws.WriteMessage(websocket.TextMessage, []byte("not payload"))
		_ = ws.WriteMessage(websocket.BinaryMessage, []byte("login: "))
		_, b, err := ws.ReadMessage()
		if err != nil {
			return
		}
		_ = ws.WriteMessage(websocket.BinaryMessage, append([]byte("hello "), b...))
		closeNormally(ws)
	})})
	out, notice, err := a.run(t, strings.NewReader("me\x1d\n"), "console", "vm1")
	if err != nil {
		t.Fatal(err)
	}
	if out != "login: hello me\x1d\n" { // no terminal, so no escape
		t.Errorf("%q", out)
	}
	if !strings.Contains(notice, "console of vm1 was closed") {
		t.Errorf("%q", notice)
	}
}

func TestConsoleLost(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "console": streams(func(ws *websocket.Conn) { ws.NetConn().Close() })})
	_, _, err := a.run(t, strings.NewReader(""), "console", "vm1")
	if err == nil || !strings.Contains(err.Error(), "connection to vm1 lost") {
		t.Fatal(err)
	}
}

// 400 means that the machine is starting: the client tries again. Everything
// else is final.
func TestConsoleWaits(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	open := streams(closeNormally)
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "console": func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 1:
			refusal(400, "VMI is not running", "")(w, r)
		default:
			open(w, r)
		}
	}})
	_, notice, err := a.run(t, strings.NewReader(""), "console", "vm1")
	if err != nil || !strings.Contains(notice, "Waiting for vm1: VMI is not running") || n.Load() != 2 {
		t.Fatalf("%v %q %d", err, notice, n.Load())
	}
	for timeout, code := range map[string]int32{"0": 400, "5": 409, "1ms": 400} {
		a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "console": refusal(code, "no console today", "")})
		_, _, err := a.run(t, strings.NewReader(""), "console", "vm1", "--timeout="+timeout)
		if err == nil || !strings.Contains(err.Error(), "no console today") {
			t.Errorf("%s: %v", timeout, err)
		}
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"ab\x1dcd": "ab", "\x1d": "", "abc": "abc"} {
		var got bytes.Buffer
		if err := toConsole(&got, strings.NewReader(in), true); err != nil || got.String() != want {
			t.Errorf("%q: %q %v", in, &got, err)
		}
	}
	if err := toConsole(brokenWriter{}, strings.NewReader("x"), true); err == nil {
		t.Error("a lost connection is no error")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestMinutes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{"5": 5 * time.Minute, "90s": 90 * time.Second, "0": 0} {
		var m minutes
		if err := m.Set(in); err != nil || time.Duration(m) != want {
			t.Errorf("%s: %v %v", in, time.Duration(m), err)
		}
	}
	m := minutes(5 * time.Minute)
	if m.String() != "5" {
		t.Error(m.String())
	}
	for _, in := range []string{"", "-1", "-1s", "99999999999"} {
		if err := m.Set(in); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
}

// lines gives what a command prints while it runs.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.buf.Write(b)
}

// find waits for a match and returns its first group.
func (l *lines) find(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		m := re.FindStringSubmatch(l.buf.String())
		text := l.buf.String()
		l.mu.Unlock()
		if m != nil {
			return m[1]
		}
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("no %q in %q", pattern, text)
		}
	}
}

// background runs a command until it ends by itself, or the test or stop ends it.
func (a *api) background(t *testing.T, out io.Writer, args ...string) (stop, wait func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := NewCommand("virtctl", nil)
	cmd.SetArgs(append([]string{"--kubeconfig", a.kubeconfig}, args...))
	cmd.SetOut(out)
	cmd.SetErr(out)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	wait = sync.OnceValue(func() error { return <-done })
	stop = func() error {
		cancel()
		return wait()
	}
	t.Cleanup(func() { _ = stop() })
	return stop, wait
}

func roundTrip(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q %v", got, err)
	}
}

func TestVNCProxyOnly(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "vnc": streams(echo)})
	out := newLines()
	_, wait := a.background(t, out, "vnc", "vm1", "--proxy-only", "--preserve-session")
	line := out.find(t, `(?m)^({"port":\d+})$`)
	var p struct{ Port int }
	if err := json.Unmarshal([]byte(line), &p); err != nil || p.Port == 0 {
		t.Fatal(line, err)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "RFB 003.008\n")
	c.Close() // the viewer leaves: the command ends
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if r := a.requests(); len(r) != 1 || r[0] != "GET "+vmiPath+"vnc?preserveSession=true" {
		t.Fatal(r)
	}
}

func TestVNCInUse(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "vnc": refusal(503, "vnc of ns/vm1 is in use", "")})
	_, _, err := a.run(t, nil, "vnc", "vm1", "--proxy-only", "--preserve-session")
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatal(err)
	}
}

func TestFindViewer(t *testing.T) {
	t.Parallel()
	has := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			for _, n := range names {
				if n == name {
					return "/bin/" + n, nil
				}
			}
			return "", errors.New("not found")
		}
	}
	for _, c := range []struct {
		kind, path string
		look       func(string) (string, error)
		want       string
		err        string
	}{
		{"", "", has("remote-viewer", "vncviewer"), "/bin/remote-viewer vnc://127.0.0.1:5901", ""},
		{"", "", has("vncviewer"), "/bin/vncviewer -Shared 127.0.0.1::5901", ""},
		{"tiger", "", has("remote-viewer", "xtigervncviewer"), "/bin/xtigervncviewer -Shared 127.0.0.1::5901", ""},
		{"tight", "/opt/v", has("/opt/v"), "/bin//opt/v -shared 127.0.0.1::5901", ""},
		{"", "", has(), "", "no VNC viewer is installed here"},
		{"", "", has(), "", "--proxy-only"},
		{"", "/opt/v", has(), "", "--vnc-path"},
		{"x", "", has("vncviewer"), "", "must be one of"},
	} {
		v, err := findViewer(c.kind, c.path, c.look)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := strings.Join(append([]string{v.path}, v.args("127.0.0.1", 5901)...), " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A viewer of our own: a shell script that connects.
func TestVNCViewer(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "vnc": streams(closeNormally)})
	script := filepath.Join(t.TempDir(), "viewer")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"viewer $*\"\nexit 7\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, notice, err := a.run(t, nil, "vnc", "vm1", "--vnc-type=tiger", "--vnc-path="+script)
	if err == nil || !strings.Contains(err.Error(), "ended without connecting") || ExitCode(err) != 7 {
		t.Fatal(err)
	}
	if !strings.Contains(notice, "viewer -Shared 127.0.0.1::") {
		t.Fatalf("%q", notice)
	}
}

func TestScreenshot(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "vnc/screenshot": answer(200, "\x89PNG")})
	file := filepath.Join(t.TempDir(), "x.png")
	if _, _, err := a.run(t, nil, "vnc", "screenshot", "vm1", "--file", file, "--move-cursor"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "\x89PNG" {
		t.Fatalf("%q %v", b, err)
	}
	out, _, err := a.run(t, nil, "vnc", "screenshot", "vm1", "-f", "-")
	if err != nil || out != "\x89PNG" {
		t.Fatalf("%q %v", out, err)
	}
	if r := a.requests()[0]; r != "GET "+vmiPath+"vnc/screenshot?moveCursor=true" {
		t.Fatal(r)
	}
}

func TestPortForwardStdio(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "portforward/22/tcp": streams(func(ws *websocket.Conn) {
		_, b, err := ws.ReadMessage()
		if err != nil {
			return
		}
		_ = ws.WriteMessage(websocket.BinaryMessage, bytes.ToUpper(b))
		closeNormally(ws)
	})})
	in, hold := io.Pipe()
	go func() { _, _ = hold.Write([]byte("ssh-2.0")) }()
	out, _, err := a.run(t, in, "port-forward", "--stdio=true", "vmi/vm1/ns", "22")
	if err != nil || out != "SSH-2.0" {
		t.Fatalf("%q %v", out, err)
	}
}

func TestPortForwardListens(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{
		"GET " + vmPath + "portforward/80/tcp": streams(echo),
		"GET " + vmPath + "portforward/81/tcp": refusal(500, "connect to port 81", ""),
		"GET " + vmPath + "portforward/53/udp": streams(echo),
		"GET " + vmObj:                         object(kubevirtv1.VirtualMachine{}),
	})
	out := newLines()
	stop, _ := a.background(t, out, "port-forward", "vm1", "0:80", "0:81", "udp/0:53")
	good := out.find(t, `Forwarding from tcp/(\S+) to port 80 of vm ns/vm1`)
	bad := out.find(t, `Forwarding from tcp/(\S+) to port 81`)
	udp := out.find(t, `Forwarding from udp/(\S+) to port 53`)
	for range 2 {
		c, err := net.Dial("tcp", good)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, "hello")
		c.Close()
	}
	c, err := net.Dial("tcp", bad)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("%q %v", b, err)
	}
	out.find(t, `(connect to port 81)`)
	u, err := net.Dial("udp", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	roundTrip(t, u, "query")
	roundTrip(t, u, "query again")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// The local side has sent everything; the answer still arrives.
func TestPortForwardAnswersAfterHalfClose(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmPath + "portforward/80/tcp": streams(func(ws *websocket.Conn) {
		if _, _, err := ws.ReadMessage(); err != nil {
			return
		}
		for range 3 {
			_ = ws.WriteMessage(websocket.BinaryMessage, []byte("part "))
		}
		closeNormally(ws)
	})})
	out := newLines()
	a.background(t, out, "port-forward", "vm/vm1", "0:80")
	c, err := net.Dial("tcp", out.find(t, `tcp/(\S+) `))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "part part part " {
		t.Fatalf("%q %v", b, err)
	}
}
