// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skerry-dev/skerry/internal/failpoint"
)

// Hit is one hit of a place that was armed.
type Hit struct {
	Name string
	// PID is the process's, in its own PID namespace.
	PID int
}

// Hits are those since the last Clear, by name and then in their order.
func (d Dir) Hits() ([]Hit, error) {
	files, err := names(filepath.Join(string(d), failpoint.HitsDir))
	if err != nil {
		return nil, err
	}
	var out []Hit
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(string(d), failpoint.HitsDir, f))
		if err != nil {
			return nil, err
		}
		pid, _ := strconv.Atoi(string(b)) // it may be killed before it has written it
		out = append(out, Hit{Name: strings.TrimSuffix(f, filepath.Ext(f)), PID: pid})
	}
	return out, nil
}

// Count is how often the place was hit.
func (d Dir) Count(name string) (int, error) {
	all, err := d.Hits()
	n := 0
	for _, h := range all {
		if h.Name == name {
			n++
		}
	}
	return n, err
}
