// SPDX-License-Identifier: Apache-2.0

package v1_test

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"reflect"
	"strings"
	"testing"

	cdiv1beta1 "github.com/skerry-dev/skerry/api/cdi/v1beta1"
	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

//go:embed testdata/fields.tsv
var fieldsTSV []byte

// roots are the types from which all others are reached.
var roots = []any{
	v1.VirtualMachineList{}, v1.VirtualMachineInstanceList{},
	v1.StartOptions{}, v1.StopOptions{}, v1.RestartOptions{}, v1.PauseOptions{}, v1.UnpauseOptions{},
	v1.FreezeUnfreezeTimeout{}, v1.MigrateOptions{}, v1.AddVolumeOptions{}, v1.RemoveVolumeOptions{},
	v1.VirtualMachineInstanceGuestAgentInfo{}, v1.VirtualMachineInstanceGuestOSUserList{}, v1.VirtualMachineInstanceFileSystemList{},
	v1.VirtualMachineMemoryDumpRequest{},
}

// ours are fields that the peer's API does not have.
var ours = map[string]bool{
	"v1.VirtualMachineInstanceStatus.stages": true,
	"v1.VirtualMachineInstanceStatus.resize": true,
	"v1.VirtualMachineInstanceStatus.qemu":   true,
	// The node agent's word for the pod's annotation.
	"v1.VirtualMachineInstanceStatus.networkStatus": true,
	// In the peer's older releases.
	"v1.VirtualMachineSpec.liveUpdateFeatures": true,
}

// ourTypes are reached through these fields.
var ourTypes = map[string]bool{
	"v1.StageTimestamp": true,
	"v1.QEMUStatus":     true,
	"v1.NetworkStatus":  true, "v1.NetworkDNS": true,
	"v1.ResizeStatus": true, "v1.ResizeTime": true,
	"v1.PodResize": true, "v1.PodResourceResize": true, "v1.GuestResize": true, "v1.GuestResourceResize": true,
	"v1.LiveUpdateFeatures": true, "v1.LiveUpdateAffinity": true, "v1.LiveUpdateCPU": true, "v1.LiveUpdateMemory": true,
}

// wider are fields that are int32 in the published document and too small there:
// sizes of real disks do not fit. The peer's own Go type is int.
var wider = map[string]bool{
	"v1.VirtualMachineInstanceFileSystem.totalBytes": true,
	"v1.VirtualMachineInstanceFileSystem.usedBytes":  true,
}

// alwaysSent are optional fields that are written even when they are empty.
var alwaysSent = map[string]bool{
	"v1.VirtualMachineInstanceStatus.runtimeUser": true,
}

type listed struct {
	typ      string
	required bool
}

// TestFields holds our types against the list, in both directions.
func TestFields(t *testing.T) {
	t.Parallel()
	want := map[string]map[string]listed{}
	for s := bufio.NewScanner(bytes.NewReader(fieldsTSV)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		row := strings.Split(s.Text(), "\t")
		if len(row) != 4 {
			t.Fatalf("row %q: want 4 columns", s.Text())
		}
		if want[row[0]] == nil {
			want[row[0]] = map[string]listed{}
		}
		if row[1] != "-" {
			want[row[0]][row[1]] = listed{row[2], row[3] == "required"}
		}
	}
	got := map[string]reflect.Type{}
	for _, r := range roots {
		collect(reflect.TypeOf(r), got)
	}
	for name, fields := range want {
		typ, ok := got[name]
		if !ok {
			t.Errorf("type %s is missing", name)
			continue
		}
		have := map[string]reflect.StructField{}
		jsonFields(typ, have)
		for field, l := range fields {
			f, ok := have[field]
			if !ok {
				t.Errorf("field %s.%s is missing", name, field)
				continue
			}
			checkField(t, name+"."+field, f, l)
		}
		for field := range have {
			if _, ok := fields[field]; !ok && !ours[name+"."+field] {
				t.Errorf("field %s.%s is not in the API", name, field)
			}
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok && !ourTypes[name] {
			t.Errorf("type %s is not in the API", name)
		}
	}
}

func checkField(t *testing.T, path string, f reflect.StructField, l listed) {
	t.Helper()
	typ := l.typ
	switch {
	case wider[path]:
		typ = "integer:int64"
	case typ == "string|null": // a time that is written even when there is none
		typ = "k8s.io.apimachinery.pkg.apis.meta.v1.Time"
	}
	if got := jsonType(f.Type); got != typ {
		t.Errorf("%s: type is %s, want %s", path, got, typ)
	}
	optional := strings.Contains(f.Tag.Get("json"), ",omitempty")
	if optional == l.required && !alwaysSent[path] {
		t.Errorf("%s: omitempty is %v, required is %v", path, optional, l.required)
	}
}

// jsonType is a Go type in the words of the list.
func jsonType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		return "[]" + jsonType(t.Elem())
	case reflect.Map:
		return "map[string]" + jsonType(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int32, reflect.Int64:
		return "integer:" + t.Kind().String()
	case reflect.Uint8:
		return "integer:byte"
	case reflect.Float64:
		return "number:double"
	}
	if name := apiName(t); name != "" {
		return name
	}
	pkg, name := t.PkgPath(), t.Name()
	if rest, ok := strings.CutPrefix(pkg, "k8s.io/"); ok {
		return "k8s.io." + strings.ReplaceAll(rest, "/", ".") + "." + name
	}
	return fmt.Sprintf("%s.%s", pkg, name)
}

// apiName is the name of one of our own types in the list.
func apiName(t reflect.Type) string {
	switch t.PkgPath() {
	case reflect.TypeFor[v1.VirtualMachine]().PkgPath():
		return "v1." + t.Name()
	case reflect.TypeFor[cdiv1beta1.DataVolumeSpec]().PkgPath():
		return "v1beta1." + t.Name()
	}
	return ""
}

func collect(t reflect.Type, out map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collect(t.Elem(), out)
		return
	case reflect.Struct:
	default:
		return
	}
	name := apiName(t)
	if name == "" || out[name] != nil {
		return
	}
	out[name] = t
	for i := range t.NumField() {
		collect(t.Field(i).Type, out)
	}
}

func jsonFields(t reflect.Type, out map[string]reflect.StructField) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			jsonFields(f.Type, out)
			continue
		}
		out[name] = f
	}
}
