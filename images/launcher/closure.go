// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// libraryDirs is where the dynamic loader of Debian's amd64 looks without a
// configuration, in this order.
var libraryDirs = []string{"usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"}

// closure finds the shared libraries and the dynamic loaders that the ELF files
// in the root file system need, as the loader would, without running any of them.
// Paths are relative to the root. The result does not hold the files themselves.
func closure(root string, files []string) (map[string]bool, error) {
	found := map[string]bool{}
	todo := append([]string(nil), files...)
	for len(todo) > 0 {
		file := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		needed, dirs, err := imports(filepath.Join(root, file), path.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, lib := range needed {
			p, err := findLibrary(root, lib, dirs)
			if err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", file, lib, err)
			}
			if !found[p] {
				found[p] = true
				todo = append(todo, p)
			}
		}
	}
	return found, nil
}

// imports reads what an ELF file names as needed, and the directories that it
// wants searched first.
func imports(file, origin string) (needed, dirs []string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 {
		return nil, nil, fmt.Errorf("is for %s, want %s", f.Machine, elf.EM_X86_64)
	}
	if needed, err = f.ImportedLibraries(); err != nil {
		return nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range paths {
			for dir := range strings.SplitSeq(p, ":") {
				dir = strings.ReplaceAll(dir, "$ORIGIN", "/"+origin)
				dirs = append(dirs, strings.TrimPrefix(path.Clean(dir), "/"))
			}
		}
	}
	return needed, dirs, nil
}

func findLibrary(root, name string, dirs []string) (string, error) {
	for _, dir := range append(dirs, libraryDirs...) {
		p := path.Join(dir, name)
		_, err := realFile(root, p)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("not found in %s", strings.Join(append(dirs, libraryDirs...), ", "))
}

// realFile resolves symbolic links in the root file system to a regular file.
// Its result is a path on this machine.
func realFile(root, p string) (string, error) {
	base, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(base, p))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(real, base+"/") {
		return "", fmt.Errorf("%s leads out of the root file system, to %s", p, real)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", p)
	}
	return real, nil
}
