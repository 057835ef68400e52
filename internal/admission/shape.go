// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

// misshapen finds the values in a JSON document that do not fit a Go type: where
// decoding fails, Go's own error seldom names the place, and never by the path
// that the user wrote. raw is what encoding/json makes of the document with
// numbers kept as they are.
func (v *validator) misshapen(p *field.Path, raw any, t reflect.Type) {
	if raw == nil {
		return // null is the same as absent
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		s := fmt.Sprint(raw)
		if _, err := resource.ParseQuantity(s); err != nil || !isScalar(raw) {
			v.invalid(p, s, "is not a quantity; use a number with or without a suffix such as 500m, 2, 512Mi or 10Gi")
		}
		return
	case reflect.TypeFor[intstr.IntOrString]():
		if !isScalar(raw) {
			v.wrongKind(p, raw, "a number or a string")
		}
		return
	case reflect.TypeFor[metav1.Duration]():
		s, ok := raw.(string)
		if _, err := time.ParseDuration(s); !ok || err != nil {
			v.invalid(p, fmt.Sprint(raw), "is not a duration; use a form such as 90s or 5m")
		}
		return
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		s, ok := raw.(string)
		if _, err := time.Parse(time.RFC3339, s); !ok || err != nil {
			v.invalid(p, fmt.Sprint(raw), "is not a time; use the form 2006-01-02T15:04:05Z")
		}
		return
	case reflect.TypeFor[metav1.ObjectMeta](), reflect.TypeFor[metav1.FieldsV1]():
		return // the API server has checked it
	}
	switch t.Kind() {
	case reflect.Struct:
		m, ok := raw.(map[string]any)
		if !ok {
			v.wrongKind(p, raw, "an object (indented lines of `name: value`)")
			return
		}
		fields := map[string]fieldShape{}
		jsonFields(t, fields)
		for _, k := range sortedKeys(fields) {
			f := fields[k]
			if value, ok := m[k]; ok && value != nil {
				v.misshapen(child(p, k), value, f.typ)
			} else if f.required && isOurs(t) {
				v.missing(child(p, k), t.Name()+"."+k, f.typ)
			}
		}
	case reflect.Map:
		m, ok := raw.(map[string]any)
		if !ok {
			v.wrongKind(p, raw, "an object (indented lines of `name: value`)")
			return
		}
		for _, k := range sortedKeys(m) {
			v.misshapen(p.Key(k), m[k], t.Elem())
		}
	case reflect.Slice:
		l, ok := raw.([]any)
		switch {
		case ok:
			for i := range l {
				v.misshapen(p.Index(i), l[i], t.Elem())
			}
		case t.Elem().Kind() != reflect.Uint8: // []byte is a string in JSON
			v.wrongKind(p, raw, "a list (lines that start with `-`)")
		}
	case reflect.String:
		if _, ok := raw.(string); !ok {
			v.wrongKind(p, raw, "a string; put it in quotes")
		}
	case reflect.Bool:
		if _, ok := raw.(bool); !ok {
			v.wrongKind(p, raw, "true or false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint32, reflect.Uint64:
		n, ok := raw.(json.Number)
		if !ok || json.Unmarshal([]byte(n), reflect.New(t).Interface()) != nil {
			v.wrongKind(p, raw, "a whole number")
		}
	case reflect.Float32, reflect.Float64:
		if _, ok := raw.(json.Number); !ok {
			v.wrongKind(p, raw, "a number")
		}
	}
}

func (v *validator) wrongKind(p *field.Path, raw any, want string) {
	shown := ""
	switch raw := raw.(type) {
	case map[string]any:
		shown = "an object"
	case []any:
		shown = "a list"
	case string:
		shown = show(raw)
	default:
		shown = show(fmt.Sprint(raw))
	}
	v.add(metav1.CauseTypeFieldValueInvalid, p, shown+" is of the wrong type; use "+want)
}

// isOurs tells whether a type is of the API itself: only there does a field
// without omitempty mean that it must be given.
func isOurs(t reflect.Type) bool {
	return t.PkgPath() == reflect.TypeFor[v1.VirtualMachine]().PkgPath() || t.PkgPath() == reflect.TypeFor[mecs.EnhancedVirtualMachine]().PkgPath()
}

// examples say how to give a field that is required.
var examples = map[string]string{
	"VirtualMachine.spec":                         "give runStrategy and template there",
	"VirtualMachineInstance.spec":                 "give domain and volumes there",
	"VirtualMachineSpec.template":                 "describe the machine in template.spec",
	"VirtualMachineInstanceSpec.domain":           "give the machine's memory, CPUs and devices there",
	"DomainSpec.devices":                          "list disks and interfaces there, or write devices: {}",
	"ContainerDiskSource.image":                   "name a container image, for example registry.example/fedora:42",
	"KernelBootContainer.image":                   "name the container image with the kernel, for example registry.example/kernel:6.12",
	"EmptyDiskSource.capacity":                    "say how large the disk is, for example 2Gi",
	"PersistentVolumeClaimVolumeSource.claimName": "name a claim in the machine's namespace",
	"EnhancedVirtualMachine.spec":                 "give template, source and bootVolume there",
	"EnhancedVirtualMachineSpec.bootVolume":       "give the boot disk's size in bootVolume.resources.requests.storage",
	"EnhancedVirtualMachineSpec.source":           "name an image in source.registryImageURL",
	"EnhancedVirtualMachineSpec.template":         "describe the VirtualMachine in template.spec",
	"VirtualMachineTemplate.spec":                 "describe the VirtualMachine there",
	"LocalSource.name":                            "name an object in the machine's namespace",
}

func (v *validator) missing(p *field.Path, name string, t reflect.Type) {
	text, ok := examples[name]
	if !ok {
		text = "it must be given"
		switch {
		case strings.HasSuffix(name, ".name"):
			text = "give it a name"
		case t.Kind() == reflect.Struct && t != reflect.TypeFor[resource.Quantity]():
			text = "it must be given, if only as {}"
		}
	}
	v.required(p, "%s", text)
}

func isScalar(raw any) bool {
	switch raw.(type) {
	case string, json.Number:
		return true
	}
	return false
}

func child(p *field.Path, name string) *field.Path {
	if p == nil {
		return field.NewPath(name)
	}
	return p.Child(name)
}

// fieldShape is what is known of a field from its Go declaration.
type fieldShape struct {
	typ      reflect.Type
	required bool
}

// jsonFields lists the fields of a struct by their JSON names, those of embedded
// structs included.
func jsonFields(t reflect.Type, out map[string]fieldShape) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || strings.Contains(opts, "inline")):
			jsonFields(f.Type, out)
		case name == "":
			out[f.Name] = fieldShape{f.Type, false}
		default:
			out[name] = fieldShape{f.Type, !strings.Contains(opts, "omit")}
		}
	}
}

// decodeInto decodes an object from the API server. Causes say which values have
// the wrong form and which are missing: the API server's own check of the schema
// comes after defaults were filled in, and its texts are terse.
func decodeInto(data []byte, obj any) ([]metav1.StatusCause, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var raw map[string]any
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	delete(raw, "status") // not the user's
	v := &validator{}
	v.misshapen(nil, raw, reflect.TypeOf(obj))
	if len(v.result.Causes) > 0 {
		return v.result.Causes, nil
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	return nil, nil
}
