// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/skerry-dev/skerry/internal/contract"
)

// said is a connection on which a launcher has said something.
type said struct {
	net.Conn
	io.Reader
}

func (s said) Read(b []byte) (int, error)      { return s.Reader.Read(b) }
func (s said) SetReadDeadline(time.Time) error { return nil }

// Whatever a launcher says, its greeting and its result are read within limits, and
// what is shown of them is short and printable.
func FuzzLauncher(f *testing.F) {
	for _, s := range []string{
		`{"contract":1,"launcher":"v0.1.0","image":{"qemuVersion":"11.1.3","packages":{"qemu":"1"}}}` + "\n" + `{"error":""}` + "\n",
		`{"contract":1}` + "\n" + `{"error":"disk_0: not a qcow2 image\u001b[31m"}` + "\n",
		"{}\n{}\n", "\n\n", "null\nnull\n", `{"contract":1e99}` + "\n", strings.Repeat("[", 10000) + "\n", strings.Repeat("x", maxHello+maxResult+1),
		`{"contract":-9223372036854775808,"image":{"packages":{"a":{}}}}` + "\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := said{Reader: bytes.NewReader(b)}
		lines := bufio.NewReaderSize(io.LimitReader(conn, maxHello+maxResult), 4096)
		var h contract.Hello
		if err := readLine(context.Background(), conn, lines, time.Minute, &h); err != nil {
			if p := toProblem(failed(problemLauncher, "read the launcher's greeting: %w", err)); len(p.message) > maxNote+len("…") || !utf8.ValidString(p.message) {
				t.Errorf("the problem has %d bytes", len(p.message))
			}
			return
		}
		var r contract.Result
		if err := readLine(context.Background(), conn, lines, time.Minute, &r); err != nil {
			return
		}
		p := toProblem(failed(problemRefused, "%s", r.Error))
		if len(p.message) > maxNote+len("…") || !utf8.ValidString(p.message) || strings.ContainsAny(p.message, "\x1b\x00\n") {
			t.Errorf("the problem is %q", p.message)
		}
	})
}
