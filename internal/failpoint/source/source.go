// SPDX-License-Identifier: Apache-2.0

// Package source finds the failpoints in Skerry's source: the calls of
// failpoint.Hit with a literal name, or of a method "step" that passes the name
// on to it, are the one register of them.
//
// It must never be linked into a program.
package source

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Point is one place.
type Point struct {
	Name string
	// File is relative to the root, Function the function that has the call.
	File, Function string
	Line           int
}

// Area is the first word of the name.
func (p Point) Area() string {
	area, _, _ := strings.Cut(p.Name, ".")
	return area
}

// skipped are directories without Skerry's own programs.
var skipped = []string{"build", ".cache", ".git", "testdata", "node_modules", "runtime"}

// Root is the directory above the working directory that has the root module.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/skerry-dev/skerry\n") {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod of Skerry's root module above the working directory")
		}
		dir = up
	}
}

// Find returns the points in the Go files under root, by name. Tests have none.
func Find(root string) ([]Point, error) {
	var points []Point
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skipped, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found, err := inFile(rel, src)
		points = append(points, found...)
		return err
	})
	sort.SliceStable(points, func(i, j int) bool { return points[i].Name < points[j].Name })
	return points, err
}

// inFile finds the points in a file.
func inFile(name string, src []byte) ([]Point, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var points []Point
	function := ""
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			function = n.Name.Name
		case *ast.CallExpr:
			hit, step := called(n)
			if !step && (!hit || function == "step") {
				return true
			}
			at := set.Position(n.Pos())
			text := ""
			if len(n.Args) == 2 {
				if lit, ok := n.Args[1].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, _ = strconv.Unquote(lit.Value)
				}
			}
			if text == "" && step {
				return true // another kind of step
			}
			if text == "" {
				err = fmt.Errorf("%s:%d: the name of a failpoint must be a literal: it is found by reading the source", name, at.Line)
				return false
			}
			points = append(points, Point{Name: text, File: name, Function: function, Line: at.Line})
		}
		return true
	})
	return points, err
}

// called tells whether the call is one of failpoint.Hit, or of a method that
// takes a context and a step's name.
func called(c *ast.CallExpr) (hit, step bool) {
	f, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false, false
	}
	x, ok := f.X.(*ast.Ident)
	hit = ok && x.Name == "failpoint" && f.Sel.Name == "Hit"
	return hit, f.Sel.Name == "step" && len(c.Args) == 2
}
