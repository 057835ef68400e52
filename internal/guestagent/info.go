// SPDX-License-Identifier: Apache-2.0

package guestagent

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"unicode"
)

const (
	maxText       = 128 // bytes of any text that is kept
	maxInterfaces = 32
	maxAddresses  = 16 // per interface
)

// OSInfo is what the guest says about its operating system.
type OSInfo struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	PrettyName    string `json:"pretty-name"`
	Version       string `json:"version"`
	VersionID     string `json:"version-id"`
	KernelRelease string `json:"kernel-release"`
	KernelVersion string `json:"kernel-version"`
	Machine       string `json:"machine"`
}

// OSInfo asks guest-get-osinfo.
func (c *Client) OSInfo(ctx context.Context) (OSInfo, error) {
	var o OSInfo
	if err := c.call(ctx, "guest-get-osinfo", nil, &o); err != nil {
		return OSInfo{}, err
	}
	for _, s := range []*string{&o.ID, &o.Name, &o.PrettyName, &o.Version, &o.VersionID, &o.KernelRelease, &o.KernelVersion, &o.Machine} {
		*s = text(*s)
	}
	return o, nil
}

// Interface is a network interface as the guest sees it.
type Interface struct {
	Name      string
	MAC       net.HardwareAddr // nil when it has none
	Addresses []netip.Addr     // neither loopback nor unspecified, without zones
}

// Interfaces asks guest-network-get-interfaces. The loopback interface and what
// is beyond the limits is left out.
func (c *Client) Interfaces(ctx context.Context) ([]Interface, error) {
	var raw []struct {
		Name      string `json:"name"`
		MAC       string `json:"hardware-address"`
		Addresses []struct {
			Address string `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	if err := c.call(ctx, "guest-network-get-interfaces", nil, &raw); err != nil {
		return nil, err
	}
	var out []Interface
	for _, r := range raw {
		if len(out) == maxInterfaces {
			break
		}
		i := Interface{Name: text(r.Name)}
		if mac, err := net.ParseMAC(r.MAC); err == nil && len(mac) == 6 {
			i.MAC = mac
		}
		loopback := false
		for _, a := range r.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			if err != nil {
				continue
			}
			addr = addr.Unmap().WithZone("")
			loopback = loopback || addr.IsLoopback()
			if !addr.IsLoopback() && !addr.IsUnspecified() && len(i.Addresses) < maxAddresses {
				i.Addresses = append(i.Addresses, addr)
			}
		}
		if !loopback {
			out = append(out, i)
		}
	}
	return out, nil
}

// Reboot asks the guest to reboot. The agent answers nothing when it does.
func (c *Client) Reboot(ctx context.Context) error {
	return c.within(ctx, func() error {
		_, err := c.conn.Write([]byte(`{"execute":"guest-shutdown","arguments":{"mode":"reboot"}}` + "\n"))
		return err
	})
}

// text makes a guest's text short, printable and valid UTF-8.
func text(s string) string {
	if len(s) > 8*maxText {
		s = s[:8*maxText]
	}
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.TrimSpace(s)
}
