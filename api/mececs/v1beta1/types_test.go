// SPDX-License-Identifier: Apache-2.0

package v1beta1_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	mecs "github.com/skerry-dev/skerry/api/mececs/v1beta1"
)

// TestReferenceManifest: every field of the manifest is known, and none is lost.
func TestReferenceManifest(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/evm-registry-fedora.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var evm mecs.EnhancedVirtualMachine
	if err := yaml.UnmarshalStrict(data, &evm); err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := yaml.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&evm)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	lost(t, "", want, got)
	if s := evm.Spec.BootVolume.Resources.Requests.Storage().String(); s != "10Gi" {
		t.Errorf("boot volume %s", s)
	}
	if evm.Spec.Template.Spec.Running == nil || !*evm.Spec.Template.Spec.Running {
		t.Error("not running")
	}
	if diff := cmp.Diff(evm, *evm.DeepCopy()); diff != "" {
		t.Errorf("a copy differs:\n%s", diff)
	}
}

// lost tells of what is in want and not in got.
func lost(t *testing.T, path string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is lost", path)
			return
		}
		for k := range want {
			lost(t, path+"."+k, want[k], m[k])
		}
	case []any:
		l, ok := got.([]any)
		if !ok || len(l) != len(want) {
			t.Errorf("%s is lost", path)
			return
		}
		for i := range want {
			lost(t, path, want[i], l[i])
		}
	default:
		if got == want {
			return
		}
		a, err1 := resource.ParseQuantity(fmt.Sprint(want))
		b, err2 := resource.ParseQuantity(fmt.Sprint(got)) // in another form, perhaps
		if err1 != nil || err2 != nil || a.Cmp(b) != 0 {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}
