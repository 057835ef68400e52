// SPDX-License-Identifier: Apache-2.0

package podcgroup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree writes files and returns their root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	return root
}

func isPod(name string) bool { return name == "podX" || name == "kubepods-podX.slice" }

// v1 has the pod's limit above its container's, v2 the other way round: the least counts.
var (
	v1Proc  = "12:memory:/kubepods/burstable/podX/c1\n5:cpu,cpuacct:/kubepods/burstable/podX/c1\n0::/x\n"
	v1Files = map[string]string{
		"memory/kubepods/burstable/podX/memory.limit_in_bytes":    "1073741824\n",
		"memory/kubepods/burstable/podX/memory.usage_in_bytes":    "5000\n",
		"memory/kubepods/burstable/podX/memory.force_empty":       "",
		"memory/kubepods/burstable/podX/c1/memory.limit_in_bytes": "536870912\n",
		"cpu/kubepods/burstable/podX/cpu.cfs_quota_us":            "150000\n",
		"cpu/kubepods/burstable/podX/cpu.cfs_period_us":           "100000\n",
		"cpu/kubepods/burstable/podX/c1/cpu.cfs_quota_us":         "-1\n",
		"cpu/kubepods/burstable/podX/c1/cpu.cfs_period_us":        "100000\n",
	}
	v2Proc  = "0::/kubepods.slice/kubepods-podX.slice/cri-c1.scope\n"
	v2Files = map[string]string{
		"kubepods.slice/kubepods-podX.slice/memory.max":                 "1073741824\n",
		"kubepods.slice/kubepods-podX.slice/memory.current":             "5000\n",
		"kubepods.slice/kubepods-podX.slice/memory.reclaim":             "",
		"kubepods.slice/kubepods-podX.slice/cri-c1.scope/memory.max":    "max\n",
		"kubepods.slice/kubepods-podX.slice/cpu.max":                    "max 100000\n",
		"kubepods.slice/kubepods-podX.slice/cri-c1.scope/cpu.max":       "33333 100000\n",
		"kubepods.slice/kubepods-podX.slice/cri-c1.scope/init/cpu.max":  "10000 100000\n",
		"kubepods.slice/kubepods-podY.slice/cri-c2.scope/memory.max":    "1\n",
		"kubepods.slice/kubepods-podY.slice/cri-c2.scope/cpu.max":       "1 1\n",
		"kubepods.slice/kubepods-podX.slice/cri-c1.scope/memory.events": "\n",
	}
)

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		proc  string
		files map[string]string
		want  Limits
		usage int64
	}{
		"v1": {v1Proc, v1Files, Limits{512 << 20, 1500}, 5000},
		"v2": {v2Proc, v2Files, Limits{1 << 30, 334}, 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := Open(tree(t, c.files), []byte(c.proc), isPod)
			must(t, err)
			l, err := g.Limits()
			if err != nil || l != c.want {
				t.Errorf("limits %+v, %v; want %+v", l, err, c.want)
			}
			if n, err := g.MemoryUsage(); err != nil || n != c.usage {
				t.Errorf("usage %d, %v; want %d", n, err, c.usage)
			}
		})
	}
}

func TestUnlimited(t *testing.T) {
	t.Parallel()
	files := maps.Clone(v1Files)
	for name := range files {
		switch filepath.Base(name) {
		case "memory.limit_in_bytes":
			files[name] = "9223372036854771712\n"
		case "cpu.cfs_quota_us":
			files[name] = "-1\n"
		}
	}
	g, err := Open(tree(t, files), []byte(v1Proc), isPod)
	must(t, err)
	if l, err := g.Limits(); err != nil || l != (Limits{Unlimited, Unlimited}) {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestReclaim(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		proc, file, want string
		files            map[string]string
	}{
		{v1Proc, "memory/kubepods/burstable/podX/memory.force_empty", "0", v1Files},
		{v2Proc, "kubepods.slice/kubepods-podX.slice/memory.reclaim", "4096", v2Files},
	} {
		root := tree(t, c.files)
		g, err := Open(root, []byte(c.proc), isPod)
		must(t, err)
		must(t, g.Reclaim(4096))
		if b, err := os.ReadFile(filepath.Join(root, c.file)); err != nil || string(b) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.file, b, err, c.want)
		}
		must(t, os.Remove(filepath.Join(root, c.file)))
		if err := g.Reclaim(4096); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("without %s: %v", c.file, err)
		}
	}
}

func TestNoPod(t *testing.T) {
	t.Parallel()
	for name, proc := range map[string]string{
		"another pod":    "0::/kubepods.slice/kubepods-podZ.slice/c\n",
		"outside":        "0::/../podX\n",
		"no hierarchies": "",
	} {
		if g, err := Open(t.TempDir(), []byte(proc), isPod); err == nil {
			t.Errorf("%s: %+v", name, g)
		}
	}
}
