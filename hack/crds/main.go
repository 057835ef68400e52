// SPDX-License-Identifier: Apache-2.0

// Command crds finishes the CustomResourceDefinitions that controller-gen wrote
// into a directory: it adds the deprecated version, keeps whatever stands in
// embedded metadata, and takes out what only costs the API server memory. It
// changes the files in place, and not at all when they are finished already.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crds:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: crds <directory of CustomResourceDefinitions>")
	}
	files, err := filepath.Glob(filepath.Join(args[0], "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no *.yaml in %s", args[0])
	}
	for _, file := range files {
		if err := finishFile(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func finishFile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := finish(data)
	if err != nil {
		return err
	}
	if bytes.Equal(data, out) {
		return nil
	}
	return os.WriteFile(file, out, 0o644)
}

const header = "# Made from the Go types by `go generate ./api/...`.\n"

// oldVersions are served beside the version that controller-gen knows, by group.
var oldVersions = map[string]string{"kubevirt.io": "v1alpha3"}

func finish(data []byte) ([]byte, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		return nil, err
	}
	crd.Annotations = nil
	crd.Labels = map[string]string{"kubevirt.io": ""} // as all of Skerry's objects
	crd.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}

	var versions []apiextensionsv1.CustomResourceDefinitionVersion
	oldVersion := oldVersions[crd.Spec.Group]
	for _, v := range crd.Spec.Versions {
		if v.Name == oldVersion {
			continue // made anew
		}
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			return nil, fmt.Errorf("version %s has no schema", v.Name)
		}
		for name, child := range v.Schema.OpenAPIV3Schema.Properties {
			if name != "metadata" { // the object's own
				slim(&child)
				v.Schema.OpenAPIV3Schema.Properties[name] = child
			}
		}
		versions = append(versions, v)
		if oldVersion == "" {
			continue
		}
		old := *v.DeepCopy()
		old.Name, old.Storage, old.Deprecated = oldVersion, false, true
		warning := fmt.Sprintf("%s/%s %s is deprecated; use %s/%s", crd.Spec.Group, oldVersion, crd.Spec.Names.Kind, crd.Spec.Group, v.Name)
		old.DeprecationWarning = &warning
		versions = append(versions, old)
	}
	if len(versions) == 0 {
		return nil, errors.New("no version")
	}
	crd.Spec.Versions = versions
	out, err := yaml.Marshal(struct {
		APIVersion string                                       `json:"apiVersion"`
		Kind       string                                       `json:"kind"`
		Metadata   any                                          `json:"metadata"`
		Spec       apiextensionsv1.CustomResourceDefinitionSpec `json:"spec"`
	}{crd.APIVersion, crd.Kind, map[string]any{"name": crd.Name, "labels": crd.Labels}, crd.Spec})
	if err != nil {
		return nil, err
	}
	return append([]byte(header), out...), nil
}

// slim takes what is not needed out of a schema, and lets embedded metadata hold
// anything: what it may hold is checked where the object is made from it.
func slim(s *apiextensionsv1.JSONSchemaProps) {
	s.Description = ""
	if s.XIntOrString {
		// The pattern of quantities: admission says the same in words. What is
		// in anyOf follows from x-kubernetes-int-or-string.
		s.Pattern, s.AnyOf = "", nil
	}
	for name, child := range s.Properties {
		if name == "metadata" && child.Type == "object" && len(child.Properties) == 0 {
			keep := true
			child.XPreserveUnknownFields = &keep
			child.Nullable = true
		} else {
			slim(&child)
		}
		s.Properties[name] = child
	}
	if s.Items != nil && s.Items.Schema != nil {
		slim(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		slim(s.AdditionalProperties.Schema)
	}
}
