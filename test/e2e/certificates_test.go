// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func issued(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM was issued")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Certificates that near their end are renewed while everything runs: whoever
// serves shows the new one, whoever connects uses it, and a console that is open
// stays open. By itself, as connections with old certificates end (kubectl exec's
// among them): no t.Parallel.
func TestCertificatesRotate(t *testing.T) {
	ns := namespace(t)
	create(t, tinyVM(ns, "rotated"), toolsPod(ns, "tools"))
	running(t, ns, "rotated")
	c := openConsole(t, ns, "rotated")
	c.run("echo before > /tmp/mark")

	files, err := filepath.Glob(pkiFile("*.crt"))
	if err != nil || len(files) < 12 {
		t.Fatalf("certificates: %v, %d", err, len(files))
	}
	// Every one of them nears its end: the same key, the same names.
	due := map[string]string{} // by name: serial number
	end := time.Now().Add(12 * time.Hour)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".crt")
		old := readCert(t, name)
		if old.IsCA {
			continue
		}
		authority := "ca"
		if old.CheckSignatureFrom(readCert(t, authority)) != nil {
			authority = "front-proxy-ca"
		}
		text := issue(t, authority, &x509.Certificate{
			Subject: old.Subject, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: end, KeyUsage: old.KeyUsage, ExtKeyUsage: old.ExtKeyUsage,
			BasicConstraintsValid: true, DNSNames: old.DNSNames, IPAddresses: old.IPAddresses,
		}, old.PublicKey, nil)
		// As a whole, as the cluster writes them itself.
		if err := os.WriteFile(f+".new", text, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(f+".new", f); err != nil {
			t.Fatal(err)
		}
		// The one that was issued: the cluster may have renewed it by now.
		due[name] = issued(t, text).SerialNumber.String()
	}
	pid, err := shared.PID()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all certificates to be renewed", func() (bool, string) {
		for _, name := range slices.Sorted(maps.Keys(due)) {
			if now := readCert(t, name); now.SerialNumber.String() == due[name] || time.Until(now.NotAfter) < 300*24*time.Hour {
				return false, name + " ends " + now.NotAfter.String()
			}
		}
		return true, ""
	})
	if now, err := shared.PID(); err != nil || now != pid {
		t.Fatalf("the skerry process is %s now, was %s: %v", now, pid, err)
	}

	node, _, _ := nodeAgentOf(t)
	controller, err := tls.LoadX509KeyPair(pkiFile("skerry-controller.crt"), pkiFile("skerry-controller.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(readCert(t, "ca"))
	for file, at := range map[string]struct{ address, name string }{
		"apiserver":                 {shared.REST.Host, "localhost"},
		"kubelet":                   {"//" + net.JoinHostPort(internalIP(node), "10250"), node.Name},
		"skerry-controller-serving": {"//" + net.JoinHostPort(internalIP(node), "8443"), "skerry-controller.skerry-system.svc"},
		"skerry-node-serving":       {"//" + net.JoinHostPort(internalIP(node), "8187"), node.Name + ".skerry-node"},
	} {
		_, address, _ := strings.Cut(at.address, "//")
		want := readCert(t, file).SerialNumber
		waitFor(t, "the new certificate of "+file, func() (bool, string) {
			conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: at.name, Certificates: []tls.Certificate{controller}})
			if err != nil {
				return false, err.Error()
			}
			defer conn.Close()
			got := conn.ConnectionState().PeerCertificates[0].SerialNumber
			return got.Cmp(want) == 0, fmt.Sprintf("serial %v, want %v", got, want)
		})
	}

	// The console of before is the same connection, and new ones come about: to the
	// machine, and to a container by the kubelet.
	if got := c.run("cat /tmp/mark"); !strings.HasSuffix(got, "before") {
		t.Errorf("the open console says %q", got)
	}
	again := openConsole(t, ns, "rotated")
	// The guest may tell of its address in between.
	if got := again.run("cat /tmp/mark"); !strings.HasSuffix(got, "before") {
		t.Errorf("a new console says %q", got)
	}
	waitFor(t, "kubectl exec", func() (bool, string) {
		out, err := podExec(t, ns, "tools", "echo", "exec works")
		return err == nil && strings.Contains(out, "exec works"), out
	})
	// Controller and agent still write: a machine starts from nothing.
	create(t, tinyVM(ns, "afterwards"))
	running(t, ns, "afterwards")
	// The administrator's file was written anew, too.
	if out, err := shared.Kubectl(t.Context(), "get", "nodes"); err != nil {
		t.Errorf("with the new kubeconfig: %v %s", err, out)
	}
}
