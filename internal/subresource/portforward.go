// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const dialLimit = 10 * time.Second

// errRefused is what a UDP socket reports after a datagram to a closed port.
const errRefused = syscall.ECONNREFUSED

func (s *Server) portForwardVM(a authorized) error {
	vm, err := s.vm(a.r.Context(), a.target)
	if err != nil {
		return err
	}
	if vm.Status.Created == nil || !*vm.Status.Created {
		return vmConflict(vm.Name, "VM is not running: it has no instance (status.created is not true)")
	}
	return s.portForwardVMI(a)
}

func (s *Server) portForwardVMI(a authorized) error {
	ctx := a.r.Context()
	vmi, err := s.vmi(ctx, a.target)
	if err != nil {
		return err
	}
	if isPaused(vmi) {
		return vmiConflict(vmi.Name, "VMI is paused")
	}
	address, err := s.podAddress(ctx, vmi)
	if err != nil {
		return err
	}
	return s.stream(a, vmi, func(ctx context.Context) (onward, error) {
		d := net.Dialer{Timeout: dialLimit}
		conn, err := d.DialContext(ctx, a.target.protocol, net.JoinHostPort(address.String(), strconv.Itoa(a.target.port)))
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("connect to port %d of %s/%s: %w", a.target.port, vmi.Namespace, vmi.Name, err))
		}
		return conn, nil
	})
}

// podAddress is the machine's address on the pod network: the first in its
// status. The status alone is not trusted, since guests and users have a hand in
// it and the connection is made from here, where more can be reached: the
// address must be one that the kubelet reports for a pod of this instance.
func (s *Server) podAddress(ctx context.Context, vmi *kubevirtv1.VirtualMachineInstance) (netip.Addr, error) {
	if len(vmi.Status.Interfaces) == 0 || vmi.Status.Interfaces[0].IPAddress == "" {
		return netip.Addr{}, vmiConflict(vmi.Name, "no network interfaces are present: status.interfaces[0].ipAddress is empty")
	}
	text := vmi.Status.Interfaces[0].IPAddress
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, vmiConflict(vmi.Name, "status.interfaces[0].ipAddress %.60q is no address", text)
	}
	var pods corev1.PodList
	err = s.client.List(ctx, &pods, client.InNamespace(vmi.Namespace), client.MatchingLabels{kubevirtv1.CreatedByLabel: string(vmi.UID)})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("pods of instance %s/%s: %w", vmi.Namespace, vmi.Name, err)
	}
	for i := range pods.Items {
		if hasAddress(&pods.Items[i], vmi, address) {
			return address, nil
		}
	}
	return netip.Addr{}, vmiConflict(vmi.Name, "status.interfaces[0].ipAddress %s is not the address of the machine's pod: only the pod network can be forwarded to", address)
}

func hasAddress(pod *corev1.Pod, vmi *kubevirtv1.VirtualMachineInstance, address netip.Addr) bool {
	if !metav1.IsControlledBy(pod, vmi) || pod.Spec.HostNetwork {
		return false
	}
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a == address {
			return true
		}
	}
	return false
}
