// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// A tenant who may write everything in the namespace can neither pass a pod off as
// a machine's, nor send the node's agent to another pod.
func TestTenantCannotTrickTheAgent(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	rb := &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "carol"}},
	}
	rb.Namespace, rb.Name = ns, "carol"
	create(t, rb, tinyVM(ns, "mine"))
	vmi := running(t, ns, "mine")
	pod := podOf(t, vmi)
	cfg := rest.CopyConfig(shared.REST)
	cfg.Impersonate.UserName = "carol"
	carol, err := client.New(cfg, client.Options{Scheme: shared.Client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	plain := toolsPod(ns, "plain")
	waitFor(t, "carol's rights", func() (bool, string) {
		err := carol.Create(ctx, plain)
		return err == nil, "create a pod: " + errText(err)
	})
	patch := func(o client.Object, body string) error {
		return carol.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(body)))
	}
	ref := func(o client.Object) client.Object {
		c := o.DeepCopyObject().(client.Object)
		c.SetResourceVersion("")
		return c
	}
	looksLike := toolsPod(ns, "looks-like")
	looksLike.Labels["kubevirt.io"] = "virt-launcher"
	looksLike.Labels["kubevirt.io/created-by"] = string(vmi.UID)
	looksLike.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceKind)}
	owned := &v1.VirtualMachineInstance{Spec: tinyVM(ns, "x").Spec.Template.Spec}
	owned.Namespace, owned.Name = ns, "owned"
	owned.OwnerReferences = vmi.OwnerReferences
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"create a pod with the label":     {carol.Create(ctx, looksLike), "only skerry-controller may create pods"},
		"label a pod":                     {patch(ref(plain), `{"metadata": {"labels": {"kubevirt.io": "virt-launcher"}}}`), "only skerry-controller may set"},
		"take a machine's label away":     {patch(ref(pod), `{"metadata": {"labels": {"kubevirt.io": null}}}`), "only skerry-controller may set"},
		"give a pod to another instance":  {patch(ref(pod), `{"metadata": {"labels": {"kubevirt.io/created-by": "other"}}}`), "only skerry-controller may set"},
		"take a machine's pod's owner":    {patch(ref(pod), `{"metadata": {"ownerReferences": null}}`), "may change the owners of pod"},
		"take an instance's owner":        {patch(ref(vmi), `{"metadata": {"ownerReferences": null}}`), "metadata.ownerReferences"},
		"an instance for another's VM":    {carol.Create(ctx, owned), "metadata.ownerReferences"},
		"move an instance by its label":   {patch(ref(vmi), `{"metadata": {"labels": {"kubevirt.io/nodeName": "elsewhere"}}}`), "kubevirt.io/nodeName"},
		"loosen the confinement of a pod": {patch(&v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "mine"}}, `{"spec": {"template": {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/compute": "unconfined"}}}}}`), "annotations"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal that says %q", what, c.err, c.want)
		}
	}
	// A label of the tenant's own is the tenant's business.
	if err := patch(ref(pod), `{"metadata": {"labels": {"tier": "web"}}}`); err != nil {
		t.Errorf("label a machine's pod: %v", err)
	}
	// A status that a tenant sends is not taken, as every client sends one.
	if err := patch(ref(vmi), `{"status": {"nodeName": "elsewhere", "activePods": {"`+string(plain.UID)+`": "`+vmi.Status.NodeName+`"}}}`); err != nil && !apierrors.IsForbidden(err) {
		t.Errorf("write a status: %v", err)
	}
	after := running(t, ns, "mine")
	if after.Status.NodeName != vmi.Status.NodeName || len(after.Status.ActivePods) != 1 || after.Status.ActivePods[string(pod.UID)] == "" {
		t.Errorf("a tenant wrote the status: %+v", after.Status)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Machines run in namespaces that enforce Kubernetes' Pod Security Standards, the
// strictest among them.
func TestPodSecurity(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"baseline", "restricted"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			name := namespace(t)
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
			label := `{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "` + level + `", "pod-security.kubernetes.io/enforce-version": "latest"}}}`
			if err := shared.Client.Patch(t.Context(), ns, client.RawPatch(types.MergePatchType, []byte(label))); err != nil {
				t.Fatal(err)
			}
			// The level is enforced: such a pod is refused.
			bad := toolsPod(name, "bad")
			if level == "baseline" {
				bad.Spec.HostNetwork = true
			}
			if err := shared.Client.Create(context.WithoutCancel(t.Context()), bad); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "PodSecurity") {
				t.Fatalf("a pod that violates %s: %v", level, err)
			}
			vm := tinyVM(name, "confined")
			if level == "restricted" { // with all that is in a pod beside the launcher's own volumes
				spec := &vm.Spec.Template.Spec
				spec.Domain.Devices.Disks = []v1.Disk{
					{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}}, {Name: "seed", Disk: &v1.DiskTarget{Bus: "virtio"}}, {Name: "scratch", Disk: &v1.DiskTarget{Bus: "virtio"}},
				}
				spec.Volumes = []v1.Volume{
					{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: tinyImage, ImagePullPolicy: corev1.PullIfNotPresent}},
					{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{SecretRef: &corev1.LocalObjectReference{Name: "seed"}}},
					{Name: "scratch", EmptyDisk: &v1.EmptyDiskSource{Capacity: resource.MustParse("16Mi")}},
				}
				secret := &corev1.Secret{StringData: map[string]string{"userdata": "#!/bin/sh\ntrue\n"}}
				secret.Namespace, secret.Name = name, "seed"
				create(t, secret)
			}
			create(t, vm)
			logContains(t, running(t, name, "confined"), `SKERRY-GUEST READY`)
		})
	}
}
