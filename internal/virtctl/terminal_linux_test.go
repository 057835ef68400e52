// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal returns both ends of a pseudo-terminal.
func terminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return user, program
}

// Ctrl-C belongs to the guest, Ctrl-] leaves, and the terminal is as before.
func TestConsoleOnATerminal(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmiPath + "console": streams(func(ws *websocket.Conn) {
		_ = ws.WriteMessage(websocket.BinaryMessage, []byte("$ "))
		var all bytes.Buffer
		for {
			_, b, err := ws.ReadMessage()
			if err != nil {
				got <- all.Bytes()
				return
			}
			all.Write(b)
		}
	})})
	user, program := terminal(t)
	before, err := term.GetState(int(program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	out := newLines()
	cmd := NewCommand("virtctl", nil)
	cmd.SetArgs([]string{"--kubeconfig", a.kubeconfig, "console", "vm1"})
	cmd.SetIn(program)
	cmd.SetOut(out)
	cmd.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(t.Context()) }()
	out.find(t, `(\$) `)
	if _, err := user.WriteString("ls\r\x03\x1dnot sent"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b := <-got; string(b) != "ls\r\x03" {
		t.Errorf("the guest got %q", b)
	}
	after, err := term.GetState(int(program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Error("the terminal was not restored")
	}
}
