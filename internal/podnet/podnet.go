// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/internal/netns"
)

// Binding is how an interface of the guest is joined to the pod's.
type Binding string

// The bindings, as in KubeVirt's API.
const (
	// Masquerade gives the guest a private address behind the pod's.
	Masquerade Binding = "masquerade"
	// Bridge moves the pod's address (and MAC) into the guest.
	Bridge Binding = "bridge"
)

// Config is all that Setup has to know.
type Config struct {
	// UID and GID own the taps (QEMU's user).
	UID, GID int
	// Seed makes the MAC addresses of interfaces that have none in their spec.
	// It should be the same for every start of the same machine (its firmware
	// UUID, say): guests remember their interfaces by MAC.
	Seed string
	// NICs are the guest's interfaces.
	NICs []NIC
}

// NIC is one interface of the guest.
type NIC struct {
	// Name is its name in the spec.
	Name    string
	Binding Binding
	// PodInterface is the pod's interface; empty is DefaultPodInterface.
	PodInterface string
	// MAC is what the guest shall have. Empty: the pod interface's (bridge) or
	// one made from Config.Seed and Name (masquerade).
	MAC net.HardwareAddr
	// Ports limit what a masquerade NIC lets in; empty lets in everything.
	Ports []Port
	// CIDR and CIDR6 are the guest's networks with the masquerade binding; zero
	// values are DefaultCIDR and DefaultCIDR6. The first host address is the
	// gateway, the second the guest.
	CIDR, CIDR6 netip.Prefix
	// VnetHdr makes the tap with IFF_VNET_HDR (virtio models).
	VnetHdr bool
	// Attached says that PodInterface is on a network beside the pods' own. The
	// guest is there as if it were plugged in: it may have more addresses than its
	// own and forward for others; what it may not is that network's to say.
	Attached bool
}

// Port is one port that is forwarded to the guest.
type Port struct {
	// Protocol is TCP (also when empty) or UDP.
	Protocol string
	Port     uint16
}

// DefaultPodInterface is the pod network's interface in every pod.
const DefaultPodInterface = "eth0"

// The guest's networks with the masquerade binding (KubeVirt's defaults).
var (
	DefaultCIDR  = netip.MustParsePrefix("10.0.2.0/24")
	DefaultCIDR6 = netip.MustParsePrefix("fd10:0:2::/120")
)

// Attached is an interface as it was set up.
type Attached struct {
	Name    string
	Binding Binding
	// Tap is the persistent tap for QEMU; Bridge is what it is a port of.
	Tap, Bridge string
	// PodInterface is the pod's interface (its name for the world: eth0).
	PodInterface string
	// MAC is the guest's.
	MAC net.HardwareAddr
	// MTU in bytes, for the guest.
	MTU int
	// PodIPs is under which addresses the guest is reached; IPv4 first.
	PodIPs []netip.Addr
	// Addresses are the guest's own, with their prefix lengths; IPv4 first.
	Addresses []netip.Prefix
	// Routes are the guest's, default routes included.
	Routes []Route
	// DHCPServer is the address the DHCP server answers as. The guest can reach
	// it without any route.
	DHCPServer netip.Addr
}

// Route is one route of the guest.
type Route struct {
	Dst netip.Prefix
	// Gateway is invalid for a destination that is on the link.
	Gateway netip.Addr
}

// Gateway is the gateway of the default route of addr's family, or invalid.
func (a Attached) Gateway(ipv6 bool) netip.Addr {
	for _, r := range a.Routes {
		if r.Dst.Bits() == 0 && r.Dst.Addr().Is6() == ipv6 {
			return r.Gateway
		}
	}
	return netip.Addr{}
}

// Setup connects the NICs in the network namespace ns and returns them in the
// same order. It needs CAP_NET_ADMIN in the namespace and CAP_SYS_ADMIN to enter it.
func Setup(ctx context.Context, ns *os.File, c Config) ([]Attached, error) {
	nics, err := checked(c)
	if err != nil {
		return nil, err
	}
	var out []Attached
	err = netns.Do(ns, func() error {
		s, err := newSetup(ctx, c)
		if err != nil {
			return err
		}
		defer s.close()
		for _, nic := range nics {
			a, err := s.attach(nic)
			if err != nil {
				return fmt.Errorf("interface %q: %w", nic.Name, err)
			}
			out = append(out, a)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// checked returns the NICs with their defaults filled in.
func checked(c Config) ([]NIC, error) {
	if c.UID <= 0 || c.GID <= 0 {
		return nil, fmt.Errorf("owner %d:%d of the taps: want a user and group above 0", c.UID, c.GID)
	}
	seen := map[string]string{}
	nics := make([]NIC, 0, len(c.NICs))
	for _, nic := range c.NICs {
		if err := nic.complete(c.Seed); err != nil {
			return nil, fmt.Errorf("interface %q: %w", nic.Name, err)
		}
		if other, dup := seen[nic.PodInterface]; dup {
			return nil, fmt.Errorf("interface %q: pod interface %s is already used by interface %q", nic.Name, nic.PodInterface, other)
		}
		seen[nic.PodInterface] = nic.Name
		nics = append(nics, nic)
	}
	return nics, nil
}

func (n *NIC) complete(seed string) error {
	if n.Name == "" {
		return errors.New("has no name")
	}
	if n.PodInterface == "" {
		n.PodInterface = DefaultPodInterface
	}
	if len(n.PodInterface) > 15 {
		return fmt.Errorf("pod interface %q: longer than 15 bytes", n.PodInterface)
	}
	// It becomes part of paths below /proc/sys.
	if strings.ContainsAny(n.PodInterface, "/: \t\n") || n.PodInterface == "." || n.PodInterface == ".." {
		return fmt.Errorf("pod interface %q: want a link's name", n.PodInterface)
	}
	if len(n.MAC) > 0 {
		if len(n.MAC) != 6 || n.MAC[0]&1 != 0 {
			return fmt.Errorf("MAC %s: want a unicast address of 6 bytes", n.MAC)
		}
		if n.MAC.String() == bridgeMAC.String() {
			return fmt.Errorf("MAC %s: reserved for the bridge", n.MAC)
		}
	}
	switch n.Binding {
	case Masquerade:
		if n.Attached {
			return fmt.Errorf("binding %s: works on the pods' own network only", Masquerade)
		}
		return n.completeMasquerade(seed)
	case Bridge:
		if len(n.Ports) > 0 {
			return errors.New("ports: only the masquerade binding can limit them")
		}
		return nil
	default:
		return fmt.Errorf("binding %q: want %s or %s", n.Binding, Masquerade, Bridge)
	}
}

func (n *NIC) completeMasquerade(seed string) error {
	if len(n.MAC) == 0 {
		if seed == "" {
			return errors.New("has no MAC and there is no seed to make one from")
		}
		n.MAC = StableMAC(seed, n.Name)
	}
	if !n.CIDR.IsValid() {
		n.CIDR = DefaultCIDR
	}
	if !n.CIDR.Addr().Is4() || n.CIDR.Bits() > 30 || n.CIDR.Bits() < 8 {
		return fmt.Errorf("guest network %s: want an IPv4 network between /8 and /30", n.CIDR)
	}
	if !n.CIDR6.IsValid() {
		n.CIDR6 = DefaultCIDR6
	}
	if !n.CIDR6.Addr().Is6() || n.CIDR6.Addr().Is4In6() || n.CIDR6.Bits() > 126 || n.CIDR6.Bits() < 32 {
		return fmt.Errorf("guest network %s: want an IPv6 network between /32 and /126", n.CIDR6)
	}
	n.CIDR, n.CIDR6 = n.CIDR.Masked(), n.CIDR6.Masked()
	n.Ports = slices.Clone(n.Ports)
	for i := range n.Ports {
		switch n.Ports[i].Protocol {
		case "":
			n.Ports[i].Protocol = "TCP"
		case "TCP", "UDP":
		default:
			return fmt.Errorf("ports[%d].protocol %q: want TCP or UDP", i, n.Ports[i].Protocol)
		}
		if n.Ports[i].Port == 0 {
			return fmt.Errorf("ports[%d].port: want 1 to 65535", i)
		}
	}
	return nil
}
