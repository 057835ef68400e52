// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

func (v *validator) vm(vm, old *v1.VirtualMachine) {
	spec := child(v.root, "spec")
	v.runStrategy(spec, vm)
	if vm.Spec.Instancetype != nil {
		v.unsupported(spec.Child("instancetype"), "set spec.template.spec.domain.cpu and spec.template.spec.domain.memory.guest")
	}
	if vm.Spec.Preference != nil {
		v.unsupported(spec.Child("preference"), "write what the preference says into spec.template.spec.domain")
	}
	if len(vm.Spec.DataVolumeTemplates) > 0 {
		v.unsupported(spec.Child("dataVolumeTemplates"), "boot from a containerDisk volume and keep data in emptyDisk volumes")
	}
	if s := vm.Spec.UpdateVolumesStrategy; s != nil && *s != "Replacement" {
		if *s == "Migration" {
			v.unsupported(spec.Child("updateVolumesStrategy"), "leave it out or use Replacement")
		} else {
			v.oneOf(spec.Child("updateVolumesStrategy"), *s, "Replacement")
		}
	}
	template := spec.Child("template")
	v.templateMetadata(template.Child("metadata"), vm.Spec.Template.Labels, vm.Spec.Template.Annotations)
	// What is checked is the instance as it would be; defaults never introduce a
	// mistake of their own.
	vmi := &v1.VirtualMachineInstance{Spec: *vm.Spec.Template.Spec.DeepCopy()}
	v.resize(vm)
	resize.ApplyLiveUpdateFeatures(&vmi.Spec, vm.Spec.LiveUpdateFeatures)
	DefaultVMI(vmi, v.cluster)
	v.attachments(template.Child("metadata"), vm.Namespace, vm.Spec.Template.Annotations, &vmi.Spec)
	v.instanceSpec(template.Child("spec"), &vmi.Spec)
	if old != nil {
		v.vmUpdate(template.Child("spec", "domain"), vm, old)
	}
}

func (v *validator) runStrategy(spec *field.Path, vm *v1.VirtualMachine) {
	strategies := []string{
		string(v1.RunStrategyAlways), string(v1.RunStrategyRerunOnFailure), string(v1.RunStrategyManual),
		string(v1.RunStrategyOnce), string(v1.RunStrategyHalted),
	}
	switch running, strategy := vm.Spec.Running, vm.Spec.RunStrategy; {
	case running != nil && strategy != nil:
		v.invalid(spec.Child("running"), *running, "cannot stand beside spec.runStrategy %s; keep spec.runStrategy alone", show(string(*strategy)))
	case running != nil:
		v.warn(spec.Child("running"), "deprecated, use spec.runStrategy: Always instead of true and Halted instead of false")
	case strategy == nil:
		v.required(spec.Child("runStrategy"), "use %s", orList(strategies))
	case *strategy == v1.RunStrategyWaitAsReceiver:
		v.unsupported(spec.Child("runStrategy"), show(string(*strategy))+" belongs to migration between clusters; use "+orList(strategies))
	case *strategy == "":
		v.required(spec.Child("runStrategy"), "use %s", orList(strategies))
	default:
		v.oneOf(spec.Child("runStrategy"), string(*strategy), strategies...)
	}
}

// vmUpdate checks changes of a VirtualMachine that has an instance.
func (v *validator) vmUpdate(domain *field.Path, vm, old *v1.VirtualMachine) {
	if !isTrue(old.Status.Created, false) {
		return
	}
	is, was := vm.Spec.Template.Spec.Domain, old.Spec.Template.Spec.Domain
	if is.CPU != nil && was.CPU != nil && is.CPU.MaxSockets != was.CPU.MaxSockets {
		v.invalid(domain.Child("cpu", "maxSockets"), is.CPU.MaxSockets, "differs from %d and cannot change while the machine runs; stop it first", was.CPU.MaxSockets)
	}
	if is.Memory != nil && was.Memory != nil && !apiequality.Semantic.DeepEqual(is.Memory.MaxGuest, was.Memory.MaxGuest) {
		v.invalid(domain.Child("memory", "maxGuest"), quantity(is.Memory.MaxGuest), "differs from %s and cannot change while the machine runs; stop it first", quantity(was.Memory.MaxGuest))
	}
}

// reservedLabels say which node owns an instance and the like. Users must not
// set them: controllers and agents act on them.
var reservedLabels = []string{
	v1.CreatedByLabel, v1.NodeNameLabel, v1.SchedulableLabel,
	"kubevirt.io/migrationJobUID", "kubevirt.io/migrationTargetNodeName", "kubevirt.io/install-strategy",
}

// unsupportedAnnotations change KubeVirt's behaviour in ways that have no
// counterpart here.
var unsupportedAnnotations = map[string]string{
	"hooks.kubevirt.io/hookSidecars":           "describe the machine by its spec alone",
	"kubevirt.io/ignitiondata":                 "use a cloudInitNoCloud volume",
	"kubevirt.io/placePCIDevicesOnRootComplex": "leave it out",
}

// templateMetadata checks labels and annotations that go from a VirtualMachine
// to its instance and on to its pod.
func (v *validator) templateMetadata(p *field.Path, labels, annotations map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if slices.Contains(reservedLabels, k) {
			v.invalid(p.Child("labels").Key(k), labels[k], "is set by Skerry itself; leave this label out")
			continue
		}
		v.label(p.Child("labels").Key(k), k, labels[k])
	}
	v.annotations(p, annotations)
}

func (v *validator) annotations(p *field.Path, annotations map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(annotations)) {
		if instead, ok := unsupportedAnnotations[k]; ok {
			v.unsupported(p.Child("annotations").Key(k), instead)
			continue
		}
		if prefix, _, _ := strings.Cut(k, "/"); strings.HasSuffix(prefix, ".security.beta.kubernetes.io") || strings.HasSuffix(prefix, ".security.alpha.kubernetes.io") ||
			strings.HasPrefix(prefix, "seccomp.security.") {
			v.unsupported(p.Child("annotations").Key(k), "leave it out: a machine's pod is always confined by the node's default profiles")
			continue
		}
		if msgs := validation.IsQualifiedName(strings.ToLower(k)); len(msgs) > 0 {
			v.invalid(p.Child("annotations").Key(k), k, "is not an annotation's key: %s", strings.Join(msgs, "; "))
		}
	}
}

func (v *validator) label(p *field.Path, key, value string) {
	if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
		v.invalid(p, key, "is not a label's key: %s", strings.Join(msgs, "; "))
	}
	if msgs := validation.IsValidLabelValue(value); len(msgs) > 0 {
		v.invalid(p, value, "is not a label's value: %s", strings.Join(msgs, "; "))
	}
}
