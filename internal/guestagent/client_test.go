// SPDX-License-Identifier: Apache-2.0

package guestagent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// pair is the two ends of a connection with buffers, as a socket has.
func pair(t *testing.T) (client, guest net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// agent answers sync and then every command with the given line.
func agent(t *testing.T, before string, answers map[string]string) net.Conn {
	t.Helper()
	client, guest := pair(t)
	go func() {
		r := bufio.NewReader(guest)
		_, _ = io.WriteString(guest, before)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			var req struct {
				Execute   string
				Arguments struct{ ID int64 }
			}
			if err := json.Unmarshal(bytes.TrimLeft(line, "\xff"), &req); err != nil {
				t.Errorf("%q: %v", line, err)
				return
			}
			ans, ok := answers[req.Execute]
			if req.Execute == "guest-sync-delimited" && !ok {
				ans = fmt.Sprintf("\xff{\"return\": %d}\n", req.Arguments.ID)
			}
			if _, err := io.WriteString(guest, ans); err != nil {
				return
			}
		}
	}()
	return client
}

func dial(t *testing.T, before string, answers map[string]string) *Client {
	t.Helper()
	c, err := New(t.Context(), agent(t, before, answers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	c := dial(t, "", map[string]string{
		"guest-get-osinfo": `{"return": {"name": "Debian GNU/Linux", "kernel-release": "6.1.0-56-cloud-amd64", "version": "12 (bookworm)", "pretty-name": "Debian GNU/Linux 12 (bookworm)", "version-id": "12", "kernel-version": "#1 SMP", "machine": "x86_64", "id": "debian"}}` + "\n",
		"guest-network-get-interfaces": `{"return": [{"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}], "hardware-address": "00:00:00:00:00:00"},` +
			`{"name": "enp1s0", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "10.0.2.2", "prefix": 24}, {"ip-address-type": "ipv6", "ip-address": "fe80::1%enp1s0", "prefix": 64}, {"ip-address": "what"}], "hardware-address": "02:5a:00:00:00:01"},` +
			`{"name": "sit0"}]}` + "\n",
	})
	o, err := c.OSInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := OSInfo{ID: "debian", Name: "Debian GNU/Linux", PrettyName: "Debian GNU/Linux 12 (bookworm)", Version: "12 (bookworm)", VersionID: "12", KernelRelease: "6.1.0-56-cloud-amd64", KernelVersion: "#1 SMP", Machine: "x86_64"}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	ifs, err := c.Interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantIfs := []Interface{
		{Name: "enp1s0", MAC: net.HardwareAddr{2, 0x5a, 0, 0, 0, 1}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("fe80::1")}},
		{Name: "sit0"},
	}
	if diff := cmp.Diff(wantIfs, ifs, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if err := c.Reboot(t.Context()); err != nil {
		t.Error(err)
	}
}

// An earlier client may have left a question unanswered, or half asked.
func TestSyncSkipsOldAnswers(t *testing.T) {
	t.Parallel()
	c := dial(t, "{\"return\": {}}\n\xff{\"return\": 5}\n{\"error\":{}}\n", map[string]string{"guest-get-osinfo": `{"return":{"id":"x"}}` + "\n"})
	if o, err := c.OSInfo(t.Context()); err != nil || o.ID != "x" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	c := dial(t, "", map[string]string{
		"guest-get-osinfo":             `{"error": {"class": "CommandNotFound", "desc": "The command guest-get-osinfo has not been found\u0007"}}` + "\n",
		"guest-network-get-interfaces": "\n" + `{"return": []}` + "\n",
	})
	_, err := c.OSInfo(t.Context())
	var refused *Error
	if !errors.As(err, &refused) || refused.Class != "CommandNotFound" || strings.ContainsRune(refused.Desc, 7) {
		t.Errorf("err = %v", err)
	}
	if _, err := c.Interfaces(t.Context()); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

func TestNoAgent(t *testing.T) {
	t.Parallel()
	client, guest := pair(t)
	go func() { _, _ = io.Copy(io.Discard, guest) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, client); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

func TestHostileGuest(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`{"name":"`+strings.Repeat("é", 300)+`","hardware-address":"02:00:00:00:00:01","ip-addresses":[`+strings.TrimSuffix(strings.Repeat(`{"ip-address":"10.1.1.1"},`, 100), ",")+`]},`, 40)
	c := dial(t, "", map[string]string{"guest-network-get-interfaces": `{"return":[` + strings.TrimSuffix(many, ",") + "]}\n"})
	ifs, err := c.Interfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(ifs) != maxInterfaces || len(ifs[0].Addresses) != maxAddresses || len(ifs[0].Name) > maxText {
		t.Errorf("%d interfaces, %d addresses, name of %d bytes", len(ifs), len(ifs[0].Addresses), len(ifs[0].Name))
	}
	for name, answer := range map[string]string{
		"endless":    strings.Repeat("x", 2*maxLine),
		"not JSON":   "<html>\n",
		"null":       "null\n",
		"no answer":  strings.Repeat("\n", 20),
		"wrong type": `{"return": "x"}` + "\n",
	} {
		c := dial(t, "", map[string]string{"guest-get-osinfo": answer})
		if _, err := c.OSInfo(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := c.OSInfo(t.Context()); err == nil {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	_, err = New(t.Context(), agent(t, strings.Repeat("x", maxJunk), nil))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("junk: %v", err)
	}
}

// onlyReads is a connection that says what it is given and swallows the rest.
type onlyReads struct {
	net.Conn
	io.Reader
}

func (c onlyReads) Read(b []byte) (int, error)  { return c.Reader.Read(b) }
func (c onlyReads) Write(b []byte) (int, error) { return len(b), nil }
func (c onlyReads) Close() error                { return nil }

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\xff{\"return\": 1}\n"))
	f.Add([]byte(`{"return": [{"name": "x", "ip-addresses": [{"ip-address": "::1"}]}]}` + "\n"))
	f.Add([]byte(`{"error": {"class": "x"}}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		open := func() *Client {
			conn := onlyReads{Reader: bytes.NewReader(in)}
			return &Client{conn: conn, r: bufio.NewReader(conn)}
		}
		_ = open().sync()
		if o, err := open().OSInfo(context.Background()); err == nil && len(o.Name) > maxText {
			t.Fatal("text too long")
		}
		if l, err := open().Interfaces(context.Background()); err == nil && len(l) > maxInterfaces {
			t.Fatal("too many interfaces")
		}
	})
}

// What is offline is taken online; what the guest has already is left alone.
func TestOnline(t *testing.T) {
	t.Parallel()
	c := dial(t, "", map[string]string{
		"guest-get-vcpus":             `{"return": [{"logical-id": 0, "online": true, "can-offline": false}, {"logical-id": 1, "online": false, "can-offline": true}, {"logical-id": 2, "online": false, "can-offline": true}]}` + "\n",
		"guest-set-vcpus":             `{"return": 1}` + "\n",
		"guest-get-memory-block-info": `{"return": {"size": 134217728}}` + "\n",
		"guest-get-memory-blocks":     `{"return": [{"phys-index": 0, "online": true, "can-offline": true}, {"phys-index": 32, "online": false, "can-offline": true}, {"phys-index": 33, "online": false}]}` + "\n",
		"guest-set-memory-blocks":     `{"return": [{"phys-index": 32, "response": "success"}, {"phys-index": 33, "response": "operation-failed", "error-code": 22}]}` + "\n",
	})
	if n, err := c.OnlineVCPUs(t.Context()); err != nil || n != 2 {
		t.Errorf("vCPUs online: %d, %v; want 2", n, err)
	}
	b, err := c.OnlineMemory(t.Context())
	if want := (Blocks{Size: 128 << 20, Online: 2, Offline: 1}); err != nil || b != want {
		t.Errorf("memory blocks: %+v, %v; want %+v", b, err, want)
	}
}

// A guest's nonsense is an error, not a size.
func TestOnlineHostile(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]map[string]string{
		"negative": {"guest-get-memory-block-info": `{"return": {"size": -1}}`, "guest-get-memory-blocks": `{"return": []}`},
		"more results": {"guest-get-memory-block-info": `{"return": {"size": 1048576}}`, "guest-get-memory-blocks": `{"return": [{"phys-index": 1}]}`,
			"guest-set-memory-blocks": `{"return": [{"response": "success"}, {"response": "success"}]}`},
	} {
		for k := range answers {
			answers[k] += "\n"
		}
		if b, err := dial(t, "", answers).OnlineMemory(t.Context()); err == nil {
			t.Errorf("%s: %+v was believed", name, b)
		}
	}
	c := dial(t, "", map[string]string{"guest-get-vcpus": `{"return": [{"logical-id": 1}]}` + "\n", "guest-set-vcpus": `{"return": 7}` + "\n"})
	if n, err := c.OnlineVCPUs(t.Context()); err == nil {
		t.Errorf("%d vCPUs were believed", n)
	}
}
