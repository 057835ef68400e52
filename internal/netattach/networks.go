// SPDX-License-Identifier: Apache-2.0

package netattach

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Annotations of pods and machines.
const (
	// NetworksAnnotation lists the networks that a pod is attached to.
	NetworksAnnotation = "k8s.v1.cni.cncf.io/networks"
	// StatusAnnotation says how a pod is attached.
	StatusAnnotation = "k8s.v1.cni.cncf.io/network-status"
	// podRouteAnnotation says whether the pod's own network has the default route.
	podRouteAnnotation = "ovn.kubernetes.io/default_route"
)

// Wanted are the networks that a machine asks for.
type Wanted struct {
	// Networks are those beside the pod's own, in the order of spec.networks.
	Networks []Network
	// PodDefaultRoute says whether the pod's own network is to have the guest's
	// default route; nil leaves it to what there is.
	PodDefaultRoute *bool
}

// Network is one network beside the pod's own.
type Network struct {
	// Name is the network's in the spec.
	Name string
	Element
	// DefaultRoute is <nad>.<namespace>.ovn.kubernetes.io/default_route.
	DefaultRoute *bool
}

// Definition is namespace/name of the NetworkAttachmentDefinition.
func (n Network) Definition() string { return n.Namespace + "/" + n.Element.Name }

// InterfaceName is the name of a network's interface in the pod, as in KubeVirt.
func InterfaceName(network string) string {
	sum := sha256.Sum256([]byte(network))
	return "pod" + hex.EncodeToString(sum[:])[:11]
}

// RouteAnnotation says whether a network of that definition has the guest's
// default route (Kube-OVN's key).
func RouteAnnotation(namespace, name string) string {
	return name + "." + namespace + "." + podRouteAnnotation
}

// SplitName splits a multus networkName, [namespace/]name.
func SplitName(networkName, namespace string) (ns, name string) {
	if ns, name, ok := strings.Cut(networkName, "/"); ok {
		return ns, name
	}
	return namespace, networkName
}

// Networks works out what a machine in namespace asks for. What the annotation
// NetworksAnnotation says of a network (addresses, a MAC, a default route) is
// joined with the spec's network of the same definition. The error is about the
// annotations and tells what would be accepted.
func Networks(namespace string, annotations map[string]string, spec *v1.VirtualMachineInstanceSpec) (Wanted, error) {
	var w Wanted
	macs := map[string]string{}
	for _, i := range spec.Domain.Devices.Interfaces {
		if i.State != "absent" {
			macs[i.Name] = i.MacAddress
		}
	}
	for i := range spec.Networks {
		n := &spec.Networks[i]
		mac, used := macs[n.Name]
		if n.Multus == nil || !used {
			continue
		}
		ns, name := SplitName(n.Multus.NetworkName, namespace)
		w.Networks = append(w.Networks, Network{
			Name:    n.Name,
			Element: Element{Name: name, Namespace: ns, Interface: InterfaceName(n.Name), MAC: mac},
		})
	}
	var err error
	if w.PodDefaultRoute, err = boolean(annotations, podRouteAnnotation); err != nil {
		return Wanted{}, err
	}
	for i := range w.Networks {
		n := &w.Networks[i]
		if n.DefaultRoute, err = boolean(annotations, RouteAnnotation(n.Namespace, n.Element.Name)); err != nil {
			return Wanted{}, err
		}
	}
	text := annotations[NetworksAnnotation]
	if strings.TrimSpace(text) == "" || len(w.Networks) == 0 {
		// Without such a network in the spec the list is none of the machine's: it
		// is the pod's alone, and up to whoever reads it there.
		return w, nil
	}
	elements, err := Parse(text, namespace)
	if err != nil {
		return Wanted{}, fmt.Errorf("%s: %w", NetworksAnnotation, err)
	}
	taken := map[int]bool{}
	for k, e := range elements {
		i := slices.IndexFunc(w.Networks, func(n Network) bool { return n.Namespace == e.Namespace && n.Element.Name == e.Name })
		for i >= 0 && taken[i] { // the same definition more than once
			next := slices.IndexFunc(w.Networks[i+1:], func(n Network) bool { return n.Namespace == e.Namespace && n.Element.Name == e.Name })
			if next < 0 {
				i = -1
				break
			}
			i += 1 + next
		}
		if i < 0 {
			return Wanted{}, fmt.Errorf("%s: entry %d names %s/%s, which no network of spec.networks stands for: remove it, or add a network with multus.networkName %s/%s",
				NetworksAnnotation, k, e.Namespace, e.Name, e.Namespace, e.Name)
		}
		taken[i] = true
		if err := w.Networks[i].join(e); err != nil {
			return Wanted{}, fmt.Errorf("%s: entry %d: %w", NetworksAnnotation, k, err)
		}
	}
	return w, nil
}

// join takes over what the annotation says of the network.
func (n *Network) join(e Element) error {
	if e.Interface != "" && e.Interface != n.Interface {
		return fmt.Errorf("interface %q: the interface of network %q is called %s; leave it out", e.Interface, n.Name, n.Interface)
	}
	if e.MAC != "" {
		if n.MAC != "" && canonicalMAC(n.MAC) != canonicalMAC(e.MAC) {
			return fmt.Errorf("mac %q: interface %q has the macAddress %s; remove one", e.MAC, n.Name, n.MAC)
		}
		n.MAC = e.MAC
	}
	n.IPs, n.Gateways, n.Args = slices.Clone(e.IPs), slices.Clone(e.Gateways), maps.Clone(e.Args)
	return nil
}

// Annotation is NetworksAnnotation for the machine's pod, empty when it has none.
func (w Wanted) Annotation() (string, error) {
	if len(w.Networks) == 0 {
		return "", nil
	}
	list := make([]Element, 0, len(w.Networks))
	for _, n := range w.Networks {
		list = append(list, n.Element)
	}
	b, err := json.Marshal(list)
	return string(b), err
}

func boolean(annotations map[string]string, key string) (*bool, error) {
	switch v := annotations[key]; v {
	case "":
		return nil, nil
	case "true", "false":
		return new(v == "true"), nil
	default:
		return nil, fmt.Errorf("%s: %q is neither \"true\" nor \"false\"", key, clip(v))
	}
}

func canonicalMAC(s string) string {
	if m, err := net.ParseMAC(s); err == nil {
		return m.String()
	}
	return s
}

// clip keeps a tenant's text short in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
