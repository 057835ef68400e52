// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestCorefile(t *testing.T) {
	t.Parallel()
	offline := Config{Address: netip.MustParseAddr("10.42.0.1"), Port: 10053, Domain: "cluster.local", Kubeconfig: "/var/lib/a b/dns.yaml"}
	online := offline
	online.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[2001:db8::1]:53")}
	for name, c := range map[string]Config{"offline.corefile": offline, "online.corefile": online} {
		path := filepath.Join("testdata", name)
		got := corefile(c)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got; -update rewrites it):\n%s", name, diff)
		}
	}
}

func TestNameservers(t *testing.T) {
	t.Parallel()
	ap := netip.MustParseAddrPort
	for _, c := range []struct {
		name, in string
		want     []netip.AddrPort
	}{
		{name: "empty"},
		{name: "the usual", in: "# made by dhcp\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \noptions edns0\n",
			want: []netip.AddrPort{ap("192.0.2.1:53"), ap("[2001:db8::1]:53")}},
		{name: "a stub on this machine", in: "nameserver 127.0.0.53", want: []netip.AddrPort{ap("127.0.0.53:53")}},
		{name: "this server itself", in: "nameserver 10.42.0.1\nnameserver 192.0.2.1", want: []netip.AddrPort{ap("192.0.2.1:53")}},
		{name: "twice", in: "nameserver 192.0.2.1\nnameserver 192.0.2.1\n", want: []netip.AddrPort{ap("192.0.2.1:53")}},
		{name: "nonsense", in: "nameserver\nnameserver x\n;nameserver 192.0.2.1\nxnameserver 192.0.2.2\n"},
		{name: "more than the forwarder takes", in: strings.Repeat("nameserver 192.0.2.", 1) + "0\n" + many(20),
			want: first15()},
	} {
		got := Nameservers(c.in, netip.MustParseAddr("10.42.0.1"))
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString("nameserver " + netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String() + "\n")
	}
	return b.String()
}

func first15() (out []netip.AddrPort) {
	for i := range 15 {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53))
	}
	return out
}

// The server starts although there is no API server yet, answers SERVFAIL for the
// cluster's names, forwards others, and takes new upstreams while it runs.
func TestServer(t *testing.T) {
	upstream := func(text string) netip.AddrPort {
		started := make(chan struct{})
		s := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			m := new(dns.Msg).SetReply(r)
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}}}
			_ = w.WriteMsg(m)
		})}
		go func() { _ = s.ListenAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
		return netip.MustParseAddrPort(s.PacketConn.LocalAddr().String())
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Address: netip.MustParseAddr("127.0.0.1"), Port: 0, Domain: "cluster.local", Kubeconfig: kubeconfig, Upstreams: []netip.AddrPort{upstream("first")}}
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	ask := func(name string) *dns.Msg {
		t.Helper()
		addr := s.instance.Servers()[0].LocalAddr().String()
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeTXT), addr)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if got := ask("kubernetes.default.svc.cluster.local."); got.Rcode != dns.RcodeServerFailure {
		t.Errorf("cluster's name before the API server is there: %s", dns.RcodeToString[got.Rcode])
	}
	if got := ask("example.org."); len(got.Answer) != 1 || !strings.Contains(got.Answer[0].String(), "first") {
		t.Errorf("forwarded: %v", got)
	}
	c.Upstreams = []netip.AddrPort{upstream("second")}
	if err := s.Reconfigure(c); err != nil {
		t.Fatal(err)
	}
	if got := ask("other.example.org."); len(got.Answer) != 1 || !strings.Contains(got.Answer[0].String(), "second") {
		t.Errorf("forwarded after the change: %v", got)
	}
	c.Upstreams = nil
	if err := s.Reconfigure(c); err != nil {
		t.Fatal(err)
	}
	if got := ask("third.example.org."); got.Rcode == dns.RcodeSuccess {
		t.Errorf("without upstreams: %v", got)
	}
}
