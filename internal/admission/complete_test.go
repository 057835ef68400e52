// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/admission"
)

// sample is an instance with one element in each list, so that every field of
// the elements can be set by itself.
func sample() *v1.VirtualMachineInstance {
	return &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Name: "sample", Namespace: "default"},
		Spec: v1.VirtualMachineInstanceSpec{
			Networks: []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}},
			Volumes: []v1.Volume{
				{Name: "root", ContainerDisk: &v1.ContainerDiskSource{Image: "registry.example/fedora:42"}},
				{Name: "scratch", EmptyDisk: &v1.EmptyDiskSource{Capacity: resource.MustParse("1Gi")}},
				{Name: "seed", CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#cloud-config"}},
			},
			Domain: v1.DomainSpec{
				Memory: &v1.Memory{Guest: new(resource.MustParse("1Gi"))},
				CPU:    &v1.CPU{Sockets: 1, Features: []v1.CPUFeature{{Name: "aes"}}},
				Firmware: &v1.Firmware{KernelBoot: &v1.KernelBoot{Container: &v1.KernelBootContainer{
					Image: "registry.example/kernel:6", KernelPath: "/boot/vmlinuz",
				}}},
				Devices: v1.Devices{
					Disks: []v1.Disk{{Name: "root", Disk: &v1.DiskTarget{Bus: "virtio"}}, {Name: "scratch", CDRom: &v1.CDRomTarget{}}},
					Interfaces: []v1.Interface{{
						Name: "default", Masquerade: &v1.InterfaceMasquerade{},
						Ports:       []v1.Port{{Port: 22}},
						DhcpOptions: &v1.DHCPOptions{PrivateOptions: []v1.DHCPPrivateOptions{{Option: 224}}},
					}},
					Inputs:       []v1.Input{{Name: "tablet"}},
					Watchdog:     &v1.Watchdog{Name: "dog"},
					PanicDevices: []v1.PanicDevice{{}},
				},
			},
		},
	}
}

// TestNothingIsDropped sets each field of the API by itself. What is accepted
// stands in testdata/implemented.txt, a list that people read and change: a field
// that is neither refused nor there would be silently ignored.
func TestNothingIsDropped(t *testing.T) {
	t.Parallel()
	if r := validate(sample()); len(r.Causes) > 0 {
		t.Fatalf("the sample itself is refused: %s", r.Message())
	}
	var accepted []string
	for _, path := range fieldPaths(reflect.TypeFor[v1.VirtualMachineInstanceSpec](), nil) {
		for _, value := range candidates {
			vmi := sample()
			if !set(reflect.ValueOf(&vmi.Spec).Elem(), path, value) {
				continue
			}
			if len(validate(vmi).Causes) == 0 {
				accepted = append(accepted, "spec."+strings.Join(path, "."))
				break
			}
		}
	}
	slices.Sort(accepted)
	golden(t, "testdata/implemented.txt", strings.Join(slices.Compact(accepted), "\n")+"\n")
}

func validate(vmi *v1.VirtualMachineInstance) admission.Result {
	c := testCluster()
	admission.DefaultVMI(vmi, c)
	return admission.ValidateVMI(vmi, nil, c)
}

// candidates are values for strings: one of them suits most fields that are
// implemented. Other kinds have one value.
var candidates = []string{
	"x", "virtio", "sata", "amd64", "Paused", "None", "Halted", "q35", "UTC", "delay", "wall", "tablet", "reset", "require", "none", "threads",
	"stop", "up", "vga", "isa", "Reboot", "IfNotPresent", "UDP", "closed", "ClusterFirst", "LiveMigrateIfPossible", "data", "eA==", "10.0.0.0/8",
	"fd00::/64", "02:00:00:00:00:01", "5d307ca9-b3ef-428c-8861-06e72d69f223", "2Gi",
}

// fieldPaths lists the paths to all scalar leaves and empty objects of our types.
// Types of Kubernetes itself are leaves.
func fieldPaths(t reflect.Type, seen []reflect.Type) [][]string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || !strings.Contains(t.PkgPath(), "skerry") || slices.Contains(seen, t) {
		return [][]string{nil}
	}
	if t.NumField() == 0 {
		return [][]string{nil}
	}
	var out [][]string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		for _, rest := range fieldPaths(t.Field(i).Type, append(seen, t)) {
			out = append(out, append([]string{name}, rest...))
		}
	}
	return out
}

// set gives the field at a path a value and makes what is on the way there. It
// tells whether the object is changed by that.
func set(v reflect.Value, path []string, text string) bool {
	switch v.Kind() {
	case reflect.Pointer:
		changed := v.IsNil()
		if changed {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return set(v.Elem(), path, text) || changed
	case reflect.Slice:
		changed := v.Len() == 0
		if changed {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		return set(v.Index(0), path, text) || changed
	case reflect.Struct:
		if len(path) > 0 {
			for i := range v.NumField() {
				if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name == path[0] {
					return set(v.Field(i), path[1:], text)
				}
			}
			panic(fmt.Sprintf("no field %v in %s", path, v.Type()))
		}
		if v.Type() == reflect.TypeFor[resource.Quantity]() {
			q := resource.MustParse("3Gi")
			changed := !v.Interface().(resource.Quantity).Equal(q)
			v.Set(reflect.ValueOf(q))
			return changed
		}
		return false
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		set(key, nil, "cpu")
		set(value, nil, text)
		v.SetMapIndex(key, value)
	case reflect.String:
		changed := v.String() != text
		v.SetString(text)
		return changed
	case reflect.Bool:
		changed := !v.Bool()
		v.SetBool(true)
		return changed
	case reflect.Int32, reflect.Int64:
		n := int64(2)
		if v.Int() == n {
			n = 3
		}
		v.SetInt(n)
	default:
		panic(fmt.Sprintf("kind %s", v.Kind()))
	}
	return true
}
