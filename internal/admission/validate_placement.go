// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// placement checks what goes into the pod for the scheduler: a pod that the API
// server refuses is found out too late for the user.
func (v *validator) placement(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for _, k := range sortedKeys(spec.NodeSelector) {
		v.label(p.Child("nodeSelector").Key(k), k, spec.NodeSelector[k])
	}
	v.objectName(p.Child("priorityClassName"), spec.PriorityClassName)
	v.objectName(p.Child("schedulerName"), spec.SchedulerName)
	for i, t := range spec.Tolerations {
		v.toleration(p.Child("tolerations").Index(i), t)
	}
	for i, c := range spec.TopologySpreadConstraints {
		v.spread(p.Child("topologySpreadConstraints").Index(i), c)
	}
	if a := spec.Affinity; a != nil {
		v.affinity(p.Child("affinity"), a)
	}
}

func (v *validator) objectName(p *field.Path, name string) {
	if name == "" {
		return
	}
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		v.invalid(p, name, "is not an object's name: %s", strings.Join(msgs, "; "))
	}
}

func (v *validator) toleration(p *field.Path, t corev1.Toleration) {
	v.oneOf(p.Child("operator"), string(t.Operator), "Exists", "Equal")
	v.oneOf(p.Child("effect"), string(t.Effect), "NoSchedule", "PreferNoSchedule", "NoExecute")
	if t.Key == "" {
		if t.Operator != corev1.TolerationOpExists {
			v.required(p.Child("key"), "only operator Exists may go without one")
		}
	} else if msgs := validation.IsQualifiedName(t.Key); len(msgs) > 0 {
		v.invalid(p.Child("key"), t.Key, "is not a taint's key: %s", strings.Join(msgs, "; "))
	}
	if t.Operator == corev1.TolerationOpExists && t.Value != "" {
		v.invalid(p.Child("value"), t.Value, "has no meaning with operator Exists; leave it out or use Equal")
	}
	if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
		v.invalid(p.Child("value"), t.Value, "is not a taint's value: %s", strings.Join(msgs, "; "))
	}
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		v.invalid(p.Child("tolerationSeconds"), *t.TolerationSeconds, "has a meaning with effect NoExecute only")
	}
}

func (v *validator) spread(p *field.Path, c corev1.TopologySpreadConstraint) {
	if c.MaxSkew < 1 {
		v.invalid(p.Child("maxSkew"), c.MaxSkew, "is too small; use 1 or more")
	}
	v.topologyKey(p.Child("topologyKey"), c.TopologyKey)
	if c.WhenUnsatisfiable == "" {
		v.required(p.Child("whenUnsatisfiable"), "use DoNotSchedule or ScheduleAnyway")
	} else {
		v.oneOf(p.Child("whenUnsatisfiable"), string(c.WhenUnsatisfiable), "DoNotSchedule", "ScheduleAnyway")
	}
	if c.LabelSelector != nil {
		v.selector(p.Child("labelSelector"), c.LabelSelector)
	}
}

func (v *validator) topologyKey(p *field.Path, key string) {
	if key == "" {
		v.required(p, "name a node label such as kubernetes.io/hostname")
	} else if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
		v.invalid(p, key, "is not a label's key: %s", strings.Join(msgs, "; "))
	}
}

func (v *validator) selector(p *field.Path, s *metav1.LabelSelector) {
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		v.invalid(p, metav1.FormatLabelSelector(s), "is not a label selector: %v", err)
	}
}

func (v *validator) affinity(p *field.Path, a *corev1.Affinity) {
	if n := a.NodeAffinity; n != nil {
		np := p.Child("nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			rp := np.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
			if len(r.NodeSelectorTerms) == 0 {
				v.required(rp, "name at least one term")
			}
			for i, t := range r.NodeSelectorTerms {
				v.nodeTerm(rp.Index(i), t)
			}
		}
		for i, t := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			tp := np.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
			v.weight(tp.Child("weight"), t.Weight)
			v.nodeTerm(tp.Child("preference"), t.Preference)
		}
	}
	if n := a.PodAffinity; n != nil {
		v.podTerms(p.Child("podAffinity"), n.RequiredDuringSchedulingIgnoredDuringExecution, n.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if n := a.PodAntiAffinity; n != nil {
		v.podTerms(p.Child("podAntiAffinity"), n.RequiredDuringSchedulingIgnoredDuringExecution, n.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (v *validator) podTerms(p *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	term := func(tp *field.Path, t corev1.PodAffinityTerm) {
		v.topologyKey(tp.Child("topologyKey"), t.TopologyKey)
		if t.LabelSelector != nil {
			v.selector(tp.Child("labelSelector"), t.LabelSelector)
		}
		if t.NamespaceSelector != nil {
			v.selector(tp.Child("namespaceSelector"), t.NamespaceSelector)
		}
	}
	for i, t := range required {
		term(p.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), t)
	}
	for i, t := range preferred {
		tp := p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		v.weight(tp.Child("weight"), t.Weight)
		term(tp.Child("podAffinityTerm"), t.PodAffinityTerm)
	}
}

func (v *validator) weight(p *field.Path, w int32) {
	if w < 1 || w > 100 {
		v.invalid(p, w, "is out of range; use 1 to 100")
	}
}

func (v *validator) nodeTerm(p *field.Path, t corev1.NodeSelectorTerm) {
	check := func(rp *field.Path, r corev1.NodeSelectorRequirement) {
		if r.Key == "" {
			v.required(rp.Child("key"), "name a node label")
		}
		op := string(r.Operator)
		if op == "" {
			v.required(rp.Child("operator"), "use In, NotIn, Exists, DoesNotExist, Gt or Lt")
			return
		}
		if !v.oneOf(rp.Child("operator"), op, "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt") {
			return
		}
		switch n := len(r.Values); op {
		case "In", "NotIn":
			if n == 0 {
				v.required(rp.Child("values"), "operator %s needs at least one", op)
			}
		case "Exists", "DoesNotExist":
			if n > 0 {
				v.invalid(rp.Child("values"), r.Values, "cannot stand beside operator %s; leave them out", op)
			}
		default:
			if n != 1 {
				v.invalid(rp.Child("values"), r.Values, "does not suit operator %s; give exactly one integer", op)
			}
		}
	}
	for i, r := range t.MatchExpressions {
		check(p.Child("matchExpressions").Index(i), r)
	}
	for i, r := range t.MatchFields {
		check(p.Child("matchFields").Index(i), r)
	}
}

func (v *validator) dnsLabel(p *field.Path, s string) bool {
	if len(validation.IsDNS1123Label(s)) == 0 {
		return true
	}
	v.invalid(p, s, "is not a DNS label; use at most 63 lower case letters, digits and '-', with a letter or digit at both ends")
	return false
}

// naming checks host name and DNS settings.
func (v *validator) naming(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if spec.Hostname != "" {
		v.dnsLabel(p.Child("hostname"), spec.Hostname)
	}
	if spec.Subdomain != "" {
		v.dnsLabel(p.Child("subdomain"), spec.Subdomain)
	}
	v.oneOf(p.Child("dnsPolicy"), string(spec.DNSPolicy), "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
	cfg := spec.DNSConfig
	if spec.DNSPolicy == corev1.DNSNone && (cfg == nil || len(cfg.Nameservers) == 0) {
		v.required(p.Child("dnsConfig", "nameservers"), "dnsPolicy None needs at least one address")
	}
	if cfg == nil {
		return
	}
	if n := len(cfg.Nameservers); n > 3 {
		v.invalid(p.Child("dnsConfig", "nameservers"), n, "are too many; give 3 at most")
	}
	for i, a := range cfg.Nameservers {
		if _, err := netip.ParseAddr(a); err != nil {
			v.invalid(p.Child("dnsConfig", "nameservers").Index(i), a, "is not an IP address")
		}
	}
	if n := len(cfg.Searches); n > 32 {
		v.invalid(p.Child("dnsConfig", "searches"), n, "are too many; give 32 at most")
	}
	for i, s := range cfg.Searches {
		if s == "." {
			continue
		}
		if msgs := validation.IsDNS1123Subdomain(strings.TrimSuffix(s, ".")); len(msgs) > 0 {
			v.invalid(p.Child("dnsConfig", "searches").Index(i), s, "is not a DNS domain")
		}
	}
	for i, o := range cfg.Options {
		if o.Name == "" {
			v.required(p.Child("dnsConfig", "options").Index(i).Child("name"), "name a resolver option such as ndots")
		}
	}
}
