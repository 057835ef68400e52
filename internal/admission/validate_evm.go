// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

func (o Options) validateEVM(req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	var evm, old mecs.EnhancedVirtualMachine
	if resp, err := decode(req, &evm, &old); resp != nil || err != nil {
		return resp, err
	}
	if req.Operation == admissionv1.Create {
		return answer(req, ValidateEVM(&evm, nil, o.Cluster)), nil
	}
	// What is stored stays usable, as with VirtualMachines.
	if evm.DeletionTimestamp != nil || apiequality.Semantic.DeepEqual(evm.Spec, old.Spec) {
		return allow(), nil
	}
	return answer(req, ValidateEVM(&evm, &old, o.Cluster)), nil
}

// ValidateEVM checks an EnhancedVirtualMachine; old is nil when it is being
// created. Its template is checked as the VirtualMachine that it is.
func ValidateEVM(evm, old *mecs.EnhancedVirtualMachine, c Cluster) Result {
	v := &validator{cluster: c}
	spec := field.NewPath("spec")
	if old == nil {
		v.evmName(evm.Name)
		v.source(spec.Child("source"), &evm.Spec.Source)
	}
	v.bootVolume(spec.Child("bootVolume"), &evm.Spec.BootVolume)
	if s := evm.Spec.StorageClassName; s != nil {
		if *s == "" {
			v.invalid(spec.Child("storageClassName"), *s, "is no storage class; name one, or leave the field out for the default class")
		} else if msgs := validation.IsDNS1123Subdomain(*s); len(msgs) > 0 {
			v.invalid(spec.Child("storageClassName"), *s, "is not a storage class's name: %s", strings.Join(msgs, "; "))
		}
	}
	if old != nil {
		v.evmUpdate(spec, &evm.Spec, &old.Spec)
	}
	v.evmTemplate(spec.Child("template"), &evm.Spec.Template)
	return v.result
}

// maxEVMName is what the machine's name may have: it is the VirtualMachine's and
// its instance's, a part of the claim's, and the value of a label.
const maxEVMName = 63

func (v *validator) evmName(name string) {
	if len(name) > maxEVMName {
		v.invalid(field.NewPath("metadata", "name"), name, "is too long; use %d characters at most, as the VirtualMachine gets the same name", maxEVMName)
	}
}

// source checks that exactly one is given.
func (v *validator) source(p *field.Path, s *mecs.Source) {
	const instead = "use registryImageURL, persistentVolumeClaim or volumeSnapshot"
	var found []string
	for _, k := range []struct {
		set       bool
		name      string
		supported bool
	}{
		{s.RegistryImageURL != "", "registryImageURL", true},
		{s.PersistentVolumeClaim != nil, "persistentVolumeClaim", true},
		{s.VolumeSnapshot != nil, "volumeSnapshot", true},
		{s.GlanceImageID != "", "glanceImageID", false},
		{s.GlanceImageName != "", "glanceImageName", false},
		{s.HTTPURL != "", "httpURL", false},
	} {
		if !k.set {
			continue
		}
		found = append(found, k.name)
		if !k.supported {
			v.unsupported(p.Child(k.name), instead)
		}
	}
	switch len(found) {
	case 0:
		v.lacks(p, "has no source; %s", instead)
	case 1:
	default:
		v.invalid(p, strings.Join(found, ", "), "are %d sources; give exactly one", len(found))
	}
	if s.RegistryImageURL != "" {
		v.registryImage(p.Child("registryImageURL"), s.RegistryImageURL)
	}
	if s.PersistentVolumeClaim != nil {
		v.localName(p.Child("persistentVolumeClaim", "name"), s.PersistentVolumeClaim.Name)
	}
	if s.VolumeSnapshot != nil {
		v.localName(p.Child("volumeSnapshot", "name"), s.VolumeSnapshot.Name)
	}
}

// registryScheme may stand before a reference, as others write it.
var registryScheme = regexp.MustCompile(`^(docker|oci)://`)

func (v *validator) registryImage(p *field.Path, ref string) {
	bare := registryScheme.ReplaceAllString(ref, "")
	if strings.Contains(bare, "://") {
		v.invalid(p, ref, "is not in a registry; use [registry/]repository[:tag][@digest], for example kubevirt/fedora36:latest")
		return
	}
	v.image(p, bare)
}

func (v *validator) localName(p *field.Path, name string) {
	if name == "" {
		v.required(p, "name an object in the machine's namespace")
	} else if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		v.invalid(p, name, "is not a name: %s", strings.Join(msgs, "; "))
	}
}

const (
	minBootVolume = mebibyte
	maxBootVolume = 64 << 40
)

func (v *validator) bootVolume(p *field.Path, b *mecs.BootVolume) {
	rp := p.Child("resources", "requests").Key(string(corev1.ResourceStorage))
	if q, ok := b.Resources.Requests[corev1.ResourceStorage]; !ok {
		v.required(rp, "say how large the boot disk is, for example 10Gi")
	} else if n := q.Value(); n < minBootVolume || n > maxBootVolume {
		v.invalid(rp, q.String(), "is no size of a boot disk; use 1Mi to 64Ti")
	}
	for _, name := range slices.Sorted(maps.Keys(b.Resources.Requests)) {
		if name != corev1.ResourceStorage {
			v.unsupported(p.Child("resources", "requests").Key(string(name)), "give storage alone")
		}
	}
	if len(b.Resources.Limits) > 0 {
		v.unsupported(p.Child("resources", "limits"), "leave it out: a claim gets what it requests")
	}
	modes := []string{string(corev1.ReadWriteOnce), string(corev1.ReadWriteOncePod), string(corev1.ReadWriteMany)}
	for i, m := range b.AccessModes {
		if m == "" {
			v.required(p.Child("accessModes").Index(i), "use %s", orList(modes))
		}
		v.oneOf(p.Child("accessModes").Index(i), string(m), modes...)
		if j := slices.Index(b.AccessModes, m); j < i {
			v.duplicate(p.Child("accessModes").Index(i), string(m), p.Child("accessModes").Index(j))
		}
	}
	if slices.Contains(b.AccessModes, corev1.ReadWriteOncePod) && len(b.AccessModes) > 1 {
		v.invalid(p.Child("accessModes"), string(corev1.ReadWriteOncePod), "cannot stand beside other modes; use it alone or leave it out")
	}
	if m := b.VolumeMode; m != nil {
		if *m == "" {
			v.required(p.Child("volumeMode"), "use Block or Filesystem, or leave it out")
		}
		v.oneOf(p.Child("volumeMode"), string(*m), string(corev1.PersistentVolumeBlock), string(corev1.PersistentVolumeFilesystem))
	}
	if b.ClaimName != "" {
		v.localName(p.Child("claimName"), b.ClaimName)
	}
	v.oneOf(p.Child("retain"), string(b.Retain), string(mecs.RetainVolume), string(mecs.DeleteVolume))
}

// evmUpdate refuses changes of what a boot volume was made from: it would stay as
// it is. The volume may grow, and the template may change as that of a
// VirtualMachine may.
func (v *validator) evmUpdate(p *field.Path, is, was *mecs.EnhancedVirtualMachineSpec) {
	fixed := func(p *field.Path, is, was any) {
		if !apiequality.Semantic.DeepEqual(is, was) {
			v.add("FieldValueInvalid", p, "cannot change, as the boot volume is made already; put it back, or delete the machine and make another")
		}
	}
	fixed(p.Child("source"), is.Source, was.Source)
	fixed(p.Child("storageClassName"), is.StorageClassName, was.StorageClassName)
	b := p.Child("bootVolume")
	fixed(b.Child("claimName"), is.BootVolume.ClaimName, was.BootVolume.ClaimName)
	fixed(b.Child("accessModes"), is.BootVolume.AccessModes, was.BootVolume.AccessModes)
	fixed(b.Child("volumeMode"), is.BootVolume.VolumeMode, was.BootVolume.VolumeMode)
	size, before := is.BootVolume.Resources.Requests[corev1.ResourceStorage], was.BootVolume.Resources.Requests[corev1.ResourceStorage]
	if size.Cmp(before) < 0 {
		v.invalid(b.Child("resources", "requests").Key(string(corev1.ResourceStorage)), size.String(), "is less than %s; a volume can only grow", before.String())
	}
}

// evmTemplate checks the VirtualMachine that the template describes.
func (v *validator) evmTemplate(p *field.Path, t *mecs.VirtualMachineTemplate) {
	meta := p.Child("metadata")
	for _, k := range sortedKeys(t.Labels) {
		if slices.Contains(reservedLabels, k) {
			v.invalid(meta.Child("labels").Key(k), t.Labels[k], "is set by Skerry itself; leave this label out")
			continue
		}
		v.label(meta.Child("labels").Key(k), k, t.Labels[k])
	}
	v.annotations(meta, t.Annotations)
	if n := len(t.Spec.Template.Spec.Volumes); n >= maxDevices {
		v.invalid(p.Child("spec", "template", "spec", "volumes"), n, "volumes are too many; use %d at most, as the boot disk is added to them", maxDevices-1)
	}
	vm := &v1.VirtualMachine{ObjectMeta: *t.ObjectMeta.DeepCopy(), Spec: *t.Spec.DeepCopy()}
	DefaultVM(vm, v.cluster)
	machine := &validator{cluster: v.cluster, root: p}
	machine.vm(vm, nil)
	v.result.Causes = append(v.result.Causes, machine.result.Causes...)
	v.result.Warnings = append(v.result.Warnings, machine.result.Warnings...)
}
