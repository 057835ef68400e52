// SPDX-License-Identifier: Apache-2.0

package nodeapi_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/nodeapi/nodeapitest"
)

func TestOnlyTheControllerMayConnect(t *testing.T) {
	t.Parallel()
	ca, other := nodeapitest.NewCA(t, "ours"), nodeapitest.NewCA(t, "theirs")
	server := ca.Files(t, t.TempDir(), "skerry-node:"+node, nodeapi.ServerName(node))
	a := serve(t, server, ca.Files(t, t.TempDir(), nodeapi.ControllerName))
	if err := a.client.Call(t.Context(), node, vmi, nodeapi.Pause); err != nil {
		t.Fatalf("the controller: %v", err)
	}
	wrongName := ca.Files(t, t.TempDir(), "skerry-node:other")
	wrongCA := other.Files(t, t.TempDir(), nodeapi.ControllerName)
	if err := os.WriteFile(wrongCA.CAFile, ca.PEM, 0o600); err != nil { // it does trust the server
		t.Fatal(err)
	}
	for name, files := range map[string]nodeapi.TLSFiles{"another name": wrongName, "another CA": wrongCA} {
		if err := newClient(t, files, a.address).Call(t.Context(), node, vmi, nodeapi.Pause); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if len(a.calls) != 1 {
		t.Fatalf("calls: %v", a.calls)
	}
}

func TestNoCertificateAndOldTLS(t *testing.T) {
	t.Parallel()
	ca := nodeapitest.NewCA(t, "ours")
	client := ca.Files(t, t.TempDir(), nodeapi.ControllerName)
	a := serve(t, ca.Files(t, t.TempDir(), "n", nodeapi.ServerName(node)), client)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM)
	cert, err := tls.LoadX509KeyPair(client.CertFile, client.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*tls.Config{
		"no certificate": {RootCAs: pool, ServerName: nodeapi.ServerName(node)},
		"TLS 1.2":        {RootCAs: pool, ServerName: nodeapi.ServerName(node), Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12},
	} {
		conn, err := tls.Dial("tcp", a.address, config)
		if err != nil {
			continue
		}
		_, _ = io.WriteString(conn, "GET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			t.Errorf("%s: answered %d", name, resp.StatusCode)
		}
		conn.Close()
	}
}

func TestClientChecksTheNode(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if err := a.client.Call(t.Context(), "n2.example", vmi, nodeapi.Pause); err == nil {
		t.Fatal("the agent of another node was accepted")
	}
}

// rewrite replaces a file's content; the time differs from the old one's even on
// coarse file systems.
func rewrite(t *testing.T, name string, data []byte, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-age)
	if err := os.Chtimes(name, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestRotationKeepsStreams(t *testing.T) {
	t.Parallel()
	before, after := nodeapitest.NewCA(t, "before"), nodeapitest.NewCA(t, "after")
	server := before.Files(t, t.TempDir(), "n", nodeapi.ServerName(node))
	client := before.Files(t, t.TempDir(), nodeapi.ControllerName)
	a := serve(t, server, client)
	s, guest := a.stream(t, nodeapi.Console, nodeapi.StreamOptions{})

	cert, key := after.Issue(t, "n", nodeapi.ServerName(node))
	// Half a rotation: the certificate without its key. The old pair stays.
	rewrite(t, server.CertFile, cert, time.Minute)
	if err := a.client.Call(t.Context(), node, vmi, nodeapi.Pause); err != nil {
		t.Fatalf("half-written files: %v", err)
	}
	rewrite(t, server.KeyFile, key, time.Minute)
	rewrite(t, server.CAFile, after.PEM, time.Minute)
	if err := a.client.Call(t.Context(), node, vmi, nodeapi.Pause); err == nil {
		t.Fatal("a client of the old CA was accepted")
	}
	cert, key = after.Issue(t, nodeapi.ControllerName)
	rewrite(t, client.CertFile, cert, time.Minute)
	rewrite(t, client.KeyFile, key, time.Minute)
	rewrite(t, client.CAFile, after.PEM, time.Minute)
	if err := a.client.Call(t.Context(), node, vmi, nodeapi.Pause); err != nil {
		t.Fatalf("after the rotation: %v", err)
	}
	// And the stream of before still carries bytes.
	if _, err := guest.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestMissingFilesShowAtStart(t *testing.T) {
	t.Parallel()
	s, _ := nodeapitest.Pair(t, node)
	for i, broken := range []nodeapi.TLSFiles{
		{CertFile: s.CertFile + "x", KeyFile: s.KeyFile, CAFile: s.CAFile},
		{CertFile: s.CertFile, KeyFile: s.CAFile, CAFile: s.CAFile},
		{CertFile: s.CertFile, KeyFile: s.KeyFile, CAFile: s.KeyFile},
	} {
		if _, err := nodeapi.NewServer(nodeapi.ServerConfig{TLS: broken, Backend: newBackend()}); err == nil {
			t.Errorf("case %d accepted", i)
		}
	}
}

func TestPlainConnectionIsRefused(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	conn, err := net.Dial("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "PUT /v1/vmis/default/vm1/u/pause HTTP/1.1\r\nHost: x\r\n\r\n")
	b, _ := io.ReadAll(conn)
	if len(a.calls) != 0 {
		t.Fatalf("served over plain TCP: %q", b)
	}
}
