// SPDX-License-Identifier: Apache-2.0

package status

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/distro/box"
	"github.com/skerry-dev/skerry/distro/pki"
)

// What the box lacks is said, by the node's word while the cluster runs, and of disk
// and certificates also when it does not.
func TestBoxIsTold(t *testing.T) {
	t.Parallel()
	now := time.Unix(1800000000, 0)
	print := func(pid int, free uint64, left time.Duration, conditions ...corev1.NodeCondition) string {
		s := &Status{
			Skerry: Process{PID: pid}, Node: &corev1.Node{Status: corev1.NodeStatus{Conditions: conditions}},
			Disk:  Disk{Dir: "/d", Space: box.Space{Total: 20 << 30, Free: free}},
			Certs: []pki.Expiry{{Name: "apiserver", NotAfter: now.Add(left)}},
		}
		var b strings.Builder
		s.Print(&b, now)
		return b.String()
	}
	is := func(kind string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: corev1.NodeConditionType(kind), Status: corev1.ConditionTrue, Message: "told by " + kind}
	}
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		out  string
		want []string
		not  []string
	}{
		"good":     {print(1, 10<<30, year), []string{"10.0 GiB free of 20.0 GiB at /d\n", "renewed by themselves"}, []string{"Clock", "Memory ", "less than"}},
		"short":    {print(1, 1<<30, year), []string{"1.0 GiB free of 20.0 GiB at /d: the file system of /d has less than 2 GiB"}, nil},
		"still":    {print(1, 9<<28, year, is(box.DiskShort)), []string{"has less than 2 GiB"}, nil},
		"not told": {print(1, 9<<28, year), nil, []string{"has less than"}},
		"all":      {print(1, 10<<30, year, is(box.MemoryShort), is(box.ClockWrong), is(box.CertificatesDue)), []string{"told by SkerryMemoryShort", "told by SkerryClockWrong", "told by SkerryCertificatesDue"}, nil},
		"stopped":  {print(0, 1<<30, -year, is(box.ClockWrong)), []string{"has less than 2 GiB", "apiserver ended on"}, []string{"told by"}},
	} {
		for _, w := range c.want {
			if !strings.Contains(c.out, w) {
				t.Errorf("%s: %q is not in\n%s", name, w, c.out)
			}
		}
		for _, w := range c.not {
			if strings.Contains(c.out, w) {
				t.Errorf("%s: %q is in\n%s", name, w, c.out)
			}
		}
	}
}
