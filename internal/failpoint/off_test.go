// SPDX-License-Identifier: Apache-2.0

//go:build !failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProductionBuildHasNone: what is armed does nothing without the build tag.
func TestProductionBuildHasNone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Environment, dir)
	for _, d := range []string{ArmedDir, HitsDir, HangingDir} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	armed := filepath.Join(dir, ArmedDir, "agent.x.before-y")
	if err := os.WriteFile(armed, []byte("exit(3)"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Hit(t.Context(), "agent.x.before-y"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(armed); err != nil || string(b) != "exit(3)" {
		t.Errorf("what was armed was taken: %q, %v", b, err)
	}
}
