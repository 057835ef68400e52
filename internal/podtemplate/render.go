// SPDX-License-Identifier: Apache-2.0

package podtemplate

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/netattach"
)

// Params is what the pod depends on besides the instance.
type Params struct {
	// LauncherImage is the image of the pod's one container.
	LauncherImage string
	// LauncherPullPolicy is its pull policy; empty takes Kubernetes' default.
	LauncherPullPolicy corev1.PullPolicy
	// KVM asks for the node's KVM device. Without it the guest is emulated.
	KVM bool
	// VhostNet asks for the node's vhost-net device too, when the machine has a
	// virtio interface. Without it QEMU moves the packets itself.
	VhostNet bool
	// MemoryOverhead is what QEMU needs beyond the guest's memory, see machine.Overhead.
	MemoryOverhead resource.Quantity
	// BlockClaims are the names of those of the instance's claims that are block
	// devices; the others have file systems.
	BlockClaims map[string]bool
}

// Seconds of the pod's grace period beyond the machine's, in which QEMU, the
// hook and the kubelet wind up (as in the peer's pods).
const graceSlack = 30

const defaultGrace = 30

// Grace is the time in seconds that the guest has to power down: the spec's or 30.
func Grace(vmi *v1.VirtualMachineInstance) int64 {
	if g := vmi.Spec.TerminationGracePeriodSeconds; g != nil {
		return max(*g, 0)
	}
	return defaultGrace
}

// PodGrace is the grace period in seconds with which the pod is deleted. Whoever
// asks for 0 or 1 wants the machine gone, so there is no slack to wait through;
// 0 itself would make Kubernetes forget the pod while QEMU still runs.
func PodGrace(vmi *v1.VirtualMachineInstance) int64 {
	g := Grace(vmi)
	if g <= 1 {
		return g + 1
	}
	return g + graceSlack
}

// Render makes the pod of vmi. Its errors name the field and what would be accepted.
func Render(vmi *v1.VirtualMachineInstance, p Params) (*corev1.Pod, error) {
	if vmi.Name == "" || vmi.UID == "" {
		return nil, fmt.Errorf("metadata: an instance with a name and a UID is needed, as the API server gives them")
	}
	if p.LauncherImage == "" {
		return nil, fmt.Errorf("launcher image: must not be empty")
	}
	if err := refuse(vmi); err != nil {
		return nil, err
	}
	res, err := resources(vmi, p)
	if err != nil {
		return nil, err
	}
	vols, err := volumes(vmi, p)
	if err != nil {
		return nil, err
	}

	notes, err := annotations(vmi, p)
	if err != nil {
		return nil, err
	}

	spec := &vmi.Spec
	grace := PodGrace(vmi)
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            PodName(vmi.Name, vmi.UID),
			Namespace:       vmi.Namespace,
			Labels:          labels(vmi),
			Annotations:     notes,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceKind)},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			ReadinessGates:                []corev1.PodReadinessGate{{ConditionType: v1.UnpausedReadinessGate}},
			SecurityContext: &corev1.PodSecurityContext{
				RunAsUser:      new(int64(v1.QEMUUser)),
				RunAsGroup:     new(int64(v1.QEMUUser)),
				RunAsNonRoot:   new(true),
				FSGroup:        new(int64(v1.QEMUUser)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Hostname:                  Hostname(vmi.Name, spec.Hostname),
			Subdomain:                 spec.Subdomain,
			DNSPolicy:                 spec.DNSPolicy,
			DNSConfig:                 spec.DNSConfig.DeepCopy(),
			NodeSelector:              nodeSelector(vmi),
			Affinity:                  spec.Affinity.DeepCopy(),
			PriorityClassName:         spec.PriorityClassName,
			SchedulerName:             spec.SchedulerName,
			Tolerations:               copySlice(spec.Tolerations),
			TopologySpreadConstraints: copySlice(spec.TopologySpreadConstraints),
			ImagePullSecrets:          vols.pullSecrets,
			Volumes:                   vols.volumes,
			Containers: []corev1.Container{{
				Name:            v1.ComputeContainer,
				Image:           p.LauncherImage,
				ImagePullPolicy: p.LauncherPullPolicy,
				Command:         []string{contract.Launcher, "run"},
				Ports:           ports(vmi),
				Resources:       res,
				ResizePolicy:    resizePolicy(),
				VolumeMounts:    vols.mounts,
				VolumeDevices:   vols.devices,
				Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
					Command: []string{contract.Launcher, "shutdown", "--grace", strconv.FormatInt(Grace(vmi), 10) + "s"},
				}}},
				// The launcher writes why it refused; QEMU's last words are in the log.
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					ReadOnlyRootFilesystem:   new(true),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	return pod, nil
}

// refuse catches the parts of the spec that would change the pod and that this
// package cannot render. Volumes are refused where they are rendered.
func refuse(vmi *v1.VirtualMachineInstance) error {
	s := &vmi.Spec
	for _, c := range []struct {
		field string
		set   bool
	}{
		{"spec.livenessProbe", s.LivenessProbe != nil},
		{"spec.readinessProbe", s.ReadinessProbe != nil},
		{"spec.resourceClaims", len(s.ResourceClaims) > 0},
		{"spec.utilityVolumes", len(s.UtilityVolumes) > 0},
		{"spec.serviceAccountName", s.ServiceAccountName != ""},
		{"spec.accessCredentials", len(s.AccessCredentials) > 0},
		{"spec.domain.devices.gpus", len(s.Domain.Devices.GPUs) > 0},
		{"spec.domain.devices.hostDevices", len(s.Domain.Devices.HostDevices) > 0},
		{"spec.domain.devices.filesystems", len(s.Domain.Devices.Filesystems) > 0},
		{"spec.domain.memory.hugepages", s.Domain.Memory != nil && s.Domain.Memory.Hugepages != nil},
		{"spec.domain.cpu.dedicatedCpuPlacement", s.Domain.CPU != nil && isTrue(s.Domain.CPU.DedicatedCPUPlacement)},
	} {
		if c.set {
			return fmt.Errorf("%s: not supported yet; leave it out", c.field)
		}
	}
	for i, n := range s.Networks {
		if n.Pod == nil && n.Multus == nil {
			return fmt.Errorf("spec.networks[%d]: only pod and multus are supported yet", i)
		}
		if n.Multus != nil && isTrue(n.Multus.Default) {
			return fmt.Errorf("spec.networks[%d].multus.default: not supported yet; leave it out", i)
		}
	}
	return nil
}

func labels(vmi *v1.VirtualMachineInstance) map[string]string {
	out := maps.Clone(vmi.Labels)
	if out == nil {
		out = map[string]string{}
	}
	// Says where the instance is now; the pod may come to stand elsewhere.
	delete(out, v1.NodeNameLabel)
	out[v1.AppLabel] = v1.AppLauncher
	out[v1.CreatedByLabel] = string(vmi.UID)
	out[v1.VMNameLabel] = Hostname(vmi.Name, vmi.Spec.Hostname)
	out[v1.VMIIDLabel] = IDLabel(vmi.Name)
	return out
}

func annotations(vmi *v1.VirtualMachineInstance, p Params) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range vmi.Annotations {
		if strings.HasPrefix(k, "kubectl.kubernetes.io/") || strings.HasSuffix(k, "-observed-api-version") || loosens(k) {
			continue
		}
		out[k] = v
	}
	out[v1.DomainAnnotation] = vmi.Name
	out["kubectl.kubernetes.io/default-container"] = v1.ComputeContainer
	out["kubevirt.io/migrationTransportUnix"] = "true"
	out["descheduler.alpha.kubernetes.io/request-evict-only"] = ""
	out[v1.MemoryOverheadAnnotation] = strconv.FormatInt(p.MemoryOverhead.Value(), 10)
	// What stands there already was joined into this. A pod's own CNI plugin may act
	// on it (Multus does); where none does, the node agent does.
	wanted, err := netattach.Networks(vmi.Namespace, vmi.Annotations, &vmi.Spec)
	if err != nil {
		return nil, fmt.Errorf("metadata.annotations: %w", err)
	}
	networks, err := wanted.Annotation()
	if err != nil {
		return nil, fmt.Errorf("encode the pod's networks: %w", err)
	}
	if networks != "" {
		out[netattach.NetworksAnnotation] = networks
	}
	// How the pod is attached is not the user's to say.
	delete(out, netattach.StatusAnnotation)
	return out, nil
}

// loosens tells whether Kubernetes takes an annotation of a pod for an order about
// its confinement. Whoever may write instances must not give such orders.
func loosens(annotation string) bool {
	prefix, _, _ := strings.Cut(annotation, "/")
	return strings.HasPrefix(prefix, "container.apparmor.security.") || strings.HasPrefix(prefix, "container.seccomp.security.") || strings.HasPrefix(prefix, "seccomp.security.")
}

func nodeSelector(vmi *v1.VirtualMachineInstance) map[string]string {
	out := map[string]string{}
	if a := vmi.Spec.Architecture; a != "" {
		out[corev1.LabelArchStable] = a
	}
	maps.Copy(out, vmi.Spec.NodeSelector)
	out[v1.SchedulableLabel] = "true"
	return out
}

// ports tells the ports that the spec lists; like every container's they are for information.
func ports(vmi *v1.VirtualMachineInstance) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for _, iface := range vmi.Spec.Domain.Devices.Interfaces {
		for _, p := range iface.Ports {
			out = append(out, corev1.ContainerPort{
				Name:          p.Name,
				Protocol:      corev1.Protocol(strings.ToUpper(p.Protocol)),
				ContainerPort: p.Port,
			})
		}
	}
	return out
}

func isTrue(b *bool) bool { return b != nil && *b }

// copySlice copies s with all that its elements point to.
func copySlice[T any, P interface {
	*T
	DeepCopyInto(*T)
}](s []T) []T {
	if s == nil {
		return nil
	}
	out := make([]T, len(s))
	for i := range s {
		P(&s[i]).DeepCopyInto(&out[i])
	}
	return out
}
