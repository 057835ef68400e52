// SPDX-License-Identifier: Apache-2.0

// Package arm is the tests' side of package failpoint: it arms places in
// processes that were built with the tag "failpoints" and run with
// SKERRY_FAILPOINTS naming a directory, and sees what was hit.
//
// It must never be linked into a program.
package arm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Dir is the directory of one or several processes.
type Dir string

// Make makes the directory. Processes of any user may write into it: the
// launcher in a machine's pod is none of the node's users.
func Make(path string) (Dir, error) {
	for _, d := range []string{"", failpoint.ArmedDir, failpoint.HitsDir, failpoint.HangingDir} {
		p := filepath.Join(path, d)
		if err := os.MkdirAll(p, 0o777); err != nil {
			return "", fmt.Errorf("failpoint directory: %w", err)
		}
		if err := os.Chmod(p, 0o777); err != nil { // whatever the umask says
			return "", fmt.Errorf("failpoint directory: %w", err)
		}
	}
	return Dir(path), nil
}

// Environment is the variable with which a process finds the directory.
func (d Dir) Environment() string { return failpoint.Environment + "=" + string(d) }

// Arm has a place do the action (see failpoint.Parse) from now on.
func (d Dir) Arm(name, action string) error {
	if _, err := failpoint.Parse(action); err != nil {
		return err
	}
	// Renamed into place, so that nobody reads half of it.
	tmp := filepath.Join(string(d), "."+name)
	if err := os.WriteFile(tmp, []byte(action), 0o666); err != nil {
		return fmt.Errorf("arm %s: %w", name, err)
	}
	if err := os.Chmod(tmp, 0o666); err != nil {
		return fmt.Errorf("arm %s: %w", name, err)
	}
	if err := os.Rename(tmp, filepath.Join(string(d), failpoint.ArmedDir, name)); err != nil {
		return fmt.Errorf("arm %s: %w", name, err)
	}
	return nil
}

// Disarm takes back what was armed and was not hit, and returns whether there was any.
func (d Dir) Disarm(name string) (bool, error) {
	err := os.Remove(filepath.Join(string(d), failpoint.ArmedDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Armed are the names of the places that are armed.
func (d Dir) Armed() ([]string, error) { return names(filepath.Join(string(d), failpoint.ArmedDir)) }

// Hanging are the names of the places at which a process hangs.
func (d Dir) Hanging() ([]string, error) {
	return names(filepath.Join(string(d), failpoint.HangingDir))
}

// LetGo lets a process go on that hangs at the place.
func (d Dir) LetGo(name string) error {
	return os.Remove(filepath.Join(string(d), failpoint.HangingDir, name))
}

// Clear takes back everything that is armed, lets everything go and forgets the hits.
func (d Dir) Clear() error {
	var errs []error
	for _, part := range []string{failpoint.ArmedDir, failpoint.HangingDir, failpoint.HitsDir} {
		all, err := names(filepath.Join(string(d), part))
		errs = append(errs, err)
		for _, n := range all {
			if err := os.Remove(filepath.Join(string(d), part, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func names(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	var out []string
	for _, e := range all {
		out = append(out, e.Name())
	}
	sort.Strings(out)
	return out, err
}
