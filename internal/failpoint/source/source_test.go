// SPDX-License-Identifier: Apache-2.0

package source

import (
	"regexp"
	"testing"
)

// A name is area.noun.before-verb or area.noun.after-verb.
var wellFormed = regexp.MustCompile(`^[a-z]+(\.[a-z0-9-]+)*\.(before|after)-[a-z0-9-]+(\.[a-z0-9]+)?$`)

// TestPoints: the names in the source are unique and well-formed.
func TestPoints(t *testing.T) {
	t.Parallel()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	points, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	areas := map[string]int{}
	for i, p := range points {
		areas[p.Area()]++
		if !wellFormed.MatchString(p.Name) {
			t.Errorf("%s:%d: failpoint %q: a name is area.noun.before-verb or area.noun.after-verb", p.File, p.Line, p.Name)
		}
		if i > 0 && points[i-1].Name == p.Name {
			t.Errorf("%s:%d: failpoint %q is also in %s:%d", p.File, p.Line, p.Name, points[i-1].File, points[i-1].Line)
		}
	}
	if len(points) < 25 {
		t.Errorf("%d failpoints, want at least 25", len(points))
	}
	for _, a := range []string{"agent", "controller", "launcher", "cluster"} {
		if areas[a] < 4 {
			t.Errorf("area %s has %d failpoints, want at least 4", a, areas[a])
		}
	}
}

func TestInFile(t *testing.T) {
	t.Parallel()
	got, err := inFile("x.go", []byte("package x\nfunc f() {\n\t_ = failpoint.Hit(ctx, \"agent.x.before-y\")\n\t_ = a.step(ctx, \"agent.x.after-y\")\n}\n"))
	if err != nil || len(got) != 2 || got[1].Name != "agent.x.after-y" || got[0] != (Point{Name: "agent.x.before-y", File: "x.go", Function: "f", Line: 3}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := inFile("x.go", []byte("package x\nfunc f() { _ = failpoint.Hit(ctx, name) }\n")); err == nil {
		t.Error("a name that is no literal was accepted")
	}
}
