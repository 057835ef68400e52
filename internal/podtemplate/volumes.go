// SPDX-License-Identifier: Apache-2.0

package podtemplate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// Sizes of the pod's small tmpfs volumes. Nobody in the pod can fill more of
// the node's memory than these.
const (
	runSize     = "16Mi" // sockets, and QEMU's state while it is renewed
	machineSize = "16Mi" // machine.json and cloud-init images, each at most a Secret's 1 MiB and its file system
	logSize     = "1Mi"  // QEMU drops console output beyond it, the guest runs on
)

// nextSize bounds what the agent puts into the volume of newer launcher images:
// the one in use and the next, with room to spare. It is on the node's disk, and
// most of it is shared between the pods by hard links.
const nextSize = "512Mi"

type podVolumes struct {
	volumes     []corev1.Volume
	mounts      []corev1.VolumeMount
	devices     []corev1.VolumeDevice
	pullSecrets []corev1.LocalObjectReference
}

func (p *podVolumes) add(v corev1.Volume, path string, readOnly bool) {
	p.volumes = append(p.volumes, v)
	p.mounts = append(p.mounts, corev1.VolumeMount{Name: v.Name, MountPath: path, ReadOnly: readOnly})
}

func (p *podVolumes) emptyDir(name, path, memory string, readOnly bool) {
	dir := &corev1.EmptyDirVolumeSource{}
	if memory != "" {
		dir.Medium = corev1.StorageMediumMemory
		dir.SizeLimit = new(resource.MustParse(memory))
	}
	p.add(corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: dir}}, path, readOnly)
}

func (p *podVolumes) image(name, path, image string, policy corev1.PullPolicy, pullSecret string) {
	p.add(corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: policy},
	}}, path, true)
	ref := corev1.LocalObjectReference{Name: pullSecret}
	if pullSecret != "" && !slices.Contains(p.pullSecrets, ref) {
		p.pullSecrets = append(p.pullSecrets, ref)
	}
}

// secret mounts a Secret only because the kubelet puts no volume on the node
// that no container mounts: it is the agent that reads it there.
func (p *podVolumes) secret(name, secret string) {
	p.add(corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: new(int32(0o400))},
	}}, contract.SecretDir+"/"+name, true)
}

func (p *podVolumes) claim(i int, volume string, s *v1.PersistentVolumeClaimVolumeSource, block bool) {
	readOnly := isTrue(s.ReadOnly)
	v := corev1.Volume{Name: ClaimVolume(i), VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.ClaimName, ReadOnly: readOnly},
	}}
	if !block {
		p.add(v, contract.ClaimDir+"/"+volume, readOnly)
		return
	}
	p.volumes = append(p.volumes, v)
	p.devices = append(p.devices, corev1.VolumeDevice{Name: v.Name, DevicePath: contract.ClaimDeviceDir + "/" + volume})
}

func volumes(vmi *v1.VirtualMachineInstance, params Params) (*podVolumes, error) {
	p := &podVolumes{}
	p.emptyDir(contract.RunVolume, contract.RunDir, runSize, false)
	p.emptyDir(contract.MachineVolume, contract.MachineDir, machineSize, true)
	p.emptyDir(contract.LogVolume, contract.LogDir, logSize, false)
	p.emptyDir(contract.DiskVolume, contract.DiskDir, "", false)
	if contract.Version >= contract.NextSince {
		p.add(corev1.Volume{Name: contract.NextVolume, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse(nextSize))},
		}}, contract.NextDir, true)
	}

	seen := map[string]int{}
	for i := range vmi.Spec.Volumes {
		v := &vmi.Spec.Volumes[i]
		field := fmt.Sprintf("spec.volumes[%d]", i)
		if errs := validation.IsDNS1123Label(v.Name); len(errs) > 0 {
			return nil, fmt.Errorf("%s.name: %q: %s", field, v.Name, strings.Join(errs, ", "))
		}
		if first, ok := seen[v.Name]; ok {
			return nil, fmt.Errorf("%s.name: %q is the name of spec.volumes[%d] already", field, v.Name, first)
		}
		seen[v.Name] = i
		switch {
		case v.ContainerDisk != nil:
			d := v.ContainerDisk
			if d.Image == "" {
				return nil, fmt.Errorf("%s.containerDisk.image: required, for example registry.example/fedora:42", field)
			}
			p.image(DiskVolume(i), DiskDir(i), d.Image, d.ImagePullPolicy, d.ImagePullSecret)
		case v.CloudInitNoCloud != nil:
			if ref := v.CloudInitNoCloud.SecretRef; ref != nil {
				p.secret(UserDataVolume(v.Name), ref.Name)
			}
			if ref := v.CloudInitNoCloud.NetworkDataSecretRef; ref != nil {
				p.secret(NetworkDataVolume(v.Name), ref.Name)
			}
		case v.PersistentVolumeClaim != nil:
			s := v.PersistentVolumeClaim
			if s.ClaimName == "" {
				return nil, fmt.Errorf("%s.persistentVolumeClaim.claimName: required, the name of a claim in the namespace", field)
			}
			p.claim(i, v.Name, s, params.BlockClaims[s.ClaimName])
		case v.EmptyDisk != nil:
			// The launcher makes it in the volume "disks".
		default:
			return nil, fmt.Errorf("%s: volume %q has no source that is supported yet (containerDisk, persistentVolumeClaim, cloudInitNoCloud, emptyDisk)", field, v.Name)
		}
	}

	if fw := vmi.Spec.Domain.Firmware; fw != nil && fw.KernelBoot != nil && fw.KernelBoot.Container != nil {
		c := fw.KernelBoot.Container
		if c.Image == "" {
			return nil, fmt.Errorf("spec.domain.firmware.kernelBoot.container.image: required")
		}
		p.image(kernelBootVolume, contract.KernelBootDir, c.Image, c.ImagePullPolicy, c.ImagePullSecret)
	}
	return p, nil
}
