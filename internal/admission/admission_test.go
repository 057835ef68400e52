// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

// TestRefused sends the manifests in testdata/refused, each with a mistake of
// its own, and compares what the user is told with the text beside it.
func TestRefused(t *testing.T) {
	t.Parallel()
	files := manifests(t, "testdata/refused")
	if len(files) < 30 {
		t.Errorf("%d broken manifests, want 30 at least", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			_, warnings, err := newAPIServer(someone).create(t, read(t, file))
			var r *rejected
			if !errors.As(err, &r) {
				t.Fatalf("accepted, error %v", err)
			}
			var text strings.Builder
			fmt.Fprintf(&text, "refused by: %s\n", r.step)
			for _, w := range warnings {
				fmt.Fprintf(&text, "warning: %s\n", w)
			}
			if r.status == nil {
				fmt.Fprintf(&text, "message: %s\n", r.text)
			} else {
				fmt.Fprintf(&text, "status: %d %s\nmessage: %s\n", r.status.Code, r.status.Reason, r.status.Message)
				for _, c := range r.status.Details.Causes {
					fmt.Fprintf(&text, "cause: %s %s\n", c.Type, c.Field)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", text.String())
		})
	}
}

// TestAccepted sends the manifests in testdata/accepted. What is stored, and for
// a VirtualMachine the instance that the controller makes from it, are golden.
func TestAccepted(t *testing.T) {
	t.Parallel()
	for _, file := range manifests(t, "testdata/accepted") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			obj, warnings, err := newAPIServer(someone).create(t, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			out := []map[string]any{obj}
			if obj["kind"] == "VirtualMachine" {
				template := obj["spec"].(map[string]any)["template"].(map[string]any)
				meta := map[string]any{}
				if m, ok := template["metadata"].(map[string]any); ok {
					maps.Copy(meta, m)
				}
				meta["name"] = obj["metadata"].(map[string]any)["name"]
				vmi, more, err := newAPIServer(controller).create(t, []byte(mustYAML(t, map[string]any{
					"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": meta, "spec": template["spec"],
				})))
				if err != nil {
					t.Fatalf("the instance was refused: %v", err)
				}
				out, warnings = append(out, vmi), append(warnings, more...)
			}
			var text strings.Builder
			for _, w := range warnings {
				fmt.Fprintf(&text, "# warning: %s\n", w)
			}
			for i, o := range out {
				if i > 0 {
					text.WriteString("---\n")
				}
				text.WriteString(mustYAML(t, o))
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", text.String())
		})
	}
}

func manifests(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no manifests in %s", dir)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustYAML(t *testing.T, v any) string {
	t.Helper()
	data, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
