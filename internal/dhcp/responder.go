// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

const (
	// infinite is the lease time that never ends (RFC 2131, 3.3).
	infinite = math.MaxUint32 * time.Second
	// minMessage is what every client takes (RFC 2131, 2): 576 bytes less IP and UDP headers.
	minMessage = 548
	// maxMessage fits an Ethernet frame whatever the client claims to take.
	maxMessage = 1472
	// maxClientID bounds what is echoed of a client's identifier.
	maxClientID = 255
)

// responder turns a guest's frame into the answer. It is pure: no I/O, no state.
type responder struct {
	c         Config
	serverMAC net.HardwareAddr
	options   []dhcpv4.Option // of every ACK and OFFER
	// spare are options that may be left out when the client takes little.
	spare []dhcpv4.OptionCode
}

func newResponder(c Config, serverMAC net.HardwareAddr) (*responder, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	r := &responder{c: c, serverMAC: serverMAC, options: staticOptions(c)}
	r.spare = []dhcpv4.OptionCode{dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionNTPServers}
	for _, code := range slices.Backward(slices.Sorted(maps.Keys(c.Options.Private))) {
		r.spare = append(r.spare, dhcpv4.GenericOptionCode(code))
	}
	return r, nil
}

// staticOptions are those that do not depend on the request.
func staticOptions(c Config) []dhcpv4.Option {
	opts := []dhcpv4.Option{
		dhcpv4.OptServerIdentifier(c.Server.AsSlice()),
		dhcpv4.OptSubnetMask(net.CIDRMask(c.Address.Bits(), 32)),
	}
	opts = append(opts, routeOptions(c)...)
	if dns := only4(c.DNS); len(dns) > 0 {
		opts = append(opts, dhcpv4.OptDNS(dns...))
	}
	if len(c.Search) > 0 {
		opts = append(opts, dhcpv4.OptDomainName(c.Search[0]), dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: c.Search}))
	}
	if c.MTU != 0 {
		opts = append(opts, dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(c.MTU >> 8), byte(c.MTU)}))
	}
	if c.Hostname != "" {
		opts = append(opts, dhcpv4.OptHostName(c.Hostname))
	}
	if ntp := only4(c.Options.NTP); len(ntp) > 0 {
		opts = append(opts, dhcpv4.OptNTPServers(ntp...))
	}
	if c.Options.BootFileName != "" {
		opts = append(opts, dhcpv4.OptBootFileName(c.Options.BootFileName))
	}
	if c.Options.TFTPServer != "" {
		opts = append(opts, dhcpv4.OptTFTPServerName(c.Options.TFTPServer))
	}
	for code, value := range c.Options.Private {
		opts = append(opts, dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), []byte(value)))
	}
	return opts
}

// routeOptions are a router where that says it all, and classless static routes
// (RFC 3442, which makes clients ignore the router) where it does not.
func routeOptions(c Config) []dhcpv4.Option {
	var opts []dhcpv4.Option
	var routes []*dhcpv4.Route
	simple := true
	for _, r := range c.Routes {
		if !r.Dst.Addr().Is4() || r.Gateway.IsValid() && !r.Gateway.Is4() {
			continue
		}
		gateway := netip.IPv4Unspecified()
		if r.Gateway.IsValid() {
			gateway = r.Gateway
		}
		dst := r.Dst.Masked()
		routes = append(routes, &dhcpv4.Route{
			Dest:   &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), 32)},
			Router: gateway.AsSlice(),
		})
		isDefault := dst.Bits() == 0 && r.Gateway.IsValid()
		if isDefault {
			opts = append(opts, dhcpv4.OptRouter(r.Gateway.AsSlice()))
		}
		if !isDefault || !c.Address.Masked().Contains(r.Gateway) {
			simple = false
		}
	}
	if !simple {
		opts = append(opts, dhcpv4.OptClasslessStaticRoute(routes...))
	}
	return opts
}

// reply returns the frame to send, or nil.
func (r *responder) reply(frame []byte) []byte {
	payload, ok := requestPayload(frame)
	if !ok {
		return nil
	}
	req, err := dhcpv4.FromBytes(payload)
	if err != nil || req.OpCode != dhcpv4.OpcodeBootRequest || !bytes.Equal(req.ClientHWAddr, r.c.MAC) {
		return nil
	}
	// A relay agent has no business behind a tap.
	if req.GatewayIPAddr != nil && !req.GatewayIPAddr.IsUnspecified() {
		return nil
	}
	kind := r.decide(req)
	if kind == dhcpv4.MessageTypeNone {
		return nil
	}
	resp, err := r.message(req, kind)
	if err != nil {
		return nil
	}
	return r.frame(req, resp)
}

// decide is the server's side of RFC 2131, 4.3, with one lease that is always free.
func (r *responder) decide(req *dhcpv4.DHCPv4) dhcpv4.MessageType {
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeInform:
		return dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeRequest:
		if id := req.ServerIdentifier(); id != nil && !id.IsUnspecified() && !same(id, r.c.Server) {
			return dhcpv4.MessageTypeNone // the client chose another server
		}
		asked := req.RequestedIPAddress()
		if asked == nil || asked.IsUnspecified() {
			asked = req.ClientIPAddr
		}
		if !same(asked, r.c.Address.Addr()) {
			return dhcpv4.MessageTypeNak
		}
		return dhcpv4.MessageTypeAck
	default:
		return dhcpv4.MessageTypeNone
	}
}

func (r *responder) message(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	resp, err := dhcpv4.New(dhcpv4.WithReply(req), dhcpv4.WithMessageType(kind))
	if err != nil {
		return nil, err
	}
	// RFC 6842.
	if id := req.Options.Get(dhcpv4.OptionClientIdentifier); len(id) > 0 && len(id) <= maxClientID {
		resp.UpdateOption(dhcpv4.OptClientIdentifier(id))
	}
	if kind == dhcpv4.MessageTypeNak {
		resp.UpdateOption(dhcpv4.OptServerIdentifier(r.c.Server.AsSlice()))
		return resp, nil
	}
	for _, o := range r.options {
		resp.UpdateOption(o)
	}
	if req.MessageType() == dhcpv4.MessageTypeInform {
		resp.ClientIPAddr = req.ClientIPAddr
	} else {
		resp.YourIPAddr = r.c.Address.Addr().AsSlice()
		resp.UpdateOption(dhcpv4.OptIPAddressLeaseTime(infinite))
	}
	if next, err := netip.ParseAddr(r.c.Options.TFTPServer); err == nil && next.Is4() {
		resp.ServerIPAddr = next.AsSlice()
	}
	if len(r.c.Options.BootFileName) < 128 {
		resp.BootFileName = r.c.Options.BootFileName
	}
	r.fit(req, resp)
	return resp, nil
}

// fit leaves out what the guest can live without until the message is as small
// as the client asks for.
func (r *responder) fit(req, resp *dhcpv4.DHCPv4) {
	limit := minMessage
	if size, err := req.MaxMessageSize(); err == nil && int(size)-28 > limit {
		limit = min(int(size)-28, maxMessage)
	}
	for _, code := range r.spare {
		if len(resp.ToBytes()) <= limit {
			return
		}
		resp.Options.Del(code)
	}
}

// frame addresses the answer (RFC 2131, 4.1).
func (r *responder) frame(req, resp *dhcpv4.DHCPv4) []byte {
	payload := resp.ToBytes()
	if len(payload) > maxMessage {
		return nil
	}
	dstMAC, dst := r.c.MAC, r.c.Address.Addr()
	switch {
	case resp.MessageType() == dhcpv4.MessageTypeNak, req.IsBroadcast() && unset(req.ClientIPAddr):
		dstMAC, dst = broadcastMAC, netip.AddrFrom4([4]byte{255, 255, 255, 255})
	case !unset(req.ClientIPAddr):
		if ci, ok := netip.AddrFromSlice(req.ClientIPAddr.To4()); ok {
			dst = ci
		}
	}
	return udpFrame(r.serverMAC, dstMAC, r.c.Server, dst, payload)
}

func unset(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }

func same(ip net.IP, a netip.Addr) bool {
	got, ok := netip.AddrFromSlice(ip)
	return ok && got.Unmap() == a
}

func only4(addrs []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		if a.Is4() {
			out = append(out, a.AsSlice())
		}
	}
	return out
}
