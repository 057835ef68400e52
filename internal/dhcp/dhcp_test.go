// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	guestMAC  = net.HardwareAddr{0x02, 0, 0, 0, 0, 5}
	serverMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 9}
)

func testConfig() Config {
	return Config{
		Interface: "tap0", Server: netip.MustParseAddr("10.0.2.1"), MAC: guestMAC,
		Address:  netip.MustParsePrefix("10.0.2.2/24"),
		Routes:   []Route{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.2.1")}, {netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd10:0:2::1")}},
		DNS:      []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::10")},
		Search:   []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		MTU:      1450,
		Hostname: "web",
		Options: Options{
			BootFileName: "pxelinux.0", TFTPServer: "192.0.2.9",
			NTP: []netip.Addr{netip.MustParseAddr("192.0.2.8")}, Private: map[uint8]string{240: "hello"},
		},
	}
}

func newTestResponder(t testing.TB, c Config) *responder {
	t.Helper()
	r, err := newResponder(c, serverMAC)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clientFrame is what a client sends.
func clientFrame(t testing.TB, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4}),
	}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	f := udpFrame(guestMAC, broadcastMAC, netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255"), m.ToBytes())
	binary.BigEndian.PutUint16(f[etherHeader+ipHeader:], clientPort)
	binary.BigEndian.PutUint16(f[etherHeader+ipHeader+2:], serverPort)
	return f
}

// answer is the server's message, and where it was sent.
type answer struct {
	*dhcpv4.DHCPv4
	mac      net.HardwareAddr
	src, dst netip.Addr
}

func parseAnswer(t testing.TB, f []byte) answer {
	t.Helper()
	ip := f[etherHeader:]
	if got := ^sum(0, ip[:ipHeader]); got != 0 {
		t.Errorf("IP checksum is off by %x", got)
	}
	udp := ip[ipHeader:]
	if got := ^sum(sum(protoUDP+uint16(len(udp)), ip[12:ipHeader]), udp); got != 0 {
		t.Errorf("UDP checksum is off by %x", got)
	}
	if binary.BigEndian.Uint16(udp) != serverPort || binary.BigEndian.Uint16(udp[2:]) != clientPort {
		t.Errorf("ports %x", udp[:4])
	}
	if !bytes.Equal(f[6:12], serverMAC) {
		t.Errorf("sent by %x", f[6:12])
	}
	m, err := dhcpv4.FromBytes(udp[udpHeader:])
	if err != nil {
		t.Fatal(err)
	}
	return answer{m, net.HardwareAddr(f[:6]), netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))}
}

func requested(ip string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
}

func server(ip string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(ip)))
}

func TestReply(t *testing.T) {
	t.Parallel()
	const none = dhcpv4.MessageTypeNone
	for _, tc := range []struct {
		name      string
		frame     func(t *testing.T) []byte
		want      dhcpv4.MessageType
		broadcast bool
	}{
		{"discover", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeDiscover) }, dhcpv4.MessageTypeOffer, false},
		{"discover, broadcast flag", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true))
		}, dhcpv4.MessageTypeOffer, true},
		{"discover that wants another address", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeDiscover, requested("10.0.2.99"))
		}, dhcpv4.MessageTypeOffer, false},
		{"request", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeRequest, requested("10.0.2.2"), server("10.0.2.1"))
		}, dhcpv4.MessageTypeAck, false},
		{"request of another server's offer", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeRequest, requested("10.0.2.2"), server("10.0.2.3"))
		}, none, false},
		{"reboot with the lease", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeRequest, requested("10.0.2.2"))
		}, dhcpv4.MessageTypeAck, false},
		{"reboot with another's lease", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeRequest, requested("192.168.1.7"))
		}, dhcpv4.MessageTypeNak, true},
		{"renewal", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IP{10, 0, 2, 2}))
		}, dhcpv4.MessageTypeAck, false},
		{"renewal of another address", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IP{10, 0, 2, 3}))
		}, dhcpv4.MessageTypeNak, true},
		{"request of nothing", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeRequest) }, dhcpv4.MessageTypeNak, true},
		{"inform", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{10, 0, 2, 2}))
		}, dhcpv4.MessageTypeAck, false},
		{"decline", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeDecline) }, none, false},
		{"release", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeRelease) }, none, false},
		{"an offer", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeOffer) }, none, false},
		{"no message type", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeNone) }, none, false},
		{"another MAC", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 6}))
		}, none, false},
		{"by a relay", func(t *testing.T) []byte {
			return clientFrame(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IP{10, 9, 9, 9}))
		}, none, false},
		{"a reply", func(t *testing.T) []byte {
			f := clientFrame(t, dhcpv4.MessageTypeDiscover)
			f[etherHeader+ipHeader+udpHeader] = byte(dhcpv4.OpcodeBootReply)
			return f
		}, none, false},
		{"bad checksums", func(t *testing.T) []byte {
			f := clientFrame(t, dhcpv4.MessageTypeDiscover)
			f[etherHeader+ipHeader+6] ^= 0xff
			return f
		}, dhcpv4.MessageTypeOffer, false},
		{"a fragment", func(t *testing.T) []byte {
			f := clientFrame(t, dhcpv4.MessageTypeDiscover)
			f[etherHeader+6] |= 0x20
			return f
		}, none, false},
		{"cut off", func(t *testing.T) []byte { return clientFrame(t, dhcpv4.MessageTypeDiscover)[:200] }, none, false},
		{"another port", func(t *testing.T) []byte {
			f := clientFrame(t, dhcpv4.MessageTypeDiscover)
			f[etherHeader+ipHeader+3] = 53
			return f
		}, none, false},
		{"UDP longer than IP", func(t *testing.T) []byte {
			f := clientFrame(t, dhcpv4.MessageTypeDiscover)
			f[etherHeader+ipHeader+4] = 0xff
			return f
		}, none, false},
		{"IPv6", func(t *testing.T) []byte {
			f := clientFrame(t, dhcpv4.MessageTypeDiscover)
			f[12], f[13] = 0x86, 0xdd
			return f
		}, none, false},
		{"empty", func(*testing.T) []byte { return nil }, none, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out := newTestResponder(t, testConfig()).reply(tc.frame(t))
			if tc.want == none {
				if out != nil {
					t.Errorf("answered with %s", parseAnswer(t, out).Summary())
				}
				return
			}
			if out == nil {
				t.Fatal("no answer")
			}
			got := parseAnswer(t, out)
			wantMAC, wantDst := guestMAC, "10.0.2.2"
			if tc.broadcast {
				wantMAC, wantDst = broadcastMAC, "255.255.255.255"
			}
			if got.MessageType() != tc.want || got.mac.String() != wantMAC.String() || got.dst.String() != wantDst || got.src.String() != "10.0.2.1" {
				t.Errorf("%s from %s to %s (%s), want %s to %s (%s)", got.MessageType(), got.src, got.dst, got.mac, tc.want, wantDst, wantMAC)
			}
			if got.TransactionID != (dhcpv4.TransactionID{1, 2, 3, 4}) || got.ClientHWAddr.String() != guestMAC.String() || !same(got.ServerIdentifier(), netip.MustParseAddr("10.0.2.1")) {
				t.Errorf("answer %s", got.Summary())
			}
			if tc.want == dhcpv4.MessageTypeNak && !unset(got.YourIPAddr) {
				t.Errorf("NAK with address %s", got.YourIPAddr)
			}
		})
	}
}

func TestWhatTheGuestLearns(t *testing.T) {
	t.Parallel()
	id := []byte{1, 2, 0, 0, 0, 0, 5}
	out := newTestResponder(t, testConfig()).reply(clientFrame(t, dhcpv4.MessageTypeRequest, requested("10.0.2.2"),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(id)), dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1500))))
	got := parseAnswer(t, out)
	type learnt struct {
		IP, Mask, Router, NTP, Next    string
		DNS                            []string
		Search                         []string
		Lease                          time.Duration
		MTU                            []byte
		Host, Domain, Boot, File, TFTP string
		Private, ClientID              []byte
		Routes                         int
		Renewal                        time.Duration
	}
	l := learnt{
		IP: got.YourIPAddr.String(), Mask: net.IP(got.SubnetMask()).String(), Router: got.Router()[0].String(), NTP: got.NTPServers()[0].String(), Next: got.ServerIPAddr.String(),
		Search: got.DomainSearch().Labels, Lease: got.IPAddressLeaseTime(0), MTU: got.Options.Get(dhcpv4.OptionInterfaceMTU),
		Host: got.HostName(), Domain: got.DomainName(), Boot: got.BootFileNameOption(), File: got.BootFileName, TFTP: got.TFTPServerName(),
		Private: got.Options.Get(dhcpv4.GenericOptionCode(240)), ClientID: got.Options.Get(dhcpv4.OptionClientIdentifier),
		Routes: len(got.ClasslessStaticRoute()), Renewal: got.IPAddressRenewalTime(0),
	}
	for _, d := range got.DNS() {
		l.DNS = append(l.DNS, d.String())
	}
	want := learnt{
		IP: "10.0.2.2", Mask: "255.255.255.0", Router: "10.0.2.1", NTP: "192.0.2.8", Next: "192.0.2.9",
		DNS: []string{"10.96.0.10"}, Search: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		Lease: math.MaxUint32 * time.Second, MTU: []byte{0x05, 0xaa},
		Host: "web", Domain: "default.svc.cluster.local", Boot: "pxelinux.0", File: "pxelinux.0", TFTP: "192.0.2.9",
		Private: []byte("hello"), ClientID: id,
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("the guest learns (-want +got):\n%s", diff)
	}
}

func TestInformGetsNoLease(t *testing.T) {
	t.Parallel()
	got := parseAnswer(t, newTestResponder(t, testConfig()).reply(clientFrame(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{10, 0, 2, 2}))))
	if !unset(got.YourIPAddr) || got.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || !got.Options.Has(dhcpv4.OptionDomainNameServer) {
		t.Errorf("INFORM got %s", got.Summary())
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for _, tc := range []struct {
		name    string
		address string
		routes  []Route
		router  string
		static  string
	}{
		{"one gateway", "10.42.0.5/24", []Route{{p("0.0.0.0/0"), a("10.42.0.1")}}, "10.42.0.1", ""},
		{"no gateway", "10.42.0.5/24", nil, "", ""},
		{"one more route", "10.42.0.5/24", []Route{{p("0.0.0.0/0"), a("10.42.0.1")}, {p("192.0.2.0/24"), a("10.42.0.7")}}, "10.42.0.1",
			"route to 0.0.0.0/0 via 10.42.0.1; route to 192.0.2.0/24 via 10.42.0.7"},
		{"point to point", "10.42.0.5/32", []Route{{p("169.254.1.1/32"), netip.Addr{}}, {p("0.0.0.0/0"), a("169.254.1.1")}}, "169.254.1.1",
			"route to 169.254.1.1/32 via 0.0.0.0; route to 0.0.0.0/0 via 169.254.1.1"},
		{"gateway outside", "10.42.0.5/24", []Route{{p("0.0.0.0/0"), a("10.43.0.1")}}, "10.43.0.1", "route to 0.0.0.0/0 via 10.43.0.1"},
		{"everything on the link", "10.42.0.5/24", []Route{{p("0.0.0.0/0"), netip.Addr{}}}, "", "route to 0.0.0.0/0 via 0.0.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := testConfig()
			c.Address, c.Routes = p(tc.address), tc.routes
			got := parseAnswer(t, newTestResponder(t, c).reply(clientFrame(t, dhcpv4.MessageTypeDiscover)))
			router, static := "", ""
			if r := got.Router(); len(r) > 0 {
				router = r[0].String()
			}
			if r := got.ClasslessStaticRoute(); len(r) > 0 {
				static = dhcpv4.Routes(r).String()
			}
			if router != tc.router || static != tc.static {
				t.Errorf("router %q, routes %q; want %q, %q", router, static, tc.router, tc.static)
			}
		})
	}
}

// A client that takes 576 bytes gets no more, whatever there is to tell.
func TestSmallClient(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Options.Private = map[uint8]string{230: strings.Repeat("a", 200), 231: strings.Repeat("b", 200)}
	for i := range 20 {
		c.Search = append(c.Search, strings.Repeat("x", i+1)+".example.org")
	}
	r := newTestResponder(t, c)
	small := parseAnswer(t, r.reply(clientFrame(t, dhcpv4.MessageTypeDiscover)))
	if n := len(small.ToBytes()); n > minMessage {
		t.Errorf("%d bytes for a client that takes %d", n, minMessage)
	}
	if !small.Options.Has(dhcpv4.OptionRouter) || small.Options.Has(dhcpv4.OptionDNSDomainSearchList) {
		t.Errorf("left out the wrong things: %s", small.Summary())
	}
	big := parseAnswer(t, r.reply(clientFrame(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(65535)))))
	if n := len(big.ToBytes()); n > maxMessage || !big.Options.Has(dhcpv4.OptionDNSDomainSearchList) {
		t.Errorf("%d bytes: %s", n, big.Summary())
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want  string
		spoil func(c *Config)
	}{
		{"interface", func(c *Config) { c.Interface = "" }},
		{"server", func(c *Config) { c.Server = netip.MustParseAddr("::1") }},
		{"MAC", func(c *Config) { c.MAC = nil }},
		{"address", func(c *Config) { c.Address = netip.Prefix{} }},
		{"address", func(c *Config) { c.Address = netip.MustParsePrefix("fd00::1/64") }},
		{"MTU 67", func(c *Config) { c.MTU = 67 }},
		{"MTU 65536", func(c *Config) { c.MTU = 65536 }},
		{"hostname", func(c *Config) { c.Hostname = strings.Repeat("h", 256) }},
		{"options.bootFileName", func(c *Config) { c.Options.BootFileName = strings.Repeat("h", 256) }},
		{"options.tftpServerName", func(c *Config) { c.Options.TFTPServer = strings.Repeat("h", 256) }},
		{"options.private[223]", func(c *Config) { c.Options.Private = map[uint8]string{223: "x"} }},
		{"options.private[255]", func(c *Config) { c.Options.Private = map[uint8]string{255: "x"} }},
		{"options.private[224]", func(c *Config) { c.Options.Private = map[uint8]string{224: strings.Repeat("x", 256)} }},
	} {
		c := testConfig()
		tc.spoil(&c)
		if _, err := newResponder(c, serverMAC); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %s in it", err, tc.want)
		}
	}
}

func TestParseResolvConf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		want       ResolvConf
	}{
		{"pod", "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", ResolvConf{
			Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
			Search:      []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}, Options: []string{"ndots:5"},
		}},
		{"no newline at the end", "nameserver 1.1.1.1", ResolvConf{Nameservers: []netip.Addr{netip.MustParseAddr("1.1.1.1")}}},
		{"comments and blanks", "# a\n\n ; b\nnameserver\t8.8.8.8 # Google\r\n", ResolvConf{Nameservers: []netip.Addr{netip.MustParseAddr("8.8.8.8")}}},
		{"the last search wins", "domain a.org\nsearch b.org c.org\n", ResolvConf{Search: []string{"b.org", "c.org"}}},
		{"domain after search", "search b.org c.org\ndomain a.org x.org\n", ResolvConf{Search: []string{"a.org"}}},
		{"search is emptied", "search b.org\nsearch .\n", ResolvConf{}},
		{"IPv6 and mapped", "nameserver fd00::10\nnameserver ::ffff:10.0.0.1\n", ResolvConf{
			Nameservers: []netip.Addr{netip.MustParseAddr("fd00::10"), netip.MustParseAddr("10.0.0.1")},
		}},
		{"three servers are enough", strings.Repeat("nameserver 10.0.0.1\n", 9), ResolvConf{
			Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.1")},
		}},
		{"nonsense", "nameserver\nnameserver x\nsearch\nfoo bar\nsearch a..b -- \x00.org a_b.org.\n", ResolvConf{Search: []string{"--", "a_b.org"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := ParseResolvConf([]byte(tc.text))
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzReply(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
		f.Add(clientFrame(f, kind, requested("10.0.2.2"), dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("id")))))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > maxFrame {
			return
		}
		out := newTestResponder(t, testConfig()).reply(frame)
		if out == nil {
			return
		}
		got := parseAnswer(t, out)
		if len(out) > etherHeader+ipHeader+udpHeader+maxMessage {
			t.Errorf("%d bytes", len(out))
		}
		if got.mac.String() != guestMAC.String() && got.mac.String() != broadcastMAC.String() {
			t.Errorf("sent to %s", got.mac)
		}
		if !unset(got.YourIPAddr) && got.YourIPAddr.String() != "10.0.2.2" {
			t.Errorf("gave away %s", got.YourIPAddr)
		}
	})
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add([]byte("search a.org b.org\nnameserver 10.96.0.10\noptions ndots:5\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := testConfig()
		got := ParseResolvConf(text)
		c.DNS, c.Search = got.Nameservers, got.Search
		if len(got.Search) > maxSearch || len(got.Nameservers) > maxNameservers {
			t.Errorf("%d servers, %d domains", len(got.Nameservers), len(got.Search))
		}
		// Whatever it was, the guest can be told.
		if out := newTestResponder(t, c).reply(clientFrame(t, dhcpv4.MessageTypeDiscover)); out == nil {
			t.Error("no answer")
		}
	})
}
