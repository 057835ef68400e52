// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Eviction strategies of the API.
const (
	EvictionNone                  = "None"
	EvictionLiveMigrate           = "LiveMigrate"
	EvictionLiveMigrateIfPossible = "LiveMigrateIfPossible"
	EvictionExternal              = "External"
)

// StartPaused is the one start strategy of the API.
const StartPaused = "Paused"

func (v *validator) vmi(vmi, old *v1.VirtualMachineInstance) {
	meta := field.NewPath("metadata")
	var before map[string]string
	if old != nil {
		before = old.Labels
	}
	v.reserved(meta.Child("labels"), vmi.Labels, before)
	if old != nil {
		if !apiequality.Semantic.DeepEqual(vmi.Spec, old.Spec) {
			v.invalid(field.NewPath("spec"), vmi.Name, "is running and its spec cannot be changed; change the VirtualMachine it belongs to and restart that, or delete the instance and create it anew")
		}
		return
	}
	v.annotations(meta, vmi.Annotations)
	v.attachments(meta, vmi.Namespace, vmi.Annotations, &vmi.Spec)
	v.instanceSpec(field.NewPath("spec"), &vmi.Spec)
}

// reserved refuses any change of a label that is Skerry's own.
func (v *validator) reserved(p *field.Path, labels, before map[string]string) {
	for _, k := range reservedLabels {
		is, has := labels[k]
		was, had := before[k]
		switch {
		case has == had && is == was:
		case !has:
			v.required(p.Key(k), "this label is set by Skerry itself; leave it at %s", show(was))
		default:
			v.invalid(p.Key(k), is, "is set by Skerry itself; leave this label as it was")
		}
	}
}

// instanceSpec checks the spec of an instance that is about to be created, or
// that a VirtualMachine would create. Defaults must have been filled in.
func (v *validator) instanceSpec(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	v.placement(p, spec)
	v.naming(p, spec)
	v.lifecycle(p, spec)
	v.unsupportedSpec(p, spec)
	v.volumes(p.Child("volumes"), spec)
	v.networks(p, spec)
	v.domain(p.Child("domain"), spec)
	v.buildable(p, spec)
}

func (v *validator) lifecycle(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if s := spec.StartStrategy; s != nil && *s != StartPaused {
		v.invalid(p.Child("startStrategy"), *s, "is not a start strategy; use %s or leave it out", StartPaused)
	}
	if s := spec.EvictionStrategy; s != nil {
		path := p.Child("evictionStrategy")
		switch *s {
		case EvictionNone, EvictionLiveMigrateIfPossible:
		case EvictionLiveMigrate, EvictionExternal:
			v.unsupported(path, show(*s)+" needs live migration; use None or LiveMigrateIfPossible")
		default:
			v.invalid(path, *s, "is not an eviction strategy; use None or LiveMigrateIfPossible")
		}
	}
	if g := spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		v.invalid(p.Child("terminationGracePeriodSeconds"), *g, "is negative; use a number of seconds, or 0 to switch the machine off at once")
	}
	if a := spec.Architecture; a != v.cluster.Architecture {
		v.unsupported(p.Child("architecture"), show(a)+" machines cannot run here; use "+v.cluster.Architecture+" or leave it out")
	}
	v.probe(p.Child("livenessProbe"), spec.LivenessProbe)
	v.probe(p.Child("readinessProbe"), spec.ReadinessProbe)
}

func (v *validator) probe(p *field.Path, probe *v1.Probe) {
	if probe != nil {
		v.unsupported(p, "watch the machine from outside, or use its Ready condition")
	}
}

// unsupportedSpec refuses what stands directly in the spec and is not
// implemented.
func (v *validator) unsupportedSpec(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for _, u := range []struct {
		set           bool
		name, instead string
	}{
		{len(spec.AccessCredentials) > 0, "accessCredentials", "put ssh keys and passwords into the user data of a cloudInitNoCloud volume"},
		{len(spec.ResourceClaims) > 0, "resourceClaims", "leave it out"},
		{len(spec.UtilityVolumes) > 0, "utilityVolumes", "leave it out"},
		{spec.ServiceAccountName != "", "serviceAccountName", "leave it out: a machine's pod has no API credentials"},
	} {
		if u.set {
			v.unsupported(p.Child(u.name), u.instead)
		}
	}
}

// sortedKeys gives messages a fixed order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
