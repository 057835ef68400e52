// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Config is what the server tells its guest.
type Config struct {
	// Interface is the guest's tap.
	Interface string
	// Server is the address the server answers as (podnet.Attached.DHCPServer).
	Server netip.Addr
	// MAC is the guest's; nobody else is answered.
	MAC net.HardwareAddr
	// Address is the guest's IPv4 address with its prefix length.
	Address netip.Prefix
	// Routes are the guest's IPv4 routes, the default route included.
	Routes []Route
	// DNS and Search come from the pod's resolv.conf (ParseResolvConf).
	DNS    []netip.Addr
	Search []string
	// MTU in bytes; 0 does not send it.
	MTU int
	// Hostname is not sent when empty.
	Hostname string
	// Options are those of the spec.
	Options Options
}

// Route is one route of the guest; an invalid Gateway means on the link.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr
}

// Options are an interface's dhcpOptions.
type Options struct {
	BootFileName string
	// TFTPServer is a name or an address.
	TFTPServer string
	NTP        []netip.Addr
	// Private are the options 224 to 254.
	Private map[uint8]string
}

// maxOption is what fits into one DHCP option (RFC 2132), in bytes.
const maxOption = 255

// check refuses what could not be sent.
func (c Config) check() error {
	switch {
	case c.Interface == "":
		return errors.New("interface: empty")
	case !c.Server.Is4():
		return fmt.Errorf("server %s: want an IPv4 address", c.Server)
	case len(c.MAC) != 6:
		return fmt.Errorf("MAC %q: want 6 bytes", c.MAC)
	case !c.Address.IsValid() || !c.Address.Addr().Is4():
		return fmt.Errorf("address %s: want an IPv4 address with a prefix length", c.Address)
	case c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535):
		return fmt.Errorf("MTU %d: want 68 to 65535", c.MTU)
	}
	for _, s := range []struct{ field, value string }{
		{"hostname", c.Hostname}, {"options.bootFileName", c.Options.BootFileName}, {"options.tftpServerName", c.Options.TFTPServer},
	} {
		if len(s.value) > maxOption {
			return fmt.Errorf("%s: %d bytes, want at most %d", s.field, len(s.value), maxOption)
		}
	}
	for code, value := range c.Options.Private {
		if code < 224 || code > 254 {
			return fmt.Errorf("options.private[%d]: want a code from 224 to 254", code)
		}
		if len(value) > maxOption {
			return fmt.Errorf("options.private[%d]: %d bytes, want at most %d", code, len(value), maxOption)
		}
	}
	return nil
}
