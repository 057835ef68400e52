// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

// exposeOptions are the flags of expose.
type exposeOptions struct {
	name, port, targetPort, protocol, portName string
	serviceType, clusterIP, externalIP         string
	ipFamily, ipFamilyPolicy                   string
}

func (g *globals) expose() *cobra.Command {
	var o exposeOptions
	cmd := &cobra.Command{
		Use:     "expose vm|vmi NAME --name SERVICE",
		Short:   "Make a Service for a machine",
		Example: "  # port 22 of the guest as Service myvm-ssh\n  expose vm myvm --name myvm-ssh --port 22",
		Args:    args(1, 2),
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the Service (required)")
	f.StringVar(&o.port, "port", "", "port of the Service (default: the ports of the machine's interface on the pod network)")
	f.StringVar(&o.targetPort, "target-port", "", "port of the guest, a number or a name (default: that of --port)")
	f.StringVar(&o.protocol, "protocol", "TCP", "TCP or UDP")
	f.StringVar(&o.portName, "port-name", "", "name of the port")
	f.StringVar(&o.serviceType, "type", "ClusterIP", "ClusterIP, NodePort or LoadBalancer")
	f.StringVar(&o.clusterIP, "cluster-ip", "", "address of the Service (default: any free one)")
	f.StringVar(&o.externalIP, "external-ip", "", "an additional address that reaches the Service")
	f.StringVar(&o.ipFamily, "ip-family", "", "IPv4, IPv6, or both: IPv4,IPv6")
	f.StringVar(&o.ipFamilyPolicy, "ip-family-policy", "", "SingleStack, PreferDualStack or RequireDualStack")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		resource := vms
		name := args[len(args)-1]
		if len(args) == 2 {
			var err error
			if resource, err = kind(args[0]); err != nil {
				return err
			}
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		var owner metav1.OwnerReference
		var spec kubevirtv1.VirtualMachineInstanceSpec
		if resource == vms {
			var vm kubevirtv1.VirtualMachine
			err = c.get(ctx, vms, name, &vm)
			spec, owner = vm.Spec.Template.Spec, *metav1.NewControllerRef(&vm, kubevirtv1.VirtualMachineKind)
		} else {
			var vmi kubevirtv1.VirtualMachineInstance
			err = c.get(ctx, vmis, name, &vmi)
			spec, owner = vmi.Spec, *metav1.NewControllerRef(&vmi, kubevirtv1.VirtualMachineInstanceKind)
		}
		if err != nil {
			return c.explain(ctx, err, resource, name, "expose")
		}
		owner.Controller, owner.BlockOwnerDeletion = nil, nil
		service, err := o.service(name, c.namespace, spec, owner)
		if err != nil {
			return err
		}
		b, err := c.do(ctx, http.MethodPost, "/api/v1/namespaces/"+url.PathEscape(c.namespace)+"/services", nil, service)
		if err != nil {
			return fmt.Errorf("make Service %s: %w", o.name, err)
		}
		var made corev1.Service
		if err := json.Unmarshal(b, &made); err != nil {
			return fmt.Errorf("read the new Service: %w", err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Service %s successfully created for %s %s\n", made.Name, strings.TrimSuffix(resource, "s"), name)
		return nil
	}
	return cmd
}

// service is what the options ask for. It selects the machine's pod.
func (o exposeOptions) service(machine, namespace string, spec kubevirtv1.VirtualMachineInstanceSpec, owner metav1.OwnerReference) (*corev1.Service, error) {
	if o.name == "" {
		return nil, errors.New("--name is required: the name of the Service")
	}
	protocol := corev1.Protocol(strings.ToUpper(o.protocol))
	if protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP {
		return nil, fmt.Errorf("--protocol %.20q: must be TCP or UDP", o.protocol)
	}
	s := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{Kind: "Service", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: o.name, Namespace: namespace, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec: corev1.ServiceSpec{
			Selector:  map[string]string{kubevirtv1.VMIIDLabel: podtemplate.IDLabel(machine)},
			ClusterIP: o.clusterIP,
		},
	}
	types := map[string]corev1.ServiceType{"clusterip": corev1.ServiceTypeClusterIP, "nodeport": corev1.ServiceTypeNodePort, "loadbalancer": corev1.ServiceTypeLoadBalancer}
	var ok bool
	if s.Spec.Type, ok = types[strings.ToLower(o.serviceType)]; !ok {
		return nil, fmt.Errorf("--type %.20q: must be ClusterIP, NodePort or LoadBalancer", o.serviceType)
	}
	if o.externalIP != "" {
		s.Spec.ExternalIPs = []string{o.externalIP}
	}
	if o.ipFamilyPolicy != "" {
		s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicy(o.ipFamilyPolicy))
	}
	if o.ipFamily != "" {
		for _, family := range strings.Split(o.ipFamily, ",") {
			switch strings.ToLower(family) {
			case "ipv4":
				s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPv4Protocol)
			case "ipv6":
				s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPv6Protocol)
			default:
				return nil, fmt.Errorf("--ip-family %.20q: must be IPv4, IPv6 or both with a comma", o.ipFamily)
			}
		}
	}
	var err error
	s.Spec.Ports, err = o.ports(protocol, spec)
	return s, err
}

// ports are those of the flags or, without --port, those that the machine's
// interface on the pod network declares.
func (o exposeOptions) ports(protocol corev1.Protocol, spec kubevirtv1.VirtualMachineInstanceSpec) ([]corev1.ServicePort, error) {
	if o.port != "" {
		n, err := port(o.port, false)
		if err != nil {
			return nil, fmt.Errorf("--port: %w", err)
		}
		p := corev1.ServicePort{Name: o.portName, Protocol: protocol, Port: int32(n), TargetPort: intstr.FromInt32(int32(n))}
		if o.targetPort != "" {
			p.TargetPort = intstr.Parse(o.targetPort)
			if p.TargetPort.Type == intstr.Int {
				if _, err := port(o.targetPort, false); err != nil {
					return nil, fmt.Errorf("--target-port: %w", err)
				}
			}
		}
		return []corev1.ServicePort{p}, nil
	}
	if o.targetPort != "" {
		return nil, errors.New("--target-port needs --port")
	}
	onPods := map[string]bool{}
	for _, n := range spec.Networks {
		if n.Pod != nil {
			onPods[n.Name] = true
		}
	}
	var ports []corev1.ServicePort
	for _, i := range spec.Domain.Devices.Interfaces {
		if !onPods[i.Name] {
			continue
		}
		for n, p := range i.Ports {
			name := p.Name
			if name == "" {
				name = "port-" + strconv.Itoa(n+1)
			}
			proto := corev1.Protocol(strings.ToUpper(p.Protocol))
			if proto == "" {
				proto = corev1.ProtocolTCP
			}
			ports = append(ports, corev1.ServicePort{Name: name, Protocol: proto, Port: p.Port, TargetPort: intstr.FromInt32(p.Port)})
		}
	}
	if len(ports) == 0 {
		return nil, errors.New("--port is required: the machine's interfaces declare no ports")
	}
	return ports, nil
}
