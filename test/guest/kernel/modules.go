// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Modules is a set of modules in the order in which they can be loaded.
type Modules struct {
	// Paths are relative to the release's module directory.
	Paths []string
	// Depends maps each path to the paths that it depends on, all of them; each
	// comes before what it depends on itself, as modprobe wants it.
	Depends map[string][]string
}

// ModuleSet finds the named modules and what they depend on. A module that is
// built into the kernel, or that the kernel does not have at all, is an error:
// the caller's list should say what is so.
func (k *Kernel) ModuleSet(names ...string) (*Modules, error) {
	files := map[string]string{}
	err := filepath.WalkDir(k.Modules, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); ok {
			rel, err := filepath.Rel(k.Modules, p)
			if err != nil {
				return err
			}
			files[canonical(name)] = rel
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	depends := func(path string) ([]string, error) {
		info, err := modinfo(filepath.Join(k.Modules, path))
		if err != nil {
			return nil, err
		}
		return strings.FieldsFunc(info["depends"], func(r rune) bool { return r == ',' }), nil
	}
	return order(names, files, depends)
}

// order sorts the named modules so that each comes after what it depends on.
func order(names []string, files map[string]string, depends func(path string) ([]string, error)) (*Modules, error) {
	m := &Modules{Depends: map[string][]string{}}
	var visit func(name string, above []string) (string, error)
	visit = func(name string, above []string) (string, error) {
		path, ok := files[canonical(name)]
		if !ok {
			return "", fmt.Errorf("the kernel has no module %s", strings.Join(append(above, name), " -> "))
		}
		if _, done := m.Depends[path]; done {
			return path, nil
		}
		for _, a := range above {
			if canonical(a) == canonical(name) {
				return "", fmt.Errorf("modules depend on each other: %s", strings.Join(append(above, name), " -> "))
			}
		}
		direct, err := depends(path)
		if err != nil {
			return "", err
		}
		needed := map[string]bool{}
		for _, d := range direct {
			p, err := visit(d, append(above, name))
			if err != nil {
				return "", err
			}
			needed[p] = true
			for _, p := range m.Depends[p] {
				needed[p] = true
			}
		}
		all := []string{}
		for _, p := range slices.Backward(m.Paths) {
			if needed[p] {
				all = append(all, p)
			}
		}
		m.Depends[path] = all
		m.Paths = append(m.Paths, path)
		return path, nil
	}
	for _, name := range names {
		if _, err := visit(name, nil); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// canonical spells a module's name as the kernel does.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Dep is the set's modules.dep file, as modprobe reads it.
func (m *Modules) Dep() []byte {
	var b bytes.Buffer
	for _, p := range m.Paths {
		fmt.Fprintf(&b, "%s:", p)
		for _, d := range m.Depends[p] {
			fmt.Fprintf(&b, " %s", d)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// modinfo reads the key=value pairs in a module.
func modinfo(file string) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("%s has no .modinfo section", file)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	info := map[string]string{}
	for kv := range bytes.SplitSeq(data, []byte{0}) {
		if k, v, ok := strings.Cut(string(kv), "="); ok {
			info[k] = v
		}
	}
	return info, nil
}
