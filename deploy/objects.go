// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// DefaultNamespace is the namespace that the YAML files are written for.
const DefaultNamespace = "skerry-system"

//go:embed crds/*.yaml manifests/*.yaml
var files embed.FS

// kinds are the kinds in our files with their resource names and scopes. The
// list is fixed so that no discovery is needed while a cluster comes up.
var kinds = map[schema.GroupVersionKind]struct {
	resource   string
	namespaced bool
}{
	{Version: "v1", Kind: "Namespace"}:                                                               {"namespaces", false},
	{Version: "v1", Kind: "ServiceAccount"}:                                                          {"serviceaccounts", true},
	{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}:                 {"customresourcedefinitions", false},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}:                         {"clusterroles", false},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"}:                  {"clusterrolebindings", false},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}:                                {"roles", true},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"}:                         {"rolebindings", true},
	{Group: "scheduling.k8s.io", Version: "v1", Kind: "PriorityClass"}:                               {"priorityclasses", false},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicy"}:        {"validatingadmissionpolicies", false},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBinding"}: {"validatingadmissionpolicybindings", false},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"}:     {"mutatingwebhookconfigurations", false},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"}:   {"validatingwebhookconfigurations", false},
	{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}:                             {"apiservices", false},
}

// Objects returns everything that Apply puts into a cluster, in groups that are
// applied one after the other: the namespace, then what works by itself, then
// what sends requests to the controller.
func Objects(p Params) ([][]*unstructured.Unstructured, error) {
	if p.Namespace == "" {
		p.Namespace = DefaultNamespace
	}
	if msgs := validation.IsDNS1123Label(p.Namespace); len(msgs) > 0 {
		return nil, fmt.Errorf("namespace %q: %s", p.Namespace, strings.Join(msgs, "; "))
	}
	if b, _ := pem.Decode(p.CABundle); b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("CA bundle of the webhooks: expected at least one certificate in PEM form")
	}
	var names []string
	for _, pattern := range []string{"crds/*.yaml", "manifests/*.yaml"} {
		m, err := fs.Glob(files, pattern)
		if err != nil {
			return nil, fmt.Errorf("list embedded files %s: %w", pattern, err)
		}
		names = append(names, m...)
	}
	groups := make([][]*unstructured.Unstructured, 3)
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read embedded file %s: %w", name, err)
		}
		objs, err := parse(bytes.ReplaceAll(data, []byte(DefaultNamespace), []byte(p.Namespace)))
		if err != nil {
			return nil, fmt.Errorf("parse embedded file %s: %w", name, err)
		}
		for _, o := range objs {
			if err := setCABundle(o, p.CABundle); err != nil {
				return nil, fmt.Errorf("%s %s: set CA bundle: %w", o.GetKind(), o.GetName(), err)
			}
			g := group(o)
			groups[g] = append(groups[g], o)
		}
	}
	return groups, nil
}

func group(o *unstructured.Unstructured) int {
	switch o.GetKind() {
	case "Namespace":
		return 0
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "APIService":
		return 2
	}
	return 1
}

func parse(data []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := d.Decode(o); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if len(o.Object) == 0 {
			continue // a document of comments only
		}
		if _, ok := kinds[o.GroupVersionKind()]; !ok {
			return nil, fmt.Errorf("unexpected kind %s", o.GroupVersionKind())
		}
		out = append(out, o)
	}
}

// setCABundle says by which CA the API server should check the controller's
// serving certificate.
func setCABundle(o *unstructured.Unstructured, ca []byte) error {
	enc := base64.StdEncoding.EncodeToString(ca)
	switch o.GetKind() {
	case "APIService":
		return unstructured.SetNestedField(o.Object, enc, "spec", "caBundle")
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		hooks, _, err := unstructured.NestedSlice(o.Object, "webhooks")
		if err != nil {
			return err
		}
		for _, h := range hooks {
			m, ok := h.(map[string]any)
			if !ok {
				return fmt.Errorf("webhook is a %T, expected an object", h)
			}
			if err := unstructured.SetNestedField(m, enc, "clientConfig", "caBundle"); err != nil {
				return err
			}
		}
		return unstructured.SetNestedSlice(o.Object, hooks, "webhooks")
	}
	return nil
}

func resourceOf(o *unstructured.Unstructured) (schema.GroupVersionResource, meta.RESTScope) {
	gvk := o.GroupVersionKind()
	k := kinds[gvk]
	scope := meta.RESTScopeRoot
	if k.namespaced {
		scope = meta.RESTScopeNamespace
	}
	return gvk.GroupVersion().WithResource(k.resource), scope
}
