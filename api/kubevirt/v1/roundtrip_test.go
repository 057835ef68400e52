// SPDX-License-Identifier: Apache-2.0

package v1_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/randfill"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// TestRoundTrip writes objects with random values in every field and reads them
// back: nothing may be lost, renamed or shared with a copy.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for seed := range int64(40) {
		fill := randfill.NewWithSeed(seed).NilChance(0.2).NumElements(1, 2).MaxDepth(30).Funcs(
			func(q *resource.Quantity, c randfill.Continue) {
				*q = *resource.NewQuantity(c.Int63n(1<<40), resource.BinarySI)
			},
			func(m *metav1.Time, c randfill.Continue) { *m = metav1.Unix(c.Int63n(1<<32), 0) },
			func(m *metav1.MicroTime, c randfill.Continue) {
				*m = metav1.NewMicroTime(time.UnixMicro(c.Int63n(1 << 51)))
			},
			func(d *metav1.Duration, c randfill.Continue) { d.Duration = time.Duration(c.Int63n(1 << 40)) },
			func(i *intstr.IntOrString, c randfill.Continue) { *i = intstr.FromInt32(c.Int31()) },
			func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawString(`{}`) },
			func(f *float64, _ randfill.Continue) { *f = rand.Float64() },
		)
		for _, pair := range [][2]runtime.Object{
			{&v1.VirtualMachineList{}, &v1.VirtualMachineList{}},
			{&v1.VirtualMachineInstanceList{}, &v1.VirtualMachineInstanceList{}},
		} {
			in, out := pair[0], pair[1]
			fill.Fill(in)
			data, err := json.Marshal(in)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			strict, err := kjson.UnmarshalStrict(data, out)
			if err != nil || len(strict) > 0 {
				t.Fatalf("seed %d: %v %v", seed, err, strict)
			}
			if !apiequality.Semantic.DeepEqual(in, out) {
				t.Errorf("seed %d: %T changed on its way through JSON:\n%s", seed, in, cmp.Diff(in, out))
			}
			if again, err := json.Marshal(in.DeepCopyObject()); err != nil || string(again) != string(data) {
				t.Errorf("seed %d: a copy of %T differs (%v)", seed, in, err)
			}
		}
	}
}

func TestScheme(t *testing.T) {
	t.Parallel()
	s := runtime.NewScheme()
	if err := v1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"VirtualMachine", "VirtualMachineList", "VirtualMachineInstance", "VirtualMachineInstanceList"} {
		if !s.Recognizes(v1.GroupVersion.WithKind(kind)) {
			t.Errorf("%s is not registered", kind)
		}
	}
}
