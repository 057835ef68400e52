// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
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
			v.invalid(p, show(raw), "is not a quantity; use a number with or without a suffix such as 500m, 2, 512Mi or 10Gi")
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
			v.invalid(p, show(raw), "is not a duration; use a form such as 90s or 5m")
		}
		return
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		s, ok := raw.(string)
		if _, err := time.Parse(time.RFC3339, s); !ok || err != nil {
			v.invalid(p, show(raw), "is not a time; use the form 2006-01-02T15:04:05Z")
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
		fields := map[string]reflect.Type{}
		jsonFields(t, fields)
		for _, k := range sortedKeys(m) {
			if ft, ok := fields[k]; ok {
				v.misshapen(child(p, k), m[k], ft)
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

// jsonFields lists the fields of a struct by their JSON names, those of embedded
// structs included.
func jsonFields(t reflect.Type, out map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && (f.Anonymous || strings.Contains(opts, "inline")):
			jsonFields(f.Type, out)
		case name == "":
			out[f.Name] = f.Type
		default:
			out[name] = f.Type
		}
	}
}

// decodeInto decodes an object from the API server; where that fails the causes
// say which values are to blame.
func decodeInto(data []byte, obj any) ([]metav1.StatusCause, error) {
	err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj)
	if err == nil {
		return nil, nil
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var raw any
	if derr := d.Decode(&raw); derr != nil {
		return nil, fmt.Errorf("decode object: %w", derr)
	}
	v := &validator{}
	v.misshapen(nil, raw, reflect.TypeOf(obj))
	if len(v.result.Causes) == 0 {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	sort.SliceStable(v.result.Causes, func(i, j int) bool { return v.result.Causes[i].Field < v.result.Causes[j].Field })
	return v.result.Causes, nil
}
