// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// plugin writes a plugin that is a script.
func plugin(t *testing.T, dir, name, script string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindInPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plugin(t, dir, "good", "")
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &runner{}
	if got, err := r.FindInPath("good", []string{"/nowhere", dir}); err != nil || got != filepath.Join(dir, "good") {
		t.Errorf("good: %q, %v", got, err)
	}
	for _, name := range []string{"", ".", "..", "sub", "data", "missing", "../" + filepath.Base(dir) + "/good", "/bin/sh", "sub/x"} {
		if got, err := r.FindInPath(name, []string{dir}); err == nil {
			t.Errorf("%q is %s", name, got)
		}
	}
}

func TestExecPlugin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Run("environment and standard input", func(t *testing.T) {
		t.Parallel()
		p := plugin(t, dir, "env", `env | sort; cat; pwd`)
		out, err := (&runner{limit: time.Minute}).ExecPlugin(t.Context(), p, []byte("in\n"), []string{"CNI_COMMAND=ADD", "SECRET=x", "LD_PRELOAD=y"})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(out); !strings.Contains(got, "CNI_COMMAND=ADD\n") || strings.Contains(got, "SECRET") || strings.Contains(got, "LD_PRELOAD") || !strings.HasSuffix(got, "in\n/\n") {
			t.Errorf("the plugin saw:\n%s", got)
		}
	})
	t.Run("its own word", func(t *testing.T) {
		t.Parallel()
		p := plugin(t, dir, "says", `echo '{"code":7,"msg":"no such master","details":"eth9"}'; exit 1`)
		_, err := (&runner{limit: time.Minute}).ExecPlugin(t.Context(), p, nil, nil)
		if err == nil || err.Error() != "plugin says: no such master; eth9" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no word", func(t *testing.T) {
		t.Parallel()
		p := plugin(t, dir, "fails", `echo oops >&2; exit 3`)
		_, err := (&runner{limit: time.Minute}).ExecPlugin(t.Context(), p, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "exit status 3: oops") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("too long, with a child that holds its output", func(t *testing.T) {
		t.Parallel()
		p := plugin(t, dir, "hangs", `sleep 1000 & sleep 1000`)
		_, err := (&runner{limit: 200 * time.Millisecond}).ExecPlugin(t.Context(), p, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "did not end within") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("too much", func(t *testing.T) {
		t.Parallel()
		p := plugin(t, dir, "prints", `while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done`)
		_, err := (&runner{limit: time.Minute}).ExecPlugin(t.Context(), p, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "printed more than") {
			t.Errorf("error %v", err)
		}
	})
}
