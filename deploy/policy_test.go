// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/skerry-dev/skerry/deploy"
)

var (
	vmis  = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "virtualmachineinstances"}
	nodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

// policy compiles a policy in our files as the API server does.
func policy(t *testing.T, name string) validating.Validator {
	t.Helper()
	var p admissionregistrationv1.ValidatingAdmissionPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(find(t, "ValidatingAdmissionPolicy", name).Object, &p, true); err != nil {
		t.Fatal(err)
	}
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		t.Fatal(err)
	}
	vars := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	var named []cel.NamedExpressionAccessor
	for _, v := range p.Spec.Variables {
		named = append(named, &validating.Variable{Name: v.Name, Expression: v.Expression})
	}
	compiler.CompileAndStoreVariables(named, vars, environment.StoredExpressions)
	var rules, messages []cel.ExpressionAccessor
	for _, v := range p.Spec.Validations {
		rules = append(rules, &validating.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason})
		var m cel.ExpressionAccessor
		if v.MessageExpression != "" {
			m = &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		}
		messages = append(messages, m)
	}
	conditions := compile(t, compiler, vars, p.Spec.MatchConditions)
	evaluate := func(e []cel.ExpressionAccessor, vars cel.OptionalVariableDeclarations) cel.ConditionEvaluator {
		c := compiler.CompileCondition(e, vars, environment.StoredExpressions)
		for _, err := range c.CompilationErrors() {
			t.Error(err)
		}
		return c
	}
	return validating.NewValidator(evaluate(rules, vars),
		matchconditions.NewMatcher(conditions, p.Spec.FailurePolicy, "policy", "validate", p.Name),
		evaluate(nil, vars), evaluate(messages, cel.OptionalVariableDeclarations{}), p.Spec.FailurePolicy, nil)
}

func compile(t *testing.T, compiler *cel.CompositedCompiler, vars cel.OptionalVariableDeclarations, in []admissionregistrationv1.MatchCondition) cel.ConditionEvaluator {
	t.Helper()
	var out []cel.ExpressionAccessor
	for i := range in {
		out = append(out, (*matchconditions.MatchCondition)(&in[i]))
	}
	c := compiler.CompileCondition(out, vars, environment.StoredExpressions)
	for _, err := range c.CompilationErrors() {
		t.Error(err)
	}
	return c
}

func agentOf(node string) user.Info {
	return &user.DefaultInfo{Name: "skerry-node:" + node, Groups: []string{"skerry:nodes", "system:authenticated"}}
}

func agentPod(node ...string) user.Info {
	u := &user.DefaultInfo{Name: "system:serviceaccount:skerry-system:skerry-node", Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	if len(node) > 0 {
		u.Extra = map[string][]string{"authentication.kubernetes.io/node-name": node}
	}
	return u
}

func instance(change func(o map[string]any)) *unstructured.Unstructured {
	o := map[string]any{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
		"metadata": map[string]any{"name": "a", "namespace": "default", "labels": map[string]any{"kubevirt.io/nodeName": "n1"}, "resourceVersion": "1"},
		"spec":     map[string]any{"domain": map[string]any{"devices": map[string]any{}, "memory": map[string]any{"guest": "1Gi"}}},
		"status":   map[string]any{"nodeName": "n1", "phase": "Scheduled", "activePods": map[string]any{"uid": "n1"}},
	}
	if change != nil {
		change(o)
	}
	return &unstructured.Unstructured{Object: o}
}

func node(name string, change func(n *corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name, "kubevirt.io/schedulable": "true"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "True"}, {Type: "SkerryHost", Status: "True"}}},
	}
	if change != nil {
		change(n)
	}
	return n
}

func TestNodePolicy(t *testing.T) {
	t.Parallel()
	validator := policy(t, "skerry-node")
	in := func(o map[string]any, part string) map[string]any { return o[part].(map[string]any) }
	status := func(o map[string]any) { in(o, "status")["phase"] = "Running" }
	elsewhere := func(o map[string]any) { in(o, "status")["nodeName"] = "n2" }
	for _, tc := range []struct {
		name    string
		user    user.Info
		op      admission.Operation
		res     schema.GroupVersionResource
		sub     string
		old, is runtime.Object
		denied  string // part of the message; empty: allowed
	}{
		{"status of an own instance", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(status), ""},
		{"the same by ServiceAccount", agentPod("n1"), admission.Update, vmis, "", instance(nil), instance(status), ""},
		{"a token of another node", agentPod("n2"), admission.Update, vmis, "", instance(nil), instance(status), "its status.nodeName is another node"},
		{"a token of no node", agentPod(), admission.Update, vmis, "", instance(nil), instance(status), "its credentials name no node"},
		{"a certificate without a node", agentOf(""), admission.Update, vmis, "", instance(nil), instance(status), "its credentials name no node"},
		{"an instance elsewhere", agentOf("n1"), admission.Update, vmis, "", instance(elsewhere), instance(elsewhere), "node agent n1 may not change instance default/a"},
		{"taking an instance over", agentOf("n1"), admission.Update, vmis, "", instance(elsewhere), instance(nil), "may not change instance default/a"},
		{"an instance that is nowhere", agentOf("n1"), admission.Update, vmis, "", instance(func(o map[string]any) { delete(o, "status") }), instance(nil), "may not change instance"},
		{"giving an instance away", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(elsewhere), "may not move instance"},
		{"other pods", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(func(o map[string]any) { in(o, "status")["activePods"] = map[string]any{"evil": "n1"} }), "status.activePods"},
		{"no status at all", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(func(o map[string]any) { delete(o, "status") }), "may not move instance"},
		{"the spec", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(func(o map[string]any) { in(o, "spec")["hostname"] = "x" }), "not its spec"},
		{"a label", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(func(o map[string]any) { in(o, "metadata")["labels"] = map[string]any{"kubevirt.io/nodeName": "n2"} }), "not its labels"},
		{"an annotation", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(func(o map[string]any) { in(o, "metadata")["annotations"] = map[string]any{"a": "b"} }), "not its labels"},
		{"a finalizer", agentOf("n1"), admission.Update, vmis, "", instance(func(o map[string]any) { in(o, "metadata")["finalizers"] = []any{"a/b"} }), instance(nil), "not its labels"},
		{"an owner", agentOf("n1"), admission.Update, vmis, "", instance(nil), instance(func(o map[string]any) {
			in(o, "metadata")["ownerReferences"] = []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}}
		}), "not its labels"},
		{"deletion", agentOf("n1"), admission.Delete, vmis, "", instance(nil), nil, "may only update"},
		{"creation", agentOf("n1"), admission.Create, vmis, "", nil, instance(nil), "may only update"},

		{"the own node's label", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Labels["kubevirt.io/schedulable"] = "false" }), ""},
		{"a new label of ours", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Labels["cpu-model.node.kubevirt.io/Haswell"] = "true" }), ""},
		{"a label of ours away", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { delete(n.Labels, "kubevirt.io/schedulable") }), ""},
		{"the heartbeat", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Annotations = map[string]string{"kubevirt.io/heartbeat": "now"} }), ""},
		{"another node", agentOf("n1"), admission.Update, nodes, "", node("n2", nil), node("n2", nil), "node agent n1 may not change node n2"},
		{"a label of others", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" }), "only labels below"},
		{"a label that looks like ours", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Labels["evilkubevirt.io/x"] = "" }), "only labels below"},
		{"a label of others away", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { delete(n.Labels, "kubernetes.io/hostname") }), "only labels below"},
		{"an annotation of others", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Annotations = map[string]string{"node.alpha.kubernetes.io/ttl": "0"} }), "only annotations below"},
		{"a taint", agentOf("n1"), admission.Update, nodes, "", node("n1", nil), node("n1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: "NoSchedule"}} }), "the spec of its node"},
		{"a condition of ours", agentOf("n1"), admission.Update, nodes, "status", node("n1", nil), node("n1", func(n *corev1.Node) {
			n.Status.Conditions[1].Status = "False"
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "SkerryKVM", Status: "True"})
		}), ""},
		{"a condition of others", agentOf("n1"), admission.Update, nodes, "status", node("n1", nil), node("n1", func(n *corev1.Node) { n.Status.Conditions[0].Status = "False" }), "only conditions whose type starts with Skerry"},
		{"capacity", agentOf("n1"), admission.Update, nodes, "status", node("n1", nil), node("n1", func(n *corev1.Node) { n.Status.Capacity = corev1.ResourceList{"cpu": {}} }), "only conditions"},

		{"the controller", &user.DefaultInfo{Name: "skerry-controller", Groups: []string{"skerry:controllers"}}, admission.Update, vmis, "", instance(nil), instance(elsewhere), ""},
		{"a user in no group", &user.DefaultInfo{Name: "someone"}, admission.Delete, vmis, "", instance(nil), nil, ""},
		{"the kubelet", &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}}, admission.Update, nodes, "status", node("n1", nil), node("n1", func(n *corev1.Node) { n.Status.Conditions[0].Status = "False" }), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := decide(t, validator, tc.user, tc.op, tc.res, tc.sub, tc.old, tc.is); tc.denied == "" && got != "" || !strings.Contains(got, tc.denied) {
				t.Errorf("denied with %q, want %q", got, tc.denied)
			}
		})
	}
}

func lazy(o runtime.Object) admission.LazyObject {
	if o == nil {
		return admission.LazyObject{}
	}
	return admission.NewLazyObject(o)
}

func decide(t *testing.T, v validating.Validator, u user.Info, op admission.Operation, res schema.GroupVersionResource, sub string, old, is runtime.Object) string {
	t.Helper()
	ns, name, gvk := "default", "a", schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstance"}
	if res == nodes {
		ns, gvk = "", corev1.SchemeGroupVersion.WithKind("Node")
		name = is.(*corev1.Node).Name
	}
	attr := admission.NewAttributesRecord(is, old, gvk, ns, name, res, sub, op, nil, false, u)
	return denials(t, v, attr)
}

// denials are the messages with which a request is refused; empty: it is allowed.
func denials(t *testing.T, v validating.Validator, attr admission.Attributes) string {
	t.Helper()
	va := &admission.VersionedAttributes{Attributes: attr, VersionedKind: attr.GetKind(), VersionedObject: lazy(attr.GetObject()), VersionedOldObject: lazy(attr.GetOldObject())}
	result := v.Validate(t.Context(), attr.GetResource(), va, nil, nil, celconfig.RuntimeCELCostBudget, nil)
	var denied []string
	for _, d := range result.Decisions {
		if d.Evaluation == validating.EvalError {
			t.Errorf("evaluation failed: %s", d.Message)
		}
		if d.Action == validating.ActionDeny {
			denied = append(denied, d.Message)
		}
	}
	return strings.Join(denied, "; ")
}

// TestWebhookConditions: updates by Skerry itself do not go through the webhooks
// of instances, everything else does.
func TestWebhookConditions(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		hooks, _, _ := unstructured.NestedSlice(find(t, kind, "skerry").Object, "webhooks")
		for _, h := range hooks {
			var hook admissionregistrationv1.ValidatingWebhook
			m := maps.Clone(h.(map[string]any))
			delete(m, "reinvocationPolicy")
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(m, &hook, true); err != nil {
				t.Fatal(err)
			}
			if len(hook.MatchConditions) == 0 {
				continue
			}
			compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
			if err != nil {
				t.Fatal(err)
			}
			matcher := matchconditions.NewMatcher(compile(t, compiler, cel.OptionalVariableDeclarations{HasAuthorizer: true}, hook.MatchConditions), nil, "webhook", "admit", hook.Name)
			for _, tc := range []struct {
				user user.Info
				op   admission.Operation
				want bool
			}{
				{agentOf("n1"), admission.Update, false},
				{agentPod("n1"), admission.Update, false},
				{&user.DefaultInfo{Name: "skerry-controller", Groups: []string{"skerry:controllers"}}, admission.Update, false},
				{&user.DefaultInfo{Name: "skerry-controller", Groups: []string{"skerry:controllers"}}, admission.Create, true},
				{&user.DefaultInfo{Name: "someone", Groups: []string{"system:authenticated"}}, admission.Update, true},
				{&user.DefaultInfo{Name: "someone"}, admission.Create, true},
			} {
				gvk := schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstance"}
				attr := admission.NewAttributesRecord(instance(nil), instance(nil), gvk, "default", "a", vmis, "", tc.op, nil, false, tc.user)
				got := matcher.Match(t.Context(), &admission.VersionedAttributes{Attributes: attr, VersionedKind: gvk, VersionedObject: lazy(instance(nil)), VersionedOldObject: lazy(instance(nil))}, nil, nil)
				if got.Error != nil || got.Matches != tc.want {
					t.Errorf("%s, %s by %s: %v %v, want %v", hook.Name, tc.op, tc.user.GetName(), got.Matches, got.Error, tc.want)
				}
			}
		}
	}
}

func find(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	groups, err := deploy.Objects(deploy.Params{CABundle: testCA})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range slices.Concat(groups...) {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}
