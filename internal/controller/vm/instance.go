// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

// startPaused is the one value of spec.startStrategy.
const startPaused = "Paused"

// Instance makes the instance of a machine.
func Instance(vm *v1.VirtualMachine, paused bool) (*v1.VirtualMachineInstance, error) {
	t := vm.Spec.Template.DeepCopy()
	resize.ApplyLiveUpdateFeatures(&t.Spec, vm.Spec.LiveUpdateFeatures)
	hash, err := templateHash(&vm.Spec.Template.Spec)
	if err != nil {
		return nil, err
	}
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[v1.VMGenerationAnnotation] = strconv.FormatInt(vm.Generation, 10)
	annotations[TemplateAnnotation] = hash
	if annotations[FixedAnnotation], err = templateHash(fixed(&t.Spec)); err != nil {
		return nil, err
	}
	size, err := sizes(&t.Spec)
	if err != nil {
		return nil, fmt.Errorf("spec.template.spec.domain.cpu: %w", err)
	}
	if annotations[resize.SizesAnnotation], err = resize.NewOrigin(size).String(); err != nil {
		return nil, err
	}

	vmi := &v1.VirtualMachineInstance{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.VirtualMachineInstanceKind.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name:            vm.Name,
			Namespace:       vm.Namespace,
			Labels:          t.Labels,
			Annotations:     annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vm, v1.VirtualMachineKind)},
			Finalizers:      []string{v1.VMIFinalizer},
		},
		Spec: t.Spec,
	}
	if fw := vmi.Spec.Domain.Firmware; fw == nil {
		vmi.Spec.Domain.Firmware = &v1.Firmware{UUID: firmwareUUID(vm.Name)}
	} else if fw.UUID == "" {
		fw.UUID = firmwareUUID(vm.Name)
	}
	if paused {
		vmi.Spec.StartStrategy = new(startPaused)
	}
	return vmi, nil
}

// uuidNamespace is the namespace of the firmware UUIDs of machines whose spec
// has none, 6a1a24a1-4061-4607-8bf4-a3963d0c5895, as in KubeVirt: a guest that
// moves here wakes up as the same machine.
var uuidNamespace = [16]byte{0x6a, 0x1a, 0x24, 0xa1, 0x40, 0x61, 0x46, 0x07, 0x8b, 0xf4, 0xa3, 0x96, 0x3d, 0x0c, 0x58, 0x95}

// firmwareUUID is the name's version 5 UUID (RFC 9562, section 5.5).
func firmwareUUID(name string) string {
	h := sha1.New()
	h.Write(uuidNamespace[:])
	h.Write([]byte(name))
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// templateHash tells template specs apart. It depends on their JSON alone and
// not on the order of the Go types' fields, so that it stays over upgrades.
func templateHash(spec *v1.VirtualMachineInstanceSpec) (string, error) {
	typed, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("spec.template.spec: encode: %w", err)
	}
	var plain any
	if err := json.Unmarshal(typed, &plain); err != nil {
		return "", fmt.Errorf("spec.template.spec: decode: %w", err)
	}
	sorted, err := json.Marshal(plain)
	if err != nil {
		return "", fmt.Errorf("spec.template.spec: encode: %w", err)
	}
	sum := sha256.Sum256(sorted)
	return hex.EncodeToString(sum[:8]), nil
}
