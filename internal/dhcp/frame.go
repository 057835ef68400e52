// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	etherHeader = 14
	ipHeader    = 20
	udpHeader   = 8
	serverPort  = 67
	clientPort  = 68
	etherIPv4   = 0x0800
	protoUDP    = 17
	// maxFrame is the longest frame that is looked at.
	maxFrame = 2048
)

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// requestPayload is the UDP payload of a frame that is addressed to a DHCP
// server. Checksums are not looked at: a guest that leaves them to its virtual
// card has not filled them in.
func requestPayload(frame []byte) ([]byte, bool) {
	if len(frame) < etherHeader+ipHeader+udpHeader || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return nil, false
	}
	ip := frame[etherHeader:]
	head, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || head < ipHeader || total > len(ip) || total < head+udpHeader || ip[9] != protoUDP {
		return nil, false
	}
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 { // a fragment
		return nil, false
	}
	udp := ip[head:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != serverPort || length < udpHeader || length > len(udp) {
		return nil, false
	}
	return udp[udpHeader:length], true
}

// udpFrame is an Ethernet frame from a DHCP server to its client.
func udpFrame(srcMAC, dstMAC net.HardwareAddr, src, dst netip.Addr, payload []byte) []byte {
	f := make([]byte, etherHeader+ipHeader+udpHeader+len(payload))
	copy(f, dstMAC)
	copy(f[6:], srcMAC)
	binary.BigEndian.PutUint16(f[12:], etherIPv4)

	ip := f[etherHeader:]
	ip[0] = 0x45
	ip[1] = 0x10 // low delay, as DHCP servers do
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8] = 64
	ip[9] = protoUDP
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipHeader]))

	udp := ip[ipHeader:]
	binary.BigEndian.PutUint16(udp, serverPort)
	binary.BigEndian.PutUint16(udp[2:], clientPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpHeader:], payload)
	check := ^sum(sum(protoUDP+uint16(len(udp)), ip[12:ipHeader]), udp)
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return f
}

// sum adds b to the one's complement sum start (RFC 1071).
func sum(start uint16, b []byte) uint16 {
	s := uint32(start)
	for len(b) > 1 {
		s += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
