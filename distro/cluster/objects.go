// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	discoveryapply "k8s.io/client-go/applyconfigurations/discovery/v1"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// own is how this package applies its objects.
var own = metav1.ApplyOptions{FieldManager: "skerry-cluster", Force: true}

// applyDNS makes the Service kube-dns, which has no pods behind it, and gives
// the DNS server its rights.
func (c *Config) applyDNS(ctx context.Context, client kubernetes.Interface) error {
	role := rbacapply.ClusterRole(dnsUser).WithRules(
		rbacapply.PolicyRule().WithAPIGroups("").WithResources("services", "namespaces").WithVerbs("list", "watch"),
		rbacapply.PolicyRule().WithAPIGroups("discovery.k8s.io").WithResources("endpointslices").WithVerbs("list", "watch"))
	if _, err := client.RbacV1().ClusterRoles().Apply(ctx, role, own); err != nil {
		return fmt.Errorf("apply cluster role %s: %w", dnsUser, err)
	}
	binding := rbacapply.ClusterRoleBinding(dnsUser).
		WithRoleRef(rbacapply.RoleRef().WithAPIGroup("rbac.authorization.k8s.io").WithKind("ClusterRole").WithName(dnsUser)).
		WithSubjects(rbacapply.Subject().WithAPIGroup("rbac.authorization.k8s.io").WithKind("User").WithName(dnsUser))
	if _, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, own); err != nil {
		return fmt.Errorf("apply cluster role binding %s: %w", dnsUser, err)
	}
	return applyEndpoint(ctx, client, metav1.NamespaceSystem, "kube-dns", c.DNSServiceAddress(), c.BridgeAddress(), []port{
		{"dns", corev1.ProtocolUDP, 53, c.Ports.DNS},
		{"dns-tcp", corev1.ProtocolTCP, 53, c.Ports.DNS},
	})
}

// applyController makes the Service that webhooks and the aggregated API go
// through, with this node behind it.
func (c *Config) applyController(ctx context.Context, client kubernetes.Interface) error {
	if _, err := client.CoreV1().Namespaces().Apply(ctx, coreapply.Namespace(skerryNamespace), own); err != nil {
		return fmt.Errorf("apply namespace %s: %w", skerryNamespace, err)
	}
	if err := failpoint.Hit(ctx, "cluster.objects.before-endpoint"); err != nil {
		return err
	}
	return applyEndpoint(ctx, client, skerryNamespace, controllerService, netip.Addr{}, c.NodeAddress(), []port{
		{"https", corev1.ProtocolTCP, 443, c.Ports.Controller},
	})
}

type port struct {
	name     string
	protocol corev1.Protocol
	port     int
	target   int
}

// applyEndpoint makes a Service without a selector and its one endpoint.
func applyEndpoint(ctx context.Context, client kubernetes.Interface, namespace, name string, clusterIP, target netip.Addr, ports []port) error {
	spec := coreapply.ServiceSpec().WithType(corev1.ServiceTypeClusterIP)
	if clusterIP.IsValid() {
		spec.WithClusterIP(clusterIP.String())
	}
	slice := discoveryapply.EndpointSlice(name, namespace).
		WithLabels(map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "skerry"}).
		WithAddressType(discoveryv1.AddressTypeIPv4).
		WithEndpoints(discoveryapply.Endpoint().WithAddresses(target.String()).WithConditions(discoveryapply.EndpointConditions().WithReady(true)))
	for _, p := range ports {
		spec.WithPorts(coreapply.ServicePort().WithName(p.name).WithProtocol(p.protocol).WithPort(int32(p.port)))
		slice.WithPorts(discoveryapply.EndpointPort().WithName(p.name).WithProtocol(p.protocol).WithPort(int32(p.target)))
	}
	if _, err := client.CoreV1().Services(namespace).Apply(ctx, coreapply.Service(name, namespace).WithSpec(spec), own); err != nil {
		return fmt.Errorf("apply service %s/%s: %w", namespace, name, err)
	}
	if _, err := client.DiscoveryV1().EndpointSlices(namespace).Apply(ctx, slice, own); err != nil {
		return fmt.Errorf("apply endpoint slice %s/%s: %w", namespace, name, err)
	}
	return nil
}
