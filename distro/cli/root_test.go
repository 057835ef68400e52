// SPDX-License-Identifier: Apache-2.0

package cli

import "testing"

func TestCommandsHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	root := newRoot(&options{})
	addVerbs(root, func() string { return "" })
	seen := map[string]bool{}
	for _, c := range root.Commands() {
		if seen[c.Name()] {
			t.Errorf("two commands are called %q", c.Name())
		}
		seen[c.Name()] = true
	}
	for _, name := range []string{"up", "status", "down", "reset", "hard-reset", "console", "start", "kubectl", "version"} {
		if !seen[name] {
			t.Errorf("there is no command %q", name)
		}
	}
}
