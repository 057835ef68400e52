// SPDX-License-Identifier: Apache-2.0

package hotplug

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/skerry-dev/skerry/internal/qmp"
)

// Marks are inert objects in QEMU, named after what is to be remembered: they live
// exactly as long as what they tell about. A QEMU that is replaced under its guest
// starts without them, and with a new count of plugs.
const (
	markPlugs  = "skerry-plugs-"
	markMemory = "skerry-boot-memory-"
)

type marks struct {
	plugs  int
	memory int64
	names  []string
}

func plugMark(n int) string { return markPlugs + strconv.Itoa(n) }

// mark makes a mark. One that is there already is no error.
func mark(ctx context.Context, m Monitor, name string) error {
	err := m.Execute(ctx, "object-add", args{"qom-type": "secret", "id": name, "data": "-"}, nil)
	if qmp.IsClass(err, qmp.ClassGeneric) && strings.Contains(err.Error(), "duplicate") {
		return nil
	}
	return err
}

// readMarks lists QEMU's objects. Names are believed: QEMU is all that can make
// them, and whoever has broken out into it has no use for a wrong count.
func readMarks(ctx context.Context, m Monitor) (marks, error) {
	var list []struct {
		Name string `json:"name"`
	}
	if err := m.Execute(ctx, "qom-list", args{"path": "/objects"}, &list); err != nil {
		return marks{}, fmt.Errorf("list QEMU's objects: %w", err)
	}
	var k marks
	for _, o := range list {
		if len(k.names) < maxPlaces {
			k.names = append(k.names, o.Name)
		}
		if s, ok := strings.CutPrefix(o.Name, markPlugs); ok {
			if n, err := strconv.Atoi(s); err == nil && n <= 1<<20 {
				k.plugs = max(k.plugs, n)
			}
		}
		if s, ok := strings.CutPrefix(o.Name, markMemory); ok {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
				k.memory = n
			}
		}
	}
	return k, nil
}
