// SPDX-License-Identifier: Apache-2.0

package netattach

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Element is one entry of NetworksAnnotation.
type Element struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	// Interface is its name in the pod.
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
	// IPs are addresses to ask the network's IPAM for, with or without a prefix
	// length.
	IPs []string `json:"ips,omitempty"`
	// Gateways make this network carry the default route.
	Gateways []netip.Addr `json:"default-route,omitempty"`
	// Args go to the plugin as args.cni.
	Args map[string]any `json:"cni-args,omitempty"`
}

// Limits of NetworksAnnotation.
const (
	maxAnnotation = 64 << 10 // bytes
	maxElements   = 256
	maxIPs        = 16
)

// Parse reads NetworksAnnotation in either of its forms: a list of
// [namespace/]name[@interface] with commas between, or JSON.
func Parse(text, namespace string) ([]Element, error) {
	if len(text) > maxAnnotation {
		return nil, fmt.Errorf("has %d bytes; use %d at most", len(text), maxAnnotation)
	}
	text = strings.TrimSpace(text)
	var list []Element
	if strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{") {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&list); err != nil {
			return nil, fmt.Errorf("is no list of networks with the keys name, namespace, interface, mac, ips, default-route and cni-args: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("has something after the list of networks")
		}
	} else {
		for item := range strings.SplitSeq(text, ",") {
			item, iface, _ := strings.Cut(strings.TrimSpace(item), "@")
			e := Element{Name: item, Interface: iface}
			if ns, name, ok := strings.Cut(item, "/"); ok {
				e.Namespace, e.Name = ns, name
			}
			list = append(list, e)
		}
	}
	if len(list) > maxElements {
		return nil, fmt.Errorf("has %d networks; use %d at most", len(list), maxElements)
	}
	for i := range list {
		e := &list[i]
		if e.Namespace == "" {
			e.Namespace = namespace
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return list, nil
}

func (e *Element) check() error {
	if err := CheckName(e.Namespace, e.Name); err != nil {
		return err
	}
	if e.MAC != "" {
		if mac, err := net.ParseMAC(e.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return fmt.Errorf("mac %q: want a unicast address of 6 bytes such as 02:12:34:56:78:9a", clip(e.MAC))
		}
	}
	if len(e.IPs) > maxIPs || len(e.Gateways) > maxIPs {
		return fmt.Errorf("more than %d addresses", maxIPs)
	}
	for _, ip := range e.IPs {
		addr, _, _ := strings.Cut(ip, "/")
		if _, err := netip.ParseAddr(addr); err != nil {
			return fmt.Errorf("ips: %q is no address such as 10.1.0.7 or 10.1.0.7/24", clip(ip))
		}
		if strings.Contains(ip, "/") {
			if _, err := netip.ParsePrefix(ip); err != nil {
				return fmt.Errorf("ips: %q is no address such as 10.1.0.7 or 10.1.0.7/24", clip(ip))
			}
		}
	}
	for _, gw := range e.Gateways {
		if gw.Zone() != "" || gw.IsUnspecified() || gw.IsMulticast() {
			return fmt.Errorf("default-route: %q is no gateway's address", gw)
		}
	}
	return nil
}

// CheckName refuses what cannot be a NetworkAttachmentDefinition's.
func CheckName(namespace, name string) error {
	if msgs := validation.IsDNS1123Label(namespace); len(msgs) > 0 {
		return fmt.Errorf("namespace %q: %s", clip(namespace), msgs[0])
	}
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return fmt.Errorf("name %q: %s", clip(name), msgs[0])
	}
	return nil
}

// compact is JSON without blanks.
func compact(b []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return b
	}
	return out.Bytes()
}
