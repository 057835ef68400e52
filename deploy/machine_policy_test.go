// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
)

var (
	controller    = &user.DefaultInfo{Name: "skerry-controller", Groups: []string{"skerry:controllers", "system:authenticated"}}
	controllerPod = &user.DefaultInfo{Name: "system:serviceaccount:skerry-system:skerry-controller", Groups: []string{"system:serviceaccounts"}}
	tenant        = &user.DefaultInfo{Name: "mallory", Groups: []string{"system:authenticated"}}
	administrator = &user.DefaultInfo{Name: "root", Groups: []string{"system:masters"}}
	garbage       = &user.DefaultInfo{Name: "system:serviceaccount:kube-system:generic-garbage-collector", Groups: []string{"system:serviceaccounts"}}
)

func machinePod(change func(p *corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	p.Namespace, p.Name = "default", "virt-launcher-a-abcde"
	p.Labels = map[string]string{"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "uid", "app": "a"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance", Name: "a", UID: "uid", Controller: new(true)}}
	if change != nil {
		change(p)
	}
	return p
}

// Only the controller makes a pod a machine's.
func TestMachinePodPolicy(t *testing.T) {
	t.Parallel()
	v := policy(t, "skerry-machine-pods")
	plain := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "a"} }
	for _, tc := range []struct {
		name    string
		user    user.Info
		op      admission.Operation
		old, is *corev1.Pod
		denied  string
	}{
		{"the controller creates", controller, admission.Create, nil, machinePod(nil), ""},
		{"the same by ServiceAccount", controllerPod, admission.Create, nil, machinePod(nil), ""},
		{"a tenant creates", tenant, admission.Create, nil, machinePod(nil), "only skerry-controller may create pods"},
		{"the administrator creates", administrator, admission.Create, nil, machinePod(nil), "only skerry-controller may create pods"},
		{"an agent creates", agentOf("n1"), admission.Create, nil, machinePod(nil), "only skerry-controller may create pods"},
		{"a name that looks like the controller's", &user.DefaultInfo{Name: "skerry:controllers"}, admission.Create, nil, machinePod(nil), "only skerry-controller may create pods"},
		{"a ServiceAccount of that name elsewhere", &user.DefaultInfo{Name: "system:serviceaccount:default:skerry-controller"}, admission.Create, nil, machinePod(nil), "only skerry-controller may create pods"},
		{"a plain pod becomes a machine's", tenant, admission.Update, machinePod(plain), machinePod(nil), "metadata.labels: only skerry-controller"},
		{"a machine's pod becomes a plain one", tenant, admission.Update, machinePod(nil), machinePod(plain), "metadata.labels: only skerry-controller"},
		{"another instance's", tenant, admission.Update, machinePod(nil), machinePod(func(p *corev1.Pod) { p.Labels["kubevirt.io/created-by"] = "other" }), "metadata.labels: only skerry-controller"},
		{"no owner", tenant, admission.Update, machinePod(nil), machinePod(func(p *corev1.Pod) { p.OwnerReferences = nil }), "metadata.ownerReferences"},
		{"another owner", tenant, admission.Update, machinePod(nil), machinePod(func(p *corev1.Pod) { p.OwnerReferences[0].UID = "other" }), "metadata.ownerReferences"},
		{"an owner that is gone", garbage, admission.Update, machinePod(nil), machinePod(func(p *corev1.Pod) { p.OwnerReferences = nil }), ""},
		{"a label of the tenant's", tenant, admission.Update, machinePod(nil), machinePod(func(p *corev1.Pod) { p.Labels["tier"] = "web" }), ""},
		{"an annotation", tenant, admission.Update, machinePod(nil), machinePod(func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }), ""},
		{"the controller relabels", controller, admission.Update, machinePod(nil), machinePod(plain), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var old, is runtime.Object = nil, tc.is
			if tc.old != nil {
				old = tc.old
			}
			attr := admission.NewAttributesRecord(is, old, corev1.SchemeGroupVersion.WithKind("Pod"), "default", tc.is.Name, corev1.SchemeGroupVersion.WithResource("pods"), "", tc.op, nil, false, tc.user)
			if got := denials(t, v, attr); tc.denied == "" && got != "" || !strings.Contains(got, tc.denied) {
				t.Errorf("denied with %q, want %q", got, tc.denied)
			}
		})
	}
}

// A tenant who may write instances cannot send an agent to another pod or node,
// and cannot take another tenant's machine's place.
func TestInstancePolicy(t *testing.T) {
	t.Parallel()
	v := policy(t, "skerry-instances")
	in := func(o map[string]any, part string) map[string]any { return o[part].(map[string]any) }
	status := func(key string, value any) func(map[string]any) {
		return func(o map[string]any) { in(o, "status")[key] = value }
	}
	fresh := func(change func(o map[string]any)) func(o map[string]any) {
		return func(o map[string]any) {
			delete(o, "status")
			delete(in(o, "metadata"), "labels")
			if change != nil {
				change(o)
			}
		}
	}
	owner := func(apiVersion string) func(o map[string]any) {
		return func(o map[string]any) {
			in(o, "metadata")["ownerReferences"] = []any{map[string]any{"apiVersion": apiVersion, "kind": "VirtualMachine", "name": "b", "uid": "u", "controller": true}}
		}
	}
	for _, tc := range []struct {
		name    string
		user    user.Info
		old, is runtime.Object // old is nil: creation
		denied  string
	}{
		{"create", tenant, nil, instance(fresh(nil)), ""},
		{"create with the status that defaulting gives", tenant, nil, instance(fresh(func(o map[string]any) { o["status"] = map[string]any{"phase": "Pending"} })), ""},
		{"create on a node", tenant, nil, instance(fresh(func(o map[string]any) { o["status"] = map[string]any{"nodeName": "n1"} })), "status.nodeName, status.activePods"},
		{"create with a pod", tenant, nil, instance(fresh(func(o map[string]any) { o["status"] = map[string]any{"activePods": map[string]any{"u": "n1"}} })), "status.nodeName, status.activePods"},
		{"create with the label of a node", tenant, nil, instance(fresh(func(o map[string]any) {
			in(o, "metadata")["labels"] = map[string]any{"kubevirt.io/nodeName": "n1"}
		})), "metadata.labels"},
		{"create for a VirtualMachine", tenant, nil, instance(fresh(owner("kubevirt.io/v1"))), "metadata.ownerReferences"},
		{"create for something else", tenant, nil, instance(fresh(owner("example.com/v1"))), ""},
		{"the spec", tenant, instance(nil), instance(func(o map[string]any) { in(o, "spec")["hostname"] = "x" }), ""},
		{"the phase", tenant, instance(nil), instance(status("phase", "Running")), "status: instance default/a"},
		{"the node", administrator, instance(nil), instance(status("nodeName", "n2")), "status: instance default/a"},
		{"another pod", tenant, instance(nil), instance(status("activePods", map[string]any{"victim": "n1"})), "status: instance default/a"},
		{"no status", tenant, instance(nil), instance(func(o map[string]any) { delete(o, "status") }), "status: instance default/a"},
		{"the node's label", tenant, instance(nil), instance(func(o map[string]any) {
			in(o, "metadata")["labels"] = map[string]any{"kubevirt.io/nodeName": "n2"}
		}), "metadata.labels"},
		{"no labels", tenant, instance(nil), instance(func(o map[string]any) { delete(in(o, "metadata"), "labels") }), "metadata.labels"},
		{"a label of the tenant's", tenant, instance(nil), instance(func(o map[string]any) {
			in(o, "metadata")["labels"] = map[string]any{"kubevirt.io/nodeName": "n1", "app": "x"}
		}), ""},
		{"owned by a VirtualMachine", tenant, instance(nil), instance(owner("kubevirt.io/v1")), "metadata.ownerReferences"},
		{"owned by an older version", tenant, instance(nil), instance(owner("kubevirt.io/v1alpha3")), "metadata.ownerReferences"},
		{"taken away from its owner", tenant, instance(owner("kubevirt.io/v1")), instance(nil), "metadata.ownerReferences"},
		{"an orphan", garbage, instance(owner("kubevirt.io/v1")), instance(nil), ""},
		{"an owner of others", tenant, instance(nil), instance(owner("example.com/v1")), ""},
		{"the controller", controller, instance(nil), instance(status("nodeName", "n2")), ""},
		{"the controller creates", controller, nil, instance(fresh(owner("kubevirt.io/v1"))), ""},
		{"an agent", agentOf("n1"), instance(nil), instance(status("phase", "Running")), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			op := admission.Update
			if tc.old == nil {
				op = admission.Create
			}
			gvk := schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstance"}
			attr := admission.NewAttributesRecord(tc.is, tc.old, gvk, "default", "a", vmis, "", op, nil, false, tc.user)
			if got := denials(t, v, attr); tc.denied == "" && got != "" || !strings.Contains(got, tc.denied) {
				t.Errorf("denied with %q, want %q", got, tc.denied)
			}
		})
	}
}
